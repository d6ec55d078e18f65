"""The command `python -m fcn_jax.data inspect`: its output, its exit code, and errors in its command line."""

import json
import sys

import pytest
import tiny
from absl.testing import flagsaver
from bad_folders import IMAGE, MASK
from command_line import assert_error, call, flags_of, run
from made_folder import image, make, save

from fcn_jax.data import __main__ as command
from fcn_jax.data.folder.description import Description
from fcn_jax.data.folder.load import find
from fcn_jax.data.inspection import reading
from fcn_jax.errors import UserError
from fcn_jax.run import progress


@pytest.fixture(autouse=True)
def defined():
  with flags_of(command):
    yield


@pytest.mark.parametrize(
  ('arguments', 'options', 'words'),
  [
    ([], {}, 'no command given; expected inspect DIR'),
    (['check', '.'], {}, "found 'check'"),
    (['inspect', 'a', 'b'], {}, 'found 2 folders and no --config'),
    (['init'], {}, 'expected init DIR'),
    (['inspect', 'missing'], {}, 'there is no folder missing'),
    (['inspect', '.'], {'html': 'a.txt'}, 'a.txt does not end in .html'),
    (['inspect', '.'], {'html': 'inside/a.html'}, 'inside/a.html is in .*nothing is written'),
  ],
)
def test_errors_in_the_command_line(tmp_path, monkeypatch, arguments, options, words):
  monkeypatch.chdir(tmp_path)
  with flagsaver.flagsaver(**options), pytest.raises(UserError, match=words):
    command.main(arguments)


def test_help_and_errors_come_before_jax_is_imported(without_jax, tmp_path):
  assert_error(run('data', 'inspect', without_jax=without_jax, cwd=tmp_path), 'found 0 folders and no --config')
  assert 'python -m fcn_jax.data init' in run('data', '--help', without_jax=without_jax, cwd=tmp_path).stdout


def test_the_next_command_is_printed_at_the_end(tmp_path, monkeypatch, capsys):
  make(tmp_path)
  monkeypatch.setattr(command, '_upper_bounds', lambda *_: {})
  command.main(['inspect', str(tmp_path)])
  text = capsys.readouterr().out
  train = f'main --config=experiments/fcn8s.py:folder --config.data.folder={tmp_path} --config.data.train_size=48,64'
  assert f'next:\n  python -m fcn_jax.{train}' in text
  command.main(['init', str(tmp_path)])
  assert capsys.readouterr().out.endswith(f'next:\n  python -m fcn_jax.data inspect {tmp_path}\n')


def test_findings_are_printed_with_their_files(tmp_path, monkeypatch, capsys):
  make(tmp_path)
  for number in range(30):
    save(tmp_path / f'train/images/more{number}.png', image(1000 + number))
  (tmp_path / MASK).write_bytes(b'')
  monkeypatch.setattr(command, '_upper_bounds', lambda *_: {32: 0.5, 8: 0.75})
  monkeypatch.setattr(progress.console, 'width', 120)
  assert call(command, 'inspect', tmp_path) == 1
  text = capsys.readouterr().out
  assert f'error: unreadable: files that cannot be read (1): cannot read {tmp_path / MASK}: it is empty' in text
  assert 'left out: 30 images without a mask, such as' in text and text.count('  train/images/more') == 20
  assert 'and 9 more files' in text and 'skips can gain at most 25.0 points' in text
  assert 'suggested: --config.data.train_size=48,64' in text and '1 errors, 1 warnings' in text


def listing(folder):
  return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob('*'))


@pytest.mark.slow
def test_json_is_all_that_is_printed_and_nothing_is_written_into_the_folder(tmp_path):
  make(tmp_path / 'photos')
  save(tmp_path / 'photos' / IMAGE, image(0, (20, 30)))
  before = listing(tmp_path / 'photos')
  words = [sys.executable, '-m', 'fcn_jax.data', 'inspect', 'photos', '--json', '--html=out.html']
  done = tiny.run(words, cwd=tmp_path)
  found = json.loads(done.stdout)
  assert done.returncode == 1 and [x['check'] for x in found['errors']] == ['size']
  assert found['upper_bounds'].keys() == {'32', '16', '8', '4', '2'}
  assert (tmp_path / 'out.html').read_text().startswith('<!doctype html>')
  assert listing(tmp_path / 'photos') == before


@pytest.mark.slow
def test_processes_find_what_one_process_finds(tmp_path, monkeypatch):
  _, found = find(make(tmp_path), Description())
  splits = {'train': found.pairs}
  alone = reading.of_folder(tmp_path, splits, lambda: None)
  monkeypatch.setattr(reading, '_WORTH_A_PROCESS', 4)
  monkeypatch.setattr(reading.machine, 'core_count', lambda: 2)
  calls = []
  together = reading.of_folder(tmp_path, splits, lambda: calls.append(1))
  assert len(calls) == len(together) == 9
  assert [str(vars(record)) for record in together] == [str(vars(record)) for record in alone]
