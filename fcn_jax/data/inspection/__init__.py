"""What `python -m fcn_jax.data inspect` finds in a data set: numbers per image, and findings about them.

Reading the files, checking what was read, and showing it are apart: `records.py` and `reading.py`, `checks.py` and
`duplicates.py`, `summary.py` and `html.py`.
"""
