"""Data sets, from files to batches: `dataset.py` says what a data set is, `pipeline.py` makes batches of it.

The built-in data sets are the TFDS builders in `builders/`; any importable module with `load(data) -> Data` is one too.
"""
