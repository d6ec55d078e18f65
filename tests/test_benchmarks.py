"""The benchmarks that say what they measured; those beside them need minutes."""

import json
import sys

import pytest
import tiny


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


@pytest.mark.slow
@pytest.mark.parametrize('peer', ['none', 'torch'], ids=['alone', 'beside_pytorch'])
def test_the_narrow_step_is_timed(tmp_path, peer):
  """Beside PyTorch, that the numbers are the same is checked by the benchmark."""
  if peer == 'torch':
    pytest.importorskip('torch', reason="PyTorch is not here: pip install 'fcn_jax[bench]'")
  command = [sys.executable, '-m', 'benchmarks.run', '--only=narrow', '--nocompiled_peer', f'--peer={peer}']
  done = tiny.run([*command, f'--json={tmp_path}/speed.json'], cwd=tiny.ROOT)
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / 'speed.json').read_text())
  (row,) = found['rows']
  assert row['workload'] == 'train, narrow' and len(row['all_ms']['ours']) == 7
  assert 0 < row['share_of_peak'] < 1.5 and found['matrix_peak_gflops'] > 0
  if peer == 'torch':
    assert row['peer'] == 'eager' and row['ratio'] == pytest.approx(row['peer_ms'] / row['ours_ms'])
  assert done.stdout.splitlines()[-1].startswith('| train, narrow | ')
