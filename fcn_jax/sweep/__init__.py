"""Sweeps: many runs from one experiment file, on this machine or on a Ray cluster; importing this does not import jax.

An experiment file describes its sweep with the functions below; `python -m fcn_jax.sweep` runs it.
"""

from fcn_jax.sweep.space import axis, chain, name, product, zipped

__all__ = ['axis', 'chain', 'name', 'product', 'zipped']
