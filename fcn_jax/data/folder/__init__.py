"""A folder of images and masks as a data set: found, described, split, checked and read.

`load`, `describe` and `resolve` are what `fcn_jax.data.names` expects of a data set's module.
"""

from fcn_jax.data.folder.load import describe, load, resolve

__all__ = ['describe', 'load', 'resolve']
