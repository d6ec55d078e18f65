"""Fully Convolutional Networks (Long, Shelhamer and Darrell, CVPR 2015 and PAMI 2016) in JAX and Flax.

Read `config.py` (what can be set), `train.py` (the loop), `models/fcn.py` over `models/vgg.py`,
`models/convolution.py`, `models/upsample.py` and `models/geometry.py` (the network), `datasets/pipeline.py` (the
batches), `losses.py`, `metrics.py`, `scoring.py` (what is minimised and what is reported), then `runlog.py`,
`claim.py`, `checkpoint.py`, `parallel.py`. `main.py` and `cli.py` are the door. What a run starts from: `initial.py`,
and `pretrained.py` over `weight_files.py` and `caffemodel.py`. Ablations: `grid.py` and `points.py` (what a sweep
runs), `sweep.py` over `engines.py` (how), `results.py`, `bootstrap.py`, `tables.py` and `report.py` with `figures.py`
and `page.py` (what came out).
"""
