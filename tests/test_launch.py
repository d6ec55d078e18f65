"""launch.sh makes its environment again if an earlier attempt failed, with a fake interpreter that makes a fake one."""

import os
import shutil
import subprocess

import pytest
import tiny

# As the interpreter of the system, it makes an environment; as the interpreter of that, it installs pip and packages.
PYTHON = """#!/usr/bin/env bash
echo "$(basename "$(dirname "$(dirname "$0")")") $*" >> "$CALLS"
pip=$(dirname "$(dirname "$0")")/lib/python3.11/site-packages/pip
case "$*" in
*'import ensurepip'*) [ -z "${NO_ENSUREPIP:-}" ] ;;
*print*) echo 3.11 ;;
'-m venv '*) # without --without-pip, it fails like Debian's without python3-venv: after the interpreter is made
  folder=${*: -1}
  [[ "$*" == *--clear* ]] && rm -rf "$folder"
  mkdir -p "$folder/bin" "$folder/lib/python3.11/site-packages"
  cp "$0" "$folder/bin/python"
  [[ "$*" == *--without-pip* ]] || [ -z "${NO_ENSUREPIP:-}" ] || exit 1
  ;;
'-m ensurepip'*) mkdir "$pip" && [ -z "${INTERRUPTED:-}" ] && touch "$pip/whole" ;;
'-m pip '*) [ -e "$pip/whole" ] ;;
'-m fcn_jax.main'*) echo trained ;;
esac
"""


@pytest.fixture
def launch(tmp_path):
  """A function that runs launch.sh in a copy of the project; it returns the process and the interpreters' calls."""
  project, python = tmp_path / 'project', tmp_path / 'system' / 'bin' / 'python'
  project.mkdir()
  for name in ('launch.sh', 'pyproject.toml', 'constraints.txt'):
    shutil.copy(tiny.ROOT / name, project)
  python.parent.mkdir(parents=True)
  python.write_text(PYTHON)
  python.chmod(0o755)

  def launch(**env):
    calls = tmp_path / 'calls'
    calls.write_text('')
    env = os.environ | {'PYTHON': str(python), 'CALLS': str(calls)} | env
    done = subprocess.run([project / 'launch.sh', 'run', 'x.py'], env=env, capture_output=True, text=True, timeout=60)
    return done, calls.read_text()

  launch.venv = project / '.venv'
  return launch


def test_an_environment_is_made_once(launch):
  done, calls = launch()
  assert done.returncode == 0 and done.stdout.endswith('trained\n') and 'system -m venv' in calls, done.stderr
  done, calls = launch()
  assert done.returncode == 0 and 'system' not in calls and 'install' not in calls


def test_a_missing_system_package_is_named_and_then_the_same_command_works(launch):
  done, _ = launch(NO_ENSUREPIP='yes')
  assert done.returncode == 1 and done.stderr.startswith('error: ') and 'python3.11-venv' in done.stderr
  assert not launch.venv.exists()
  done, _ = launch()
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('broken', ['interrupted', 'without pip', 'interpreter gone', 'earlier version'])
def test_a_half_made_environment_is_made_again(launch, broken):
  if broken == 'interrupted':  # while pip is unpacked
    assert launch(INTERRUPTED='yes')[0].returncode == 1
  elif broken == 'without pip':  # as an earlier version of launch.sh left it
    (launch.venv / 'bin').mkdir(parents=True)
    (launch.venv / 'bin' / 'python').symlink_to(shutil.which('false'))
  else:
    assert launch()[0].returncode == 0
    (launch.venv / 'bin' / 'python').unlink()
    (launch.venv / 'bin' / 'python').symlink_to('/nowhere/python')
    if broken == 'earlier version':
      (launch.venv / 'made-by-launch.sh').unlink()
  done, calls = launch()
  assert done.returncode == 0 and done.stdout.endswith('trained\n'), done.stderr
  assert '-m ensurepip' in calls and 'pip install' in calls


def test_an_environment_of_someone_else_is_left_alone(launch):
  package = launch.venv / 'lib' / 'python3.11' / 'site-packages' / 'numpy'
  package.mkdir(parents=True)
  done, _ = launch()
  assert done.returncode == 1 and 'launch.sh did not make it' in done.stderr and package.exists()


@pytest.mark.parametrize('kind', ['link', 'link to nothing', 'file'])
def test_a_link_or_file_in_place_of_the_environment_is_named(launch, tmp_path, kind):
  (tmp_path / 'elsewhere').mkdir()
  if kind == 'file':
    launch.venv.write_text('mine')
  else:
    launch.venv.symlink_to(tmp_path / ('elsewhere' if kind == 'link' else 'none'))
  done, _ = launch()
  assert done.returncode == 1 and done.stderr.startswith(f'error: {launch.venv} is a link or a file')
  assert launch.venv.is_symlink() or launch.venv.read_text() == 'mine'
  launch.venv.unlink()
  assert launch()[0].returncode == 0


def test_a_missing_interpreter_is_named(launch):
  done, _ = launch(PYTHON='/nowhere/python')
  assert done.returncode == 1 and done.stderr == (
    'error: there is no /nowhere/python; install Python 3.11 or newer, or set PYTHON=...\n'
  )


def test_a_half_made_environment_of_a_tpu_machine_is_made_again(tmp_path):
  text = (tiny.ROOT / 'infra' / 'tpu.yaml').read_text()  # a template, not yet YAML
  block = text.partition('\nsetup_commands:\n')[2].partition('\nhead_setup_commands:')[0]
  commands = [line.removeprefix('  - ') for line in block.splitlines()]
  assert commands[1] in (tiny.ROOT / 'infra' / 'tpu.sh').read_text()  # for runs without Ray
  uv = tmp_path / '.local' / 'bin' / 'uv'
  uv.parent.mkdir(parents=True)
  uv.write_text('#!/bin/sh\n[ "$1" = --version ] || { mkdir -p ~/env/bin && cp /bin/true ~/env/bin/python; }\n')
  uv.chmod(0o755)
  (tmp_path / 'env').mkdir()
  for command in commands:
    subprocess.run(['bash', '-c', command], env=os.environ | {'HOME': str(tmp_path)}, check=True, capture_output=True)
  assert (tmp_path / 'env' / 'bin' / 'python').exists()
