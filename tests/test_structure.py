"""Imports point downwards, files and functions are short, and importing the package starts nothing."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest
import tiny

PACKAGE = tiny.ROOT / 'fcn_jax'
MOST_LINES = {'file': 300, 'function': 50, 'method of Session': 25}

# Modules and packages below fcn_jax, lowest layer first. A module imports from its layer and from lower ones. Commands
# are also the `__main__` of each package. The last layer is the package itself: the Python API, which loads lazily.
LAYERS = (
  (
    'confusions',
    'errors',
    'files',
    'image_files',
    'images',
    'loss_names',
    'machine',
    'metrics',
    'optim',
    'outputs',
    'outside',
  ),
  ('data', 'losses'),
  ('models',),
  ('config', 'run'),
  ('counting', 'evaluation', 'cli', 'weights'),
  ('report', 'sweep', 'bounds', 'runs', 'session', 'starting_point'),
  ('train', 'api', 'predict_files', 'predict_jobs', 'predict_outputs', 'evaluate_files'),
  ('main', 'evaluate', 'predict', '__main__'),
  ('',),
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}

# What may not be imported, by who may not import it.
FORBIDDEN = {
  ('report', 'sweep', 'runs'): ('jax', 'jaxlib', 'flax', 'optax', 'orbax', 'fcn_jax.train'),
  ('models', 'losses', 'metrics', 'data'): ('fcn_jax.run',),  # but for the command in `data`
  (*sorted({*LAYERS[0]} - {'optim'}), 'config', 'cli'): ('jax', 'jaxlib', 'flax', 'optax', 'orbax'),
}


def module_name(path: pathlib.Path) -> str:
  """fcn_jax/models/__init__.py is fcn_jax.models."""
  return '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__')


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}


@functools.cache
def tree(module: str) -> ast.Module:
  return ast.parse(SOURCES[module].read_text())


def imported(node: ast.AST, sources=SOURCES) -> set[str]:
  """The modules that an import statement names; none for other nodes."""
  if isinstance(node, ast.Import):
    return {alias.name for alias in node.names}
  if isinstance(node, ast.ImportFrom):
    assert not node.level, f'a relative import in line {node.lineno}; expected an absolute one'
    full = {f'{node.module}.{alias.name}' for alias in node.names}
    return {name if name in sources else node.module for name in full}
  return set()


def all_imports(module: str) -> set[str]:
  """The modules that a module imports anywhere, also inside functions."""
  return set().union(*map(imported, ast.walk(tree(module))))


def first_imports(module: str) -> set[str]:
  """The modules of fcn_jax that are executed while a module is imported for the first time, one step deep.

  They include the packages that an imported module is in, but not those that the importing module is in: these are
  already being imported.
  """
  found, nodes = set(), list(tree(module).body)
  while nodes:
    node = nodes.pop()
    found |= imported(node)
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not is_for_types:
      nodes += ast.iter_child_nodes(node)
  around = {module, *parents(module)}
  return {name for target in found for name in (target, *parents(target)) if name in SOURCES} - around


def parents(module: str) -> list[str]:
  parts = module.split('.')
  return ['.'.join(parts[:count]) for count in range(1, len(parts))]


def layer_name(module: str) -> str:
  """The name in `LAYERS` that a module of fcn_jax belongs to."""
  parts = module.split('.')[1:]
  return '__main__' if parts[-1:] == ['__main__'] else (parts or [''])[0]


def is_below(module: str, package: str) -> bool:
  return module == package or module.startswith(f'{package}.')


def circle(graph: dict[str, set[str]]) -> list[str]:
  """Modules that import each other in a circle; empty if there are none."""
  done, path = set(), []

  def visit(module: str) -> list[str]:
    if module in path:
      return [*path[path.index(module) :], module]
    if module not in done:
      path.append(module)
      for target in sorted(graph[module]):
        if found := visit(target):
          return found
      done.add(path.pop())
    return []

  return next(filter(None, map(visit, graph)), [])


def test_names_of_test_files_are_unique():
  """pytest imports them by name alone, since their folders are no packages."""
  names = [path.name for path in pathlib.Path(__file__).parent.rglob('test_*.py')]
  assert sorted(names) == sorted(set(names))


def test_each_module_has_a_layer():
  assert {layer_name(module) for module in SOURCES} == set(HEIGHT)


def test_no_module_imports_from_a_higher_layer():
  assert 'fcn_jax.train' in all_imports('fcn_jax.main')  # inside a function
  upwards = [
    f'{module} imports {target}'
    for module in SOURCES
    for target in all_imports(module)
    if target in SOURCES and HEIGHT[layer_name(module)] < HEIGHT[layer_name(target)] < HEIGHT['']
  ]
  assert not upwards


def test_no_module_imports_what_is_forbidden_to_it():
  wrong = [
    f'{module} imports {target}'
    for importers, targets in FORBIDDEN.items()
    for module in SOURCES
    if set(module.split('.')[1:2]) & set(importers)
    for target in all_imports(module)
    if any(is_below(target, name) for name in targets)
    and (module, targets) != ('fcn_jax.data.__main__', ('fcn_jax.run',))
  ]
  assert not wrong


def test_no_modules_import_each_other_in_a_circle():
  graph = {module: first_imports(module) for module in SOURCES}
  assert graph['fcn_jax.session'] >= {'fcn_jax.run', 'fcn_jax.run.checkpoint', 'fcn_jax.data'}
  assert not circle(graph)
  assert circle(graph | {'fcn_jax.errors': {'fcn_jax.session'}})[0] in graph  # the search finds one if there is one


def lengths(module: ast.Module):
  """The kind, name and number of lines of each function."""
  for node in ast.walk(module):
    inside = node.body if isinstance(node, ast.ClassDef) and node.name == 'Session' else []
    functions = [(x, 'method of Session') for x in inside]
    functions += [(node, 'function')]
    for function, kind in functions:
      if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        yield kind, function.name, function.end_lineno - function.lineno + 1


def test_files_and_functions_are_short():
  files = [*SOURCES.values(), *(tiny.ROOT / 'tests').rglob('*.py')]
  long = {str(path.relative_to(tiny.ROOT)): len(path.read_text().splitlines()) for path in files}
  assert not {path: count for path, count in long.items() if count > MOST_LINES['file']}
  found = [(module, *of_function) for module in SOURCES for of_function in lengths(tree(module))]
  assert {kind for _, kind, _, _ in found} == {'function', 'method of Session'}
  assert not [entry for entry in found if entry[-1] > MOST_LINES[entry[1]]]


def python(code: str) -> str:
  """Runs code in a fresh interpreter and returns its output."""
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


WITHOUT_JAX = """
import importlib, sys
for name in {names!r}:
  importlib.import_module(name)
  for heavy in ('jax', 'fcn_jax.train', 'tensorflow_datasets', 'grain'):
    assert heavy not in sys.modules, f'{{name}} imports {{heavy}}'
