"""Sweeps: experiment files make points with `axis`, `product`, `chain` and `zipped`; `python -m fcn_jax.sweep` runs
them.

Importing the package does not import jax.
"""

from fcn_jax.sweep.space import axis, chain, name, product, zipped

__all__ = ['axis', 'chain', 'name', 'product', 'zipped']
