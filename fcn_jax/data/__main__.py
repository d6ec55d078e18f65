"""Inspects a data set before anything is trained on it, or drafts the description of a folder.

  python -m fcn_jax.data inspect photos/                                       # a folder of images and masks
  python -m fcn_jax.data inspect --config=experiments/fcn8s.py:voc2012         # the data set of a config
  python -m fcn_jax.data init photos/                                          # writes photos/dataset.toml

`inspect` reads all images and masks with all cores. It prints their sizes and the share of each class, what is wrong
(errors stop training, warnings do not), the highest mean IoU that a network of each stride can reach on these labels
(on at most 200 of the masks that are scored, and 1024x1024 pixels of each), and settings that follow from the data.
--html=FILE also writes a page with thumbnails, --json prints one JSON object instead. Nothing is written into the
folder. The exit code is 1 if there are errors.

`init` writes DIR/dataset.toml with the classes, colors and labels that it guesses, each with a comment; a file that
exists is kept, unless --overwrite is given.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import contextlib
import json
import logging
import os
import sys

import numpy as np
from absl import flags
from etils import epath

from fcn_jax import cli, files
from fcn_jax import config as config_lib
from fcn_jax.data.folder import description
from fcn_jax.errors import UserError

logger = logging.getLogger('fcn_jax.data')  # here `__name__` is '__main__'

_STRIDES = (32, 16, 8, 4, 2)
_MASKS, _SIDE = 200, 1024  # masks, and pixels of their sides, that upper bounds are computed on
_FILES = 20  # of a warning that are printed


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('html', None, 'HTML file to write: tables, findings, and thumbnails under colored masks.')
  flags.DEFINE_bool('json', False, 'Print one JSON object instead of tables.')
  flags.DEFINE_bool('overwrite', False, 'Replace the file of --html, or dataset.toml, if it exists.')


def main(arguments: list[str]) -> None:
  """The command."""
  commands = {'inspect': _inspect, 'init': _init}
  if not arguments or arguments[0] not in commands:
    found = f'found {arguments[0]!r}' if arguments else 'no command given'
    raise UserError(f'{found}; expected inspect DIR, inspect --config=... or init DIR')
  commands[arguments[0]](arguments[1:])


def _config(folders: list[str]):
  """The config of the command line, or the default one of a folder."""
  given = flags.FLAGS['config'].value
  if len(folders) > 1 or bool(folders) == (given is not None):
    raise UserError(f'found {len(folders)} folders and {"a" if given else "no"} --config; expected one of the two')
  if not folders:
    return cli.config()
  config = config_lib.default('folder')
  config.data.folder = folders[0]
  return config


def _init(folders: list[str]) -> None:
  if len(folders) != 1:
    raise UserError(f'found {len(folders)} folders; expected init DIR')
  data, out = _config(folders).data, files.path(folders[0]) / description.NAME
  if files.exists(out) and not flags.FLAGS.overwrite:
    raise UserError(f'{out} exists; pass --overwrite to write it again, with its values where it has some')
  from fcn_jax.data.inspection import draft
  from fcn_jax.run import progress

  files.write(out, draft.written(data))
  logger.info(f'{files.printable(os.fspath(out))} is written; check its values, and correct them')
  progress.show_next(('data', 'inspect', folders[0]))


def _inspect(folders: list[str]) -> None:
  given, config = flags.FLAGS, _config(folders)
  data = config.data.copy_and_resolve_references()
  data.cache_gib = 0.0  # nothing is kept in memory, and nothing is written
  out = _page(given.html, given.overwrite, data)
  if given.json:
    logging.getLogger('fcn_jax').setLevel(logging.CRITICAL)  # only the object is printed
  from fcn_jax.data.inspection import html, inspection, suggestions, summary
  from fcn_jax.run import progress

  with contextlib.ExitStack() as stack:

    def counter(total: int):
      return (lambda: None) if given.json else stack.enter_context(progress.Counter(total)).advance

    found = inspection.inspect(data, counter)
  bounds = _upper_bounds(found, data.get('resize', 0))
  suggested = suggestions.suggest(found, config)
  if given.json:
    print(json.dumps(summary.as_json(found, bounds, suggested)))
  else:
    _show(found, bounds, suggested)
  if out:
    files.write(out, html.page(found, bounds, suggested))
    logger.info(f'{files.printable(os.fspath(out))} is written')
  if found.of_level('error'):
    sys.exit(1)
  if not given.json:
    words = ['--config=experiments/fcn8s.py:folder', f'--config.data.folder={folders[0]}'] if folders else []
    progress.show_next(('main', *(words or cli.config_words()), *(suggestion.flag for suggestion in suggested)))


def _page(given: str | None, overwrite: bool, data) -> epath.Path | None:
  """The HTML file to write. Raises: UserError: it exists, or is in the folder that is inspected."""
  if not given:
    return None
  out = files.path(given)
  if out.suffix.lower() not in ('.html', '.htm'):
    raise UserError(f'--html={given} does not end in .html; expected the name of an HTML file')
  folder = data.get('folder')
  if folder and os.path.realpath(out).startswith(os.path.join(os.path.realpath(files.path(folder)), '')):
    raise UserError(f'--html={given} is in {folder}, into which nothing is written; use another folder')
  if files.exists(out) and not overwrite:
    raise UserError(f'{out} exists; pass --overwrite to replace it')
  return out


def _upper_bounds(found, resize: int) -> dict[int, float]:
  """The upper bound of mean IoU by stride, on at most `_MASKS` labels of the held-out split; {} without labels."""
  if found.classes is None:
    return {}
  held_out = next(name for name in ('test', 'validation', 'train') if name in found.splits)
  rows = [i for i, r in enumerate(found.records) if r.split == held_out and found.counts[i].any()]
  if not rows:
    return {}
  chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MASKS)).astype(int))
  from fcn_jax import bounds
  from fcn_jax.data import resizing

  views = (found.view(found.records[rows[i]])[1] for i in chosen)
  labels = (_center(resizing.resized({}, {'': label}, resize)[1]['']) for label in views)
  scores = bounds.upper_bounds(labels, len(found.classes), _STRIDES)
  return {stride: values['mean_iou'] for stride, values in scores.items()}


def _center(label: np.ndarray) -> np.ndarray:
  """The center of a label, at most `_SIDE` pixels high and wide."""
  top, left = (max(0, (length - _SIDE) // 2) for length in label.shape)
  return label[top : top + _SIDE, left : left + _SIDE]


def _show(found, bounds: dict[int, float], suggested) -> None:
  from fcn_jax.data.inspection import summary
  from fcn_jax.run import messages, progress

  messages.show(files.printable(': '.join(filter(None, (found.name, '; '.join(found.notes))))))
  if found.splits:
    progress.show_table(None, summary.SPLITS, summary.splits(found))
  heads, rows = summary.classes(found)
  if rows:
    progress.show_table(None, heads, [[files.printable(cell) for cell in row] for row in rows])
  for finding in found.findings:
    messages.show(files.printable(f'{finding.level}: {finding.check}: {finding.message}'))
    others = [file for file in finding.files if file not in finding.message]
    shown = others if finding.level == 'error' else others[:_FILES]
    for file in shown:
      messages.show(f'  {files.printable(file)}')
    if len(shown) < len(others):
      messages.show(f'  and {len(others) - len(shown)} more files, which --json and --html list')
  if bounds:
    shares = [[str(stride), progress.percent(bound)] for stride, bound in bounds.items()]
    progress.show_table('upper bounds by stride', ['stride, pixels', 'mean IoU'], shares)
    messages.show(summary.skips_gain(bounds))
  for suggestion in suggested:
    messages.show(files.printable(f'suggested: {suggestion.flag}: {suggestion.reason}'))
  counts = [f'{len(found.of_level(level))} {level}s' for level in ('error', 'warning')]
  messages.show(', '.join(counts))


if __name__ == '__main__':
  cli.run(main, define_flags)
