"""The benchmarks, each in its shortest form: what they print and write. `test_gpu_benchmarks.py` has the GPU's."""

import functools
import importlib.util
import json
import re
import sys
import time

import command_line
import numpy as np
import pytest
import small_stanford
import tiny
from absl.testing import flagsaver
from PIL import Image

from benchmarks import around, growth, turns
from fcn_jax.data.builders import stanford_background


@pytest.mark.slow
def test_a_small_network_is_timed(tmp_path):
  command = [sys.executable, f'{tiny.ROOT}/benchmarks/forward.py', '--width=0.015625', '--size=48', '--stride=32']
  command += ['--stride=8', '--geometry=aligned', f'--out={tmp_path}/forward.json']
  done = tiny.run(command)
  assert done.returncode == 0, done.stderr
  title, head, _, *rows = done.stdout.splitlines()
  assert title.startswith('48x48, width 0.015625, aligned, float32, 1 x ') and 'median, ms' in head
  assert [row.split(' | ')[0] for row in rows] == ['| FCN-32s', '| FCN-8s']
  found = json.loads((tmp_path / 'forward.json').read_text())
  assert found['size'] == 48 and found['width'] == 1 / 64
  for row, (name, network) in zip(rows, found['networks'].items(), strict=True):
    assert len(network['seconds']) == 7 and min(network['seconds']) > 0
    median = 1000 * sorted(network['seconds'])[3]
    assert row.split(' | ')[0] == f'| {name}' and row.split(' | ')[2] == f'{median:.1f}'


def test_too_few_passes_are_refused():
  done = tiny.run([sys.executable, f'{tiny.ROOT}/benchmarks/forward.py', '--repeats=3'])
  assert done.returncode == 1 and 'repeats' in done.stderr and '7' in done.stderr


def test_turns_alternate_and_the_first_round_does_not_count():
  calls = []

  def side(name):
    calls.append(name)
    return len(calls)

  times = turns.interleaved({name: functools.partial(side, name) for name in 'ab'}, rounds=2)
  assert calls == list('ababab') and times == {'a': [3, 5], 'b': [4, 6]}


def test_a_turn_is_the_second_of_two_calls():
  lengths = iter((0.2, 0.0))
  assert turns.timed(lambda: time.sleep(next(lengths)))() < 0.1


def test_other_numbers_of_the_peer_are_an_error():
  ours = {'loss': np.float32(2), 'conv/kernel': np.array([0.0, 4.0])}
  turns.check(ours, {'loss': np.float32(2.001), 'conv/kernel': np.array([0.001, 4.0])}, 1e-3)
  for wrong in (
    {'loss': np.float32(2.01)},
    {'conv/kernel': np.array([0.0, -4.0])},
    {'conv/kernel': np.full(2, np.nan)},
  ):
    with pytest.raises(AssertionError, match=f'{next(iter(wrong))}: .* differs'):
      turns.check(ours, ours | wrong, 1e-3)
  momentum = {'momentum/conv/bias': np.ones(3)}
  turns.check(momentum, {'momentum/conv/bias': np.array([1, 1, 1.02])}, 1e-3)  # rounding decided a maximum
  with pytest.raises(AssertionError, match='momentum/conv/bias'):
    turns.check(momentum, {'momentum/conv/bias': -np.ones(3)}, 1e-3)
  with pytest.raises(AssertionError, match='loss'):
    turns.check(ours, {'loss': np.float32(2)}, 1e-3)


# `python -m benchmarks.run` with a smaller network and batch in one row.
NARROWER = """
import dataclasses
from benchmarks import run, steps
from fcn_jax import cli
steps.SUITES['cpu']['train, narrow'] = (steps.training, dataclasses.replace(steps.NARROW, width=1 / 16, batch=4))
cli.run(run.main, run.define_flags)
"""


@pytest.mark.slow
@pytest.mark.parametrize('peer', ['none', 'torch'], ids=['alone', 'beside_pytorch'])
def test_the_narrow_step_is_timed(tmp_path, peer):
  """The benchmark itself checks that PyTorch's loss and momentum are the same."""
  if peer == 'torch':
    pytest.importorskip('torch', reason="PyTorch is not installed: pip install 'fcn_jax[bench]'")
  command = [sys.executable, '-c', NARROWER, '--only=train, narrow', '--way=memory kept', f'--peer={peer}']
  done = tiny.run([*command, f'--json={tmp_path}/speed.json', '--debug'], cwd=tiny.ROOT, env={'JAX_LOG_COMPILES': '1'})
  assert done.returncode == 0, done.stderr
  compiled = re.findall(r'Finished XLA compilation of (\S+) in (\S+) sec', done.stderr)
  longest, _ = max(compiled, key=lambda found: float(found[1]))
  assert [name for name, _ in compiled].count(longest) == 1  # the step, to measure it and to call it
  found = json.loads((tmp_path / 'speed.json').read_text())
  (row,) = found['rows']
  assert row['workload'] == 'train, narrow' and row['ours_ms'] > 0
  assert 0 < row['share_of_peak'] < 1.5 and found['matrix_peak_gflops'] > 0
  if peer == 'torch':
    assert row['peer'] == 'memory kept' and row['ratio'] == row['peer_ms'] / row['ours_ms']
    assert [len(times) for times in row['all_ms']['memory kept'].values()] == [7, 7]
  assert done.stdout.splitlines()[-1].startswith('| train, narrow | ')


