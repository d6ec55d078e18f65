"""The table of docs/geometry.md has the positions, kernels and crops that follow from the grids."""

import re

import numpy as np
import tiny

from fcn_jax.models import alexnet, vgg
from fcn_jax.models.grid import Grid
from fcn_jax.models.resnet import ResNet18

BACKBONES = [vgg.VGG16(), vgg.VGG16(geometry='caffe'), ResNet18(), alexnet.AlexNet(), alexnet.AlexNet(geometry='caffe')]


def steps(backbone, stride: int) -> list[tuple[int, int]]:
  """The kernel and the crop of each upsampling from the coarsest map to pixels; a crop of the skip is negative."""
  pixels, found = Grid(np.array([375, 500])), []
  grids = backbone.grids(pixels)
  now, *skips = [grids[name] for name, s in backbone.taps.items() if s >= stride]
  for finer in [*skips, pixels]:
    factor, kernel = now.stride // finer.stride, now.kernel_to(finer)
    risen = now.upsampled(kernel, factor)
    found.append((kernel, risen.offset(finer)))
    now = finer if found[-1][1] >= 0 else risen
  return found


def cells(backbone) -> dict[str, str]:
  """The column of a backbone, by row."""
  start = next(backbone.grids(Grid(np.array([375, 500])))[tap].start for tap in backbone.taps)
  column = {
    'position of feature i of the coarsest map': '32 i' + f' {"+" if start > 0 else "-"} {abs(start):g}' * bool(start)
  }
  for stride in (32, 16, 8):
    *between, last = steps(backbone, stride)
    column[f'FCN-{stride}s: last kernel, crop'] = f'{last[0]}, {last[1]}'
    crops = ', '.join(f'{"skip " if crop < 0 else ""}{abs(crop)}' for _, crop in between)
    strides = 'crop at stride 16' if stride == 16 else 'crops at strides 16, 8'
    column |= {f'FCN-{stride}s: {strides}': crops} if between else {}
  return column


def test_the_table_follows_from_the_grids():
  lines = (tiny.ROOT / 'docs' / 'geometry.md').read_text().splitlines()
  rows = [re.split(r' *\| *', line.strip('| ')) for line in lines if line.startswith('| ')]
  table = {name: columns for name, *columns in rows if len(columns) == len(BACKBONES)}
  for index, column in enumerate(map(cells, BACKBONES)):
    assert {name: table[name][index] for name in column} == column
  paddings = [module.PADDINGS[geometry] for module in (vgg, alexnet) for geometry in ('aligned', 'caffe')]
  vgg_aligned, vgg_caffe, _, *of_alexnet = table['zeros around the first layer and fc6']
  assert [vgg_aligned, vgg_caffe, *of_alexnet] == [f'{first}, {fc6}' for first, *_, fc6 in paddings]
