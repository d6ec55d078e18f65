"""The benchmarks that say what they measured; those beside them need minutes."""

import json
import sys

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
