"""Networks: `build` makes one from a config; `fcn.py` over a backbone such as `vgg.py` is the place to start reading.

Importing the package does not import jax.
"""
