"""The files of `predict`: which images a command line names, and the names of the outputs."""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from fcn_jax import files, image_files
from fcn_jax.errors import UserError
from fcn_jax.predict_outputs import MARK, hashed, shortened
from fcn_jax.run import saved

_NAME_BYTES = 255  # the longest name of a file, in bytes
_RUN_FOLDERS = ('eval', 'checkpoints', 'best')  # of a run directory: with files that outputs could replace


@dataclasses.dataclass(frozen=True)
class Source:
  """An image file: its path as it was typed, and its path below the folder that was named, or its name."""

  path: epath.Path
  below: pathlib.PurePath


@dataclasses.dataclass
class Found:
  """What the arguments of a command line name.

  Attributes:
    endings: of image files.
    sources: the image files, by absolute path.
    faults: what cannot be used and why, a sentence for each file, folder or argument.
    left_out: the numbers of files and folders that are no images, by ending or kind.
  """

  endings: Sequence[str] = image_files.ENDINGS
  sources: dict[str, Source] = dataclasses.field(default_factory=dict)
  faults: list[str] = dataclasses.field(default_factory=list)
  left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

  def add(self, path: epath.Path, below: os.PathLike | str) -> None:
    """Adds an image file, unless an earlier argument named it."""
    self.sources.setdefault(_absolute(path), Source(path, pathlib.PurePath(below)))


def find(arguments: Iterable[str], out: epath.Path, endings: Sequence[str] = image_files.ENDINGS) -> Found:
  """The images that the arguments name: files, and folders with everything below them, in the order of their names.

  In folders, files are found by their endings. Hidden files and folders, __MACOSX, predictions that an earlier command
  wrote, and the folder `out` are left out.
  """
  found = Found(endings)
  for argument in arguments:
    try:
      path = files.path(argument)
      if not files.exists(path):
        raise UserError(f'there is no file or folder {path}')
      if not path.is_dir():
        found.add(path, path.name)
        continue
      if not _find_in(path, path, os.path.realpath(out), (), found):
        raise UserError(f'there is no image in {path}; expected files that end in {", ".join(endings)}')
    except UserError as error:
      found.faults.append(str(error))
  return found


def _find_in(folder: epath.Path, top: epath.Path, out: str, above: tuple[str, ...], found: Found) -> bool:
  """Adds what is in a folder below `top`; returns whether there are images or faults."""
  with files.explained(folder):
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
  above, has_any = (*above, os.path.realpath(folder)), False
  for entry in entries:
    ending = entry.suffix.lower()
    if entry.name.startswith('.') or entry.name == '__MACOSX':
      found.left_out['hidden files and folders'] += 1
    elif entry.is_dir():
      real = os.path.realpath(entry)
      if real == out or real in above:  # a link to a folder above would have no end
        found.left_out['output folder' if real == out else 'links to a folder above'] += 1
        continue
      try:
        has_any |= _find_in(entry, top, out, above, found)
      except UserError as error:
        found.faults.append(str(error))
        has_any = True
    elif ending not in found.endings:
      found.left_out[ending or 'no ending'] += 1
    elif ending == '.png' and _is_prediction(entry):
      found.left_out['earlier predictions'] += 1
    else:
      found.add(entry, os.path.relpath(entry, top))
      has_any = True
  return has_any


def _absolute(path: epath.Path) -> str:
  return os.fspath(path) if files.is_remote(path) else os.path.abspath(path)


def _is_prediction(path: epath.Path) -> bool:
  """Whether this command wrote the PNG."""
  try:
    with files.opened(path) as file, files.explained(path):
      return MARK in file.read(33 + 8 + len(MARK))
  except UserError:  # reported when the image is read
    return False


