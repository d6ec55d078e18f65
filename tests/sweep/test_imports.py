"""The packages `sweep`, `report` and `models` load without jax, and their commands can be imported together."""

import subprocess
import sys

import pytest
import tiny

MODULES = [
  '.'.join(path.relative_to(tiny.ROOT).with_suffix('').parts).removesuffix('.__init__')
  for package in ('sweep', 'report')
  for path in sorted((tiny.ROOT / 'fcn_jax' / package).glob('*.py'))
]


def python(code: str) -> None:
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
  'name',
  ['fcn_jax.sweep', 'fcn_jax.sweep.__main__', 'fcn_jax.report', 'fcn_jax.report.__main__', 'fcn_jax.models'],
)
def test_a_package_and_its_command_do_not_import_jax(name):
  python(f'import sys, {name}; assert not {{"jax", "fcn_jax.train"}} & set(sys.modules)')


def test_no_module_of_the_packages_imports_jax():
  python(f'import sys, {", ".join(MODULES)}; assert not {{"jax", "fcn_jax.train"}} & set(sys.modules)')


def test_importing_a_command_defines_no_flag():
  python(
    'import fcn_jax.sweep.__main__, fcn_jax.report.__main__; from absl import flags; assert "rows" not in flags.FLAGS'
  )
