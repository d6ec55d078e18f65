"""docs/geometry.md has the positions, kernels and crops that follow from the grids, and measured receptive fields."""

import re

import jax
import numpy as np
import pytest
import tiny
from cheap import quick_jit, shapes_of

from fcn_jax.models import alexnet, resnet, vgg
from fcn_jax.models.grid import Grid

BACKBONES = [
  vgg.VGG16(),
  vgg.VGG16(geometry='caffe'),
  resnet.ResNet18(),
  alexnet.AlexNet(),
  alexnet.AlexNet(geometry='caffe'),
]


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


def read_table() -> dict[str, list[str]]:
  lines = (tiny.ROOT / 'docs' / 'geometry.md').read_text().splitlines()
  rows = [re.split(r' *\| *', line.strip('| ')) for line in lines if line.startswith('| ')]
  return {name: columns for name, *columns in rows if len(columns) == len(BACKBONES)}


def test_the_table_follows_from_the_grids():
  table = read_table()
  for index, column in enumerate(map(cells, BACKBONES)):
    assert {name: table[name][index] for name in column} == column
  paddings = [module.PADDINGS[geometry] for module in (vgg, alexnet) for geometry in ('aligned', 'caffe')]
  vgg_aligned, vgg_caffe, _, *of_alexnet = table['zeros around the first layer and fc6']
  assert [vgg_aligned, vgg_caffe, *of_alexnet] == [f'{first}, {fc6}' for first, *_, fc6 in paddings]


def receptive_field(backbone) -> int:
  """The number of pixels along an axis that a feature of the coarsest map depends on.

  With positive kernels, zero biases and a single pixel that is not zero, a feature is not zero if it depends on it.
  """
  inputs, tap = (lambda name: None, False), next(iter(backbone.taps))

  def fill(path, x):
    return np.full(x.shape, {'kernel': 1 / np.prod(x.shape[:-1]), 'scale': 1, 'var': 1}.get(path[-1].key, 0), 'f4')

  params = jax.tree_util.tree_map_with_path(fill, shapes_of(backbone, np.zeros((1, 9, 9, 3)), *inputs))
  images = np.zeros((32, 1, 1024, 3), np.float32)
  images[range(32), 0, range(496, 528)] = 1  # as many pixels as the stride: together, they reach a feature everywhere
  found = quick_jit(lambda images: backbone.apply({'params': params}, images, *inputs)[tap])(images)
  return int((np.asarray(found) > 0).any((1, 3)).sum())


@pytest.mark.slow
def test_receptive_fields():
  narrow = {'width': 1 / 16, 'platform': 'cpu'}
  vgg16, alex = (module(fc_channels=64, **narrow) for module in (vgg.VGG16, alexnet.AlexNet))
  of_18, of_50 = (module(norm='frozen_batch', **narrow) for module in (resnet.ResNet18, resnet.ResNet50))
  of_vgg, of_18, of_50, of_alexnet = map(receptive_field, (vgg16, of_18, of_50, alex))
  of_resnets = f'{of_18} (ResNet-18), {of_50} (ResNet-50)'
  columns = [str(of_vgg), str(of_vgg), of_resnets, str(of_alexnet), str(of_alexnet)]
  assert read_table()['receptive field of the coarsest map, pixels'] == columns