def check_out(out: epath.Path, workdir: epath.Path | None) -> None:
  """Checks the folder of the outputs.

  Args:
    out: the folder; it may not exist yet.
    workdir: of the run that predicts, if any.

  Raises:
    UserError: the folder cannot be written, or belongs to a run, whose files have names that outputs may have.
  """
  if files.is_remote(out):
    return
  real = epath.Path(os.path.realpath(out))
  folders = [real, *real.parents]
  runs = [folder.parent for folder in folders if folder.name in _RUN_FOLDERS and saved.is_run(folder.parent)]
  if workdir is not None and os.path.realpath(workdir) == os.fspath(real):
    runs.append(real)
  if runs:
    raise UserError(f'--out={out} has files of a run; use another folder, for example {runs[0] / "predictions"}')
  there = next(folder for folder in folders if files.exists(folder))
  if not there.is_dir():
    raise UserError(f'cannot write {out}: {there} is a file; expected a folder')
  if not files.can_write(there):
    raise UserError(f'cannot write {out}: {there} may not be written')


class Names:
  """Names of outputs, all different, none of them an input.

  The outputs of an image are OUT/NAME.ENDING. NAME is the image's path below the folder that was named, without its
  ending. Where outputs would have the same name, or that of an input, NAME keeps the ending of an image if the
  other one is in the same folder, else the name of the image's folder.
  """

  def __init__(
    self, sources: dict[str, Source], out: epath.Path, endings: Sequence[str], inputs: Iterable[os.PathLike | str] = ()
  ):
    """Prepares `choose`.

    Args:
      sources: the images, by absolute path.
      out: the folder of the outputs.
      endings: of all outputs that the command can write, so that names do not depend on its flags.
      inputs: the other files that the command reads.
    """
    self._sources, self._out, self._endings = sources, out, endings
    self._longest = max(len(os.fsencode(ending)) for ending in endings)
    inputs = {*sources, *map(os.path.abspath, inputs)}
    self._inputs = inputs | set(map(os.path.realpath, inputs))
    self._real = functools.cache(os.path.realpath)
    # Of each image: the number of folders in front of its path, whether it keeps its ending, whether it gets a hash.
    self._forms = dict.fromkeys(sources, (0, False, False))

  def choose(self) -> dict[str, str]:
    """The name of each image, by its absolute path."""
    while clashing := list(self._clashing()):
      for key, is_near in clashing:
        folders, has_ending, _ = self._forms[key]
        if is_near and not has_ending:
          self._forms[key] = folders, True, False
        elif folders < len(self._parents(key)):
          self._forms[key] = folders + 1, has_ending, False
        else:
          self._forms[key] = folders, has_ending, True
    return {key: self._name(key) for key in self._sources}

  def _clashing(self) -> Iterator[tuple[str, bool]]:
    """The images that need another name, each with whether it clashes with one of its folder, or an input."""
    outputs = {key: self._outputs(key) for key, (*_, has_hash) in self._forms.items() if not has_hash}
    total = collections.Counter(output for several in outputs.values() for output in several)
    near = collections.Counter((os.path.dirname(key), output) for key, several in outputs.items() for output in several)
    for key, several in outputs.items():
      folder = self._real(os.path.dirname(self._out / several[0]))
      is_input = any(os.path.join(folder, os.path.basename(output)) in self._inputs for output in several)
      if is_input or any(total[output] > 1 for output in several):
        yield key, is_input or any(near[os.path.dirname(key), output] > 1 for output in several)

  def _outputs(self, key: str) -> list[str]:
    name = self._name(key)
    return [f'{name}.{ending}' for ending in self._endings]

  def _name(self, key: str) -> str:
    folders, has_ending, has_hash = self._forms[key]
    parents, below = self._parents(key), self._sources[key].below
    below = below if has_ending or not below.stem.strip('.') else below.with_suffix('')
    whole = pathlib.PurePath(*parents[len(parents) - folders :], below)
    name = f'{whole.name}-{hashed(os.fsencode(key))}' if has_hash else whole.name
    return os.fspath(whole.with_name(shortened(name, _NAME_BYTES - 1 - self._longest)))

  def _parents(self, key: str) -> list[str]:
    """The folders above the image that are not in `below`, outermost first."""
    parts = [part for part in key.split('/') if part and not part.endswith(':')]
    return parts[: -len(self._sources[key].below.parts)]
