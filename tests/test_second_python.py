""".ci/second_python with fake interpreters: which one it takes, the time limit, and what fails."""

import shutil
import subprocess

import pytest
import tiny

SCRIPT = tiny.ROOT / '.ci' / 'second_python'
PYENV = '.pyenv/versions/3.{}/bin/python'
# Makes an environment and, as the interpreter of the environment, runs the commands $PIP and $PYTEST as pip and pytest.
PYTHON = """#!/usr/bin/env bash
case "$*" in
*ensurepip*) [[ "$0" != *shims* ]] ;;
'-m venv --clear '*) echo "$0" && mkdir -p "${*: -1}/bin" && cp "$0" "${*: -1}/bin/python" ;;
'--version') echo 'Python 3.0' ;;
'-m pip install '*) echo 'pip install' && eval "${PIP:-}" ;;
'-m pip freeze') printf '%s\\n' flax==2 jax==1 jaxlib==1 numpy==3 ;;
'-m pytest '*) echo pytest && eval "${PYTEST:-}" ;;
esac
"""


@pytest.fixture
def second_python(tmp_path):
  """A function that runs the script on a machine with these interpreters and nothing else."""
  script = tmp_path / '.ci' / 'second_python'
  tools = tmp_path / 'bin'
  script.parent.mkdir()
  tools.mkdir()
  for tool in ('bash', 'cp', 'dirname', 'env', 'grep', 'mkdir', 'paste', 'sleep', 'timeout'):
    (tools / tool).symlink_to(shutil.which(tool))

  def run(*pythons: str, limit=480, **env: str):
    script.write_text(SCRIPT.read_text().replace('limit=480', f'limit={limit}'))
    for name in pythons:
      path = tmp_path / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(PYTHON)
      path.chmod(0o755)
    env |= {'PATH': f'{tmp_path}/shims:{tools}', 'HOME': str(tmp_path)}
    return subprocess.run([tools / 'bash', script], env=env, capture_output=True, text=True, timeout=60)

  return run


@pytest.mark.parametrize(
  ('pythons', 'chosen'),
  [
    (['bin/python3.13', PYENV.format('13.1'), 'bin/python3.12'], 'python3.13'),
    (['shims/python3.13', PYENV.format('13.1'), 'bin/python3.12'], PYENV.format('13.1')),
    (['bin/python3.12', PYENV.format('11.1')], 'python3.12'),
    (['shims/python3.12', PYENV.format('12.1')], PYENV.format('12.1')),
  ],
)
def test_the_newest_interpreter_that_runs_tests_the_newest_packages(second_python, pythons, chosen):
  done = second_python(*pythons)
  assert done.returncode == 0, done.stderr
  made, *others = done.stdout.splitlines()
  assert made.endswith(chosen)
  assert others == ['pip install', 'second Python: Python 3.0, flax==2 jax==1 numpy==3', 'pytest']


@pytest.mark.parametrize('pythons', [[], ['bin/python3.11', 'shims/python3.13', PYENV.format('11.1')]])
def test_nothing_runs_without_an_interpreter(second_python, pythons):
  done = second_python(*pythons)
  assert (done.returncode, done.stdout, done.stderr) == (0, 'second Python: not run\n', '')


@pytest.mark.parametrize(('fault', 'last'), [({'PIP': 'exit 3'}, 'pip install'), ({'PYTEST': 'exit 3'}, 'pytest')])
def test_a_failure_fails(second_python, fault, last):
  done = second_python('bin/python3.13', **fault)
  assert done.returncode == 3 and done.stdout.endswith(f'{last}\n') and 'limit' not in done.stderr


@pytest.mark.parametrize('name', ['PIP', 'PYTEST'])
def test_the_time_limit_is_named_and_fails(second_python, name):
  done = second_python('bin/python3.13', limit=1, **{name: 'exec sleep 30'})
  assert done.returncode == 124 and 'error: second Python: stopped after 1 s, the time limit, in: ' in done.stderr


def test_the_core_exists():
  core = SCRIPT.read_text().partition('core=(')[2].partition(')\n')[0].replace('\n', ' ')
  done = subprocess.run(['bash', '-c', f'ls -d {core}'], cwd=tiny.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
