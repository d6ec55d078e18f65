"""Reports: tables, plots and one web page from the run directories of a sweep, with means over seeds and intervals.
`python -m fcn_jax.report FOLDER` writes them; nothing here imports jax."""
