"""The benchmarks for a GPU, in tiny versions on a CPU: they work with the current code when a GPU is available.

PyTorch's is in `test_benchmarks.py`.
"""

import collections
import functools
import importlib.util
import itertools
import json
import re
import sys
import time

import cheap
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stanford
import tiny
from etils import epath

from benchmarks.gpu import full_size, input, kernels, parity, stages, timings, training, variants
from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.data import dataset
from fcn_jax.data.builders import stanford_background
from fcn_jax.models import grid

FOLDER = tiny.ROOT / 'benchmarks' / 'gpu'
SCRIPT = FOLDER.with_suffix('.sh')


def test_importing_the_scripts_starts_nothing():
  code = 'import sys; from jax._src import xla_bridge\n'
  code += ''.join(f'import benchmarks.gpu.{path.stem}\n' for path in FOLDER.glob('*.py') if path.stem != 'torch_peer')
  code += 'from absl import flags; assert "archive" not in flags.FLAGS and not xla_bridge._backends'
  done = tiny.run([sys.executable, '-c', code], cwd=tiny.ROOT)
  assert done.returncode == 0 and not done.stdout, done.stderr


@pytest.fixture
def archive(tmp_path, monkeypatch):
  """A small archive of Stanford Background, prepared in the folder that TFDS_DATA_DIR names."""
  monkeypatch.setattr(stanford_background, 'IMAGES', small_stanford.COUNT)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  path = small_stanford.pack(tmp_path / 'iccv09Data.tar.gz')
  small_stanford.build(tmp_path, path)
  return path


def run_stage(stage: int, archive, out, *arguments):
  """Runs `benchmarks/gpu.sh` in a folder without the code; XLA compiles fast instead of well."""
  env = {'PYTHON': sys.executable, 'XLA_FLAGS': '--xla_backend_optimization_level=0', 'PYTHONPATH': ''}
  env |= {'FCN_JAX_TUNE_CPU': '0'}  # tuning starts each command again
  command = ['bash', SCRIPT, str(stage), archive, out, '--small', '--seconds=1000', *arguments]
  return tiny.run(command, cwd=archive.parent, env=env)


def rows_of(out) -> dict[str, list[dict]]:
  """The rows in `results.jsonl` by part."""
  found = collections.defaultdict(list)
  for line in (out / 'results.jsonl').read_text().splitlines():
    row = json.loads(line)
    found[row.pop('part')].append(row)
  return found


@pytest.mark.slow
def test_both_stages_on_a_cpu(archive, tmp_path):
  out, has_torch = tmp_path / 'out', importlib.util.find_spec('torch') is not None
  for only in ('steps,run', 'input,torch,parity,forward'):  # `run_again` is the command of `run`
    done = run_stage(1, archive, out, f'--only={only}')
    assert done.returncode == 0, done.stdout + (out / 'log.txt').read_text()
  found = rows_of(out)
  peaks_found, *steps = found['steps']
  assert len(peaks_found) == 4 and min(peaks_found.values()) > 0
  assert [(row['step'], row['variant']) for row in steps] == training.PARTS['base']
  for row in steps:
    assert row['ms'] > 0 and row['fed_ms'] > 0 and row['share_of_peak'] > 0 and row['temporary_gib'] > 0, row
  run, bare = found['run']
  assert run['evaluation_seconds'] > 0 and run['first_step_seconds'] > 0
  assert bare['ratio'] == run['images_per_second'] / bare['images_per_second'] > 0
  assert [row['augment_on'] for row in found['input']] == ['device'] * 3 + ['host'] * 3
  assert all(row['images_per_second'] > 0 for row in found['input'])
  assert [(row['dtype'], row['precision']) for row in found['parity']] == list(parity.SETTINGS)
  assert all(row['scores'] < 1e-5 and row['gradients'] < 1e-3 for row in found['parity'][:2])
  assert all(row['ms'] > 0 and row['tflops'] > 0 for row in found['forward']) and len(found['forward']) == 2
  names = ['plain', 'fc6 unfolded'] if has_torch else []
  assert [row['PyTorch'] for row in found['torch']] == names
  assert has_torch or {'note': 'torch: not run, because torch is not installed'} in found['stage 1']

  done = run_stage(2, archive, out)
  assert done.returncode == 0, done.stdout + (out / 'log.txt').read_text()
  found = rows_of(out)
  assert [(row['run'], row['state'], row['step']) for row in found['runs']] == [('stride=8,fold=0', 'done', 6)]
  assert (out / 'report' / 'index.html').exists()
  summary = (out / 'summary.md').read_text()
  titles = ['versions', 'steps', 'run', 'input', *['torch'] * has_torch, 'parity', 'forward', 'stage 1', 'runs']
  assert re.findall('^## (.*)', summary, re.M) == [*titles, 'stage 2']
  assert found['versions'][0]['commit'] and '| date | commit |' in summary