@pytest.mark.slow
@pytest.mark.parametrize(('network', 'width'), [('resnet50', 1.0), ('unet', 1 / 16)])
def test_the_networks_in_pytorch_take_the_same_step(network, width):
  if not importlib.util.find_spec('torchvision'):
    pytest.skip("torchvision is not installed: pip install 'fcn_jax[bench]'")
  from benchmarks import peer, steps

  side = steps.Workload(width, 8, (33, 50), classes=5, network=network).side()
  task, arrays = steps.task('train', side.model, side.config), side.arrays()
  _, theirs = peer.train(task | {'compiled': False}, arrays)
  turns.check(steps.first_step(side), theirs, 1e-4)


@pytest.mark.slow
def test_the_rows_of_stanford_background_beside_pytorch(tmp_path, monkeypatch):
  """The benchmark itself checks that PyTorch's confusion matrix is the same."""
  pytest.importorskip('torch', reason="PyTorch is not installed: pip install 'fcn_jax[bench]'")
  monkeypatch.setattr(stanford_background, 'IMAGES', small_stanford.COUNT)
  archive = small_stanford.pack(tmp_path / 'iccv09Data.tar.gz')
  small_stanford.build(tmp_path, archive)
  command = [sys.executable, '-m', 'benchmarks.run', '--only=evaluation', '--only=on one core', '--way=plain']
  command += [f'--archive={archive}', f'--json={tmp_path}/speed.json']
  done = tiny.run(command, cwd=tiny.ROOT, env={'TFDS_DATA_DIR': str(tmp_path)})
  assert done.returncode == 0, done.stderr
  rows = json.loads((tmp_path / 'speed.json').read_text())['rows']
  names = ['evaluation of a split', 'evaluation without a network', 'input, 320 images on one core']
  assert [row['workload'] for row in rows] == names
  compared, alone = (rows[0], rows[2]), rows[1]
  assert all(row['peer'] == 'plain' and row['ratio'] > 0 for row in compared) and rows[2]['images_per_second'] > 0
  assert alone['peer'] is None and alone['ms_per_image'] == alone['ours_ms'] / alone['images']


def test_input_from_decoded_images_is_timed(tmp_path, monkeypatch):
  monkeypatch.setattr(stanford_background, 'IMAGES', small_stanford.COUNT)
  monkeypatch.setattr(around, 'READ', 1)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  archive = small_stanford.pack(tmp_path / 'iccv09Data.tar.gz')
  row = around.rows(str(archive), [], rounds=1)['input, decoded, one thread']()
  assert row['peer'] == 'on the host' and row['ratio'] > 0
  assert row['images_per_second'] == pytest.approx(16 / row['ours_ms'] * 1000)


def test_the_pytorch_steps_for_a_gpu():
  """Unfolding fc6 changes how PyTorch computes it, not what."""
  torch = pytest.importorskip('torch', reason="PyTorch is not installed: pip install 'fcn_jax[bench]'")
  from benchmarks.gpu import torch_peer

  x = torch.randn(2, 3, 64, 48)
  with torch.inference_mode():
    scores = [torch_peer.make_net(unfolded=unfolded, small=True)(x) for unfolded in (False, True)]
  torch.testing.assert_close(*scores)
  found = torch_peer.measure('fc6 unfolded', small=True)
  assert found['step_ms'] > 0 and found['forward_ms'] > 0


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path, monkeypatch):
  assert list(growth.AXES['devices']) == [1, 2, 4, 8]
  small = growth.BASE | {'width': 1 / 16}
  monkeypatch.setitem(growth.AXES, 'devices', {n: small | {'devices': n} for n in (1, 8)})
  monkeypatch.setenv('XLA_FLAGS', tiny.QUICK['XLA_FLAGS'])  # each point is compiled without the cache
  with command_line.flags_of(growth), flagsaver.flagsaver(axis=['devices'], out=f'{tmp_path}/growth'):
    growth.main([])
  found = json.loads((tmp_path / 'growth.json').read_text())
  assert list(found['devices']) == ['1', '8']
  assert all(point['ms'] > 0 and point['peak_gib'] > 0 for point in found['devices'].values())
  # Each of eight devices has an eighth of the batch.
  assert found['devices']['8']['temporary_gib'] < found['devices']['1']['temporary_gib']
  with Image.open(tmp_path / 'growth.png') as image:
    assert image.size[0] > 100
