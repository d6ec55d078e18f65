"""The benchmarks for a GPU, in tiny versions on a CPU: they work with the current code when a GPU is available.

PyTorch's is in `test_benchmarks.py`.
"""

import functools
import itertools
import json
import re
import subprocess
import sys

import cheap
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stanford
import tiny

from benchmarks.gpu import forward, full_size, input, kernels, parity, peaks, training, variants
from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.data import dataset
from fcn_jax.data.builders import stanford_background
from fcn_jax.models import grid

FOLDER = tiny.ROOT / 'benchmarks' / 'gpu'


def test_importing_the_scripts_starts_nothing():
  code = 'import sys; from jax._src import xla_bridge\n'
  code += ''.join(f'import benchmarks.gpu.{path.stem}\n' for path in FOLDER.glob('*.py') if path.stem != 'torch_peer')
  code += 'from absl import flags; assert "archive" not in flags.FLAGS and not xla_bridge._backends'
  done = tiny.run([sys.executable, '-c', code], cwd=tiny.ROOT)
  assert done.returncode == 0 and not done.stdout, done.stderr


def test_the_shell_script_and_the_readme_call_what_exists(tmp_path):
  for name in ('run.sh', 'README.md'):
    text = (FOLDER / name).read_text()
    modules, parts = re.findall(r'-m (benchmarks\.gpu\.\w+)', text), re.findall(r'--part=(\w+)', text)
    assert len(modules) > 4 and all((tiny.ROOT / f'{module.replace(".", "/")}.py').exists() for module in modules)
    assert set(parts) <= set(training.PARTS)
  wrong = subprocess.run(['bash', FOLDER / 'run.sh', 'steps', tmp_path / 'none'], capture_output=True, text=True)
  assert wrong.returncode == 2 and wrong.stderr.startswith('usage: ')


def test_every_row_has_its_case_and_variant():
  rows = list(itertools.chain(*training.PARTS.values()))
  assert {case for case, _ in rows} == set(training.CASES)
  assert {variant for _, variant in rows} == {training.OURS, *variants.VARIANTS}


@pytest.mark.parametrize('name', variants.VARIANTS)
def test_a_variant_computes_the_same_scores_and_gradients(name):
  config = config_lib.default('stanford_background')
  norm = 'group' if name == 'group_norm_sums' else 'none'
  config.model.update(width=0.0625, fc_channels=256, group_size=4, norm=norm, dtype='float32', dropout=0.0)
  model = models.build(config.model, {'rgb': 3}, {'semantic': 3})
  params = cheap.random_params(model, model.example_inputs())
  images = np.random.default_rng(1).integers(0, 256, (2, 37, 50, 3), np.uint8)
  size = np.array([[37, 50], [20, 33]], np.int32)
  inside = grid.valid_mask(size, 37, 50)

  def loss(params):
    scores = model.apply({'params': params}, {'rgb': images}, size)['semantic'] * inside
    return jnp.sum(scores**2), scores

  def lowered(variant):
    with variants.applied(variant):
      return cheap.quick_jit(lambda params: jax.value_and_grad(loss, has_aux=True)(params)).lower(params)

  ours, other = lowered('ours'), lowered(name)
  assert other.as_text() != ours.as_text()  # the variant is in effect
  (_, scores), gradients = ours.compile()(params)
  (_, other_scores), other_gradients = other.compile()(params)
  for path, found in jax.tree.leaves_with_path({'scores': other_scores} | other_gradients):
    expected = functools.reduce(lambda tree, key: tree[key.key], path, {'scores': scores} | gradients)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max(), err_msg=str(path))


@pytest.mark.slow
def test_steps_are_measured_and_profiled(tmp_path):
  command = [sys.executable, '-m', 'benchmarks.gpu.training', '--small', '--part=base', f'--out={tmp_path}/gpu']
  done = tiny.run(command, cwd=tiny.ROOT)
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / 'gpu' / 'training.json').read_text())
  assert [(row['case'], row['variant']) for row in found['rows']] == training.PARTS['base']
  for row in found['rows']:
    assert 'error' not in row, row
    assert row['ms'] > 0 and row['fed_ms'] > 0 and row['share_of_peak'] > 0 and row['temporary_gib'] > 0
  assert all(peak > 0 for peak in found['peaks'].values())
  assert (tmp_path / 'gpu' / 'kernels-voc.txt').read_text().startswith('0 us per call in kernels')  # on a CPU
  title, *rows = done.stdout.splitlines()
  assert 'TFLOP/s in bfloat16' in title and [row.split()[0] for row in rows] == ['voc', 'stanford']


def test_a_failed_row_does_not_end_the_others():
  assert training.text({'case': 'voc', 'variant': 'ours', 'error': 'no memory'}).endswith('failed: no memory')


def test_peaks_are_positive():
  found = peaks.measure(small=True)
  assert len(found) == 4 and min(found.values()) > 0 and 'TB/s' in peaks.text(found)


def test_kernels_are_added_up_per_call():
  def event(name, duration, *, thread=7, operation='jit(step)/conv'):
    return {'ph': 'X', 'name': name, 'pid': 1, 'tid': thread, 'dur': duration, 'args': {'tf_op': operation}}

  events = [
    {'ph': 'M', 'name': 'process_name', 'pid': 1, 'args': {'name': '/device:GPU:0'}},
    {'ph': 'M', 'name': 'thread_name', 'pid': 1, 'tid': 7, 'args': {'name': 'Stream #13'}},
    {'ph': 'M', 'name': 'thread_name', 'pid': 1, 'tid': 8, 'args': {'name': 'XLA Modules'}},
    *[event('gemm', 30)] * 2,
    event('copy', 20, operation='jit(step)/transpose'),
    event('module', 99, thread=8),
    {'ph': 'X', 'name': 'python', 'pid': 2, 'tid': 7, 'dur': 99},
    {},
  ]
  found = kernels.tally(events, calls=2)
  assert found.by_kernel == {'gemm': 30, 'copy': 10}
  lines = kernels.text(found).splitlines()
  assert lines[0] == '40 us per call in kernels' and lines[3].split() == ['30', '75.0', 'gemm']
  assert any('jit(step)/transpose' in line and ' 25.0 ' in line for line in lines)


@pytest.mark.slow
def test_the_cpu_agrees_with_itself():
  found = parity.measure(small=True)
  assert list(found) == list(parity.PRECISIONS)
  for differences in found.values():
    assert differences['scores'] < 1e-5 and differences['gradients'] < 1e-3 and differences['labels'] < 1e-2


@pytest.mark.slow
def test_forward_passes_are_timed():
  found = forward.measure('caffe', 'float32', small=True)
  assert found['ms'] > 0 and found['tflops'] > 0


@pytest.mark.parametrize('where', ['device', 'host'])
def test_input_is_timed(where, tmp_path, monkeypatch):
  monkeypatch.setattr(stanford_background, 'IMAGES', small_stanford.COUNT)
  data = config_lib.default('stanford_background').data
  data.update(archive=str(small_stanford.pack(tmp_path / 'iccv09Data.tar.gz')), dir=str(tmp_path), augment_on=where)
  assert input.measure(dataset.load(data).splits['train'], data, batches=2) > 0


def test_the_sweep_at_full_size_is_valid():
  config = full_size.get_config()
  config_lib.validate(config)
  assert config.model.width == 1.0 and config.train.steps == 4000
  assert full_size.sweep() == [{'model.stride': stride} for stride in (8, 16, 32)]