"""
COMMANDS = [f'fcn_jax.{name}' for name in ('main', 'evaluate', 'predict', 'bounds', 'runs')]
COMMANDS += [f'fcn_jax.{package}.__main__' for package in ('sweep', 'report', 'weights', 'data')]


def test_jax_is_not_imported_by_what_reads_runs_and_configs():
  """Nor by the command modules: `--help` and errors of the command line come before jax is imported."""
  names = ['fcn_jax.report', 'fcn_jax.sweep', 'fcn_jax.config', 'fcn_jax.models', 'fcn_jax.data', 'fcn_jax.cli']
  packages = [name for name in SOURCES if name.startswith(('fcn_jax.report.', 'fcn_jax.sweep.'))]
  python(WITHOUT_JAX.format(names=names + packages + COMMANDS))


def test_importing_fcn_jax_is_quick_and_loads_little():
  code = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import fcn_jax
print(time.perf_counter() - start)
heavy = {'jax', 'numpy', 'ml_collections', 'absl'} & (set(sys.modules) - before)
assert not heavy, heavy
"""
  assert min(float(python(code)) for _ in range(3)) < 0.2  # seconds


def test_importing_all_commands_changes_nothing_in_the_process():
  """No flag is defined, no environment variable set, and the program is not started again."""
  python(f"""
import importlib, os
environment = dict(os.environ)
def refuse(*arguments):
  raise AssertionError(f'importing a command calls {{arguments}}')
for name in ('execv', 'execve', 'execvp', 'system', 'fork'):
  setattr(os, name, refuse)
for name in {COMMANDS!r}:
  importlib.import_module(name)
assert dict(os.environ) == environment
from absl import flags
assert not [name for name in flags.FLAGS.flags_by_module_dict() if name.startswith(('fcn_jax', '__main__'))]
""")


@pytest.mark.parametrize('name', ['Predictor', 'build_model', 'load_run'])
def test_the_api_is_loaded_when_it_is_used(name):
  python(f'import sys, fcn_jax; assert "jax" not in sys.modules; fcn_jax.{name}; assert "jax" in sys.modules')
