"""Data sets, from files to batches: `dataset.py` defines what a data set is, `pipeline.py` makes the batches.

The built-in data sets are the TFDS builders in `builders/`. Any other importable module with `load(data) -> Data` is a
data set too.
"""

from fcn_jax.data.dataset import IGNORE, Classes, Data, Split, describe, load

__all__ = ['IGNORE', 'Classes', 'Data', 'Split', 'describe', 'load']
