"""FCN-32s, 16s or 8s on the Stanford Background Dataset on a CPU: a quarter of the width, half the resolution.

  python -m fcn_jax.main --config=experiments/stanford_small.py:8
  python -m fcn_jax.sweep --config=experiments/stanford_small.py --workdir=runs/stanford

The argument is the stride, 32, 16 or 8. Because the backbone sees half the resolution, these strides are 64, 32 and
16 pixels. The sweep runs all three with two seeds. At stride 8 on fold 0, expect about 78.8 % pixel accuracy and
59.3 % mean IoU (`results/stanford_background.md`).
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(stride='8'):
  config = default('stanford_background')
  config.model.stride = int(stride)
  config.model.shrink = 2
  config.model.width = 0.25
  config.model.fc_channels = 2048
  config.model.dtype = 'float32'
  config.data.brightness = config.data.contrast = config.data.color = 0.0
  config.optim.lr = 1e-3
  config.optim.warmup = 100
  config.train.steps = 1400
  config.eval.every = 700
  config.checkpoint.every = 175
  return config


def sweep():
  return product(axis('model.stride', [32, 16, 8]), axis('seed', [0, 1]))