def test_without_time_nothing_is_run(archive, tmp_path):
  done = run_stage(1, archive, tmp_path / 'out', '--seconds=1', '--only=steps,input')
  assert done.returncode == 1 and done.stdout.splitlines()[-1].endswith(
    'of 1 s; not run: steps, input; run them with --only=steps,input'
  ), done
  wrong = run_stage(1, archive.with_name('none'), tmp_path / 'out')
  assert wrong.returncode == 2 and wrong.stderr.startswith('usage: gpu.sh '), wrong


HANGS = """
import signal, time
print('{"ms": 2.0}', flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


def test_a_stage_ends_in_time_whatever_its_commands_do(archive, tmp_path, monkeypatch, capfd):
  parts = {
    'fails': stages.Part(('-c', 'raise SystemExit("no memory")'), 60, grace=1),
    'hangs': stages.Part(('-c', HANGS), 60, grace=1),
    'input': stages.Part(('-c', ''), 60),
  }
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'results.jsonl').write_text('{"part": "input", "images_per_second": 5.0}\n{"part": "hangs", "ms": 1.0}\n')
  monkeypatch.setattr(stages, 'stages', lambda given: {1: parts, 2: {}})
  monkeypatch.setattr(stages, '_LEAST', 1)
  monkeypatch.setattr(stages.signal, 'signal', lambda *_: None)
  monkeypatch.setattr(sys, 'argv', ['gpu.sh', '1', str(archive), str(out), '--seconds=4'])
  begun = time.monotonic()
  assert stages.main() == 1 and time.monotonic() - begun < 5
  found = rows_of(out)
  assert found['hangs'] == [{'ms': 2.0}]  # instead of the earlier row
  assert found['input'] == [{'images_per_second': 5.0}]  # not measured again
  failed, stopped, last = (row['note'] for row in found['stage 1'])
  assert failed == 'fails: failed with exit code 1: see log.txt' and 'no memory' in (out / 'log.txt').read_text()
  assert stopped.startswith('hangs: stopped after ') and last.endswith('not run: input; run them with --only=input')
  assert last in capfd.readouterr().out and 'hangs: stopped' in (out / 'summary.md').read_text()


def test_the_arguments_of_the_stages(archive, tmp_path):
  parts = stages.stages(stages.parse(['1', str(archive)]))
  for part in itertools.chain(*(of_stage.values() for of_stage in parts.values())):
    module, *flags = part.arguments[1:]
    assert (tiny.ROOT / f'{module.replace(".", "/")}.py').exists() or module in ('fcn_jax.sweep', 'fcn_jax.report')
    assert {flag.removeprefix('--part=') for flag in flags if flag.startswith('--part=')} <= set(training.PARTS)
  # The limits of the parts that run by default leave time for the next ones.
  assert all(max(x.limit for x in parts[stage].values()) < stages.SECONDS[stage] for stage in parts)
  readme = (FOLDER / 'README.md').read_text()
  assert re.findall(r'^\| `(\w+)` \|', readme, re.M) == [*parts[1], *parts[2]]
  for wrong in (['1', str(tmp_path / 'none')], ['1', str(archive), '--only=stepz'], ['3', str(archive)]):
    with pytest.raises(SystemExit) as error:
      stages.parse(wrong)
    assert error.value.code == 2


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
  first, *_, last = kernels.as_rows(found)
  assert first == {'us': 30, 'percent': 75, 'kernel': 'gemm'}
  assert last['percent'] == 25 and last['operation'].startswith('jit(step)/transpose')


def test_the_speed_of_a_run_is_read_from_its_files(tmp_path):
  assert timings.of_run(epath.Path(tmp_path)) == {}
  timing = [{'first_step_seconds': 9.0}, {'images_per_second': 50.0, 'peak_memory_gib': 1.0}]
  timing += [{'eval_seconds': x} for x in (7.0, 1.0, 3.0, 5.0)] + [{'images_per_second': 200.0, 'peak_memory_gib': 2.0}]
  (tmp_path / 'timing.jsonl').write_text(''.join(json.dumps({'step': 1} | row) + '\n' for row in timing))
  found = timings.of_run(epath.Path(tmp_path))
  assert found == {'images_per_second': 80.0, 'peak_memory_gib': 2.0, 'first_step_seconds': 9.0} | {
    'first_evaluation_seconds': 7.0,
    'evaluation_seconds': 2.0,
    'last_evaluation_seconds': 5.0,
  }


@pytest.mark.parametrize('where', ['device', 'host'])
def test_input_is_timed(where, archive):
  data = config_lib.default('stanford_background').data
  data.update(archive=str(archive), augment_on=where)
  assert input.measure(dataset.load(data).splits['train'], data, batches=2) > 0


def test_the_sweep_at_full_size_is_valid():
  for size in ('full', 'small'):
    config_lib.validate(full_size.get_config(size))
  assert full_size.get_config().model.width == 1.0
  of_8 = [point['data.fold'] for point in full_size.sweep() if point['model.stride'] == 8]
  assert of_8 == [0, 1, 2, 3, 4] and len(full_size.sweep()) == 15
