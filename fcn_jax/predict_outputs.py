"""The outputs of `predict` for one image: their kinds, names and contents.

The prediction itself is OUT/NAME.png, the class numbers, and OUT/NAME.npz, their probabilities. Every other output has
a word after NAME that says what it shows; the word of a heatmap is its class:

  labels         NAME.png          class numbers, with the class colors as palette
  probabilities  NAME.npz          `probabilities` float32 [H, W, C], and `classes`, their names
  gray           NAME.gray.png     class numbers as 8-bit gray, for programs that turn a palette into colors
  overlay        NAME.overlay.png  the image overlaid with the class colors, and a legend
  scores         NAME.scores.npz   `scores` float32 [H, W, C], before the softmax
  heatmaps       NAME.CLASS.png    the probability of each class, as 8-bit gray

These are the outputs of the first head. Those of another head have its name after NAME: NAME.HEAD.png, and so on.
"""

import functools
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from etils import epath
from PIL import Image

from fcn_jax import files, images
from fcn_jax.data import dataset
from fcn_jax.errors import UserError, nearest

KINDS = ('labels', 'gray', 'probabilities', 'scores', 'overlay', 'heatmaps')
DEFAULT = ('labels', 'overlay')
MARK = b'Software\0fcn_jax.predict'  # the text in every PNG that the command writes

_LABEL_BYTES = 100  # of a class name within a file name
_TAKEN = ('overlay', 'gray')  # the words of the other PNGs


def kinds(save: Sequence[str] | None, *, heatmaps: bool, scores: bool) -> list[str]:
  """The kinds of outputs that the flags --save, --heatmaps and --save_scores ask for.

  Raises:
    UserError: there is no such kind, or --save is empty.
  """
  if save is not None and not save:
    raise UserError(f'--save is empty; expected some of {", ".join(KINDS)}')
  for name in save or ():
    if name not in KINDS:
      raise UserError(f'--save has no output {name!r}{nearest(name, KINDS)}')
  chosen = {*(DEFAULT if save is None else save)}
  chosen |= {'heatmaps', 'probabilities'} if heatmaps else set()
  chosen |= {'scores'} if scores else set()
  return [kind for kind in KINDS if kind in chosen]


def suffixes(heads: Mapping[str, dataset.Classes]) -> dict[str, str]:
  """What follows NAME in the outputs of each head: nothing for the first, .HEAD for another.

  It is .HEAD.1 and so on if outputs of other heads have these names, for example heatmaps of a class called HEAD.
  """
  found: dict[str, str] = {}
  taken: set[str] = set()
  for number, (head, classes) in enumerate(heads.items()):
    plain = [f'.{ending}' for kind in endings(classes.names).values() for ending in kind]
    choices = [f'.{head}', *(f'.{head}.{n}' for n in range(1, 2 + len(taken)))] if number else ['']
    found[head] = next(suffix for suffix in choices if taken.isdisjoint(suffix + ending for ending in plain))
    taken |= {found[head] + ending for ending in plain}
  return found


def endings(classes: Sequence[str], suffix: str = '') -> dict[str, dict[str, str]]:
  """The outputs of each kind: by ending, the name that people read, for example NAME.CLASS.png.

  Args:
    classes: the names of the classes of a head.
    suffix: of the head, from `suffixes`.
  """
  single = {
    'labels': 'png',
    'gray': 'gray.png',
    'probabilities': 'npz',
    'scores': 'scores.npz',
    'overlay': 'overlay.png',
  }
  found = {kind: {ending: f'NAME{suffix}.{ending}'} for kind, ending in single.items()}
  return found | {'heatmaps': dict.fromkeys(heatmap_endings(classes), f'NAME{suffix}.CLASS.png')}


def copies(outputs: Iterable[str]) -> int:
  """How many arrays as large as the scores writing the outputs with these endings takes, measured."""
  outputs = set(outputs)
  return ('scores.npz' in outputs) + 3 * bool(outputs - {'png', 'gray.png', 'scores.npz', 'overlay.png'})


def heatmap_endings(classes: Sequence[str]) -> list[str]:
  """The endings of the heatmaps of the classes, all different, and possible in a file name."""
  found: list[str] = []
  for number, label in enumerate(classes):
    ending = shortened(re.sub(r'[/\0]', '_', label), _LABEL_BYTES)
    taken = ending in _TAKEN or f'{ending}.png' in found
    found.append(f'{ending}.{number}.png' if taken else f'{ending}.png')
  return found


def shortened(name: str, most: int) -> str:
  """The name, if it has at most `most` bytes; otherwise its beginning and a hash of it."""
  content = os.fsencode(name)
  if len(content) <= most:
    return name
  return content[: most - 9].decode(errors='ignore') + '-' + hashed(content)


def hashed(content: bytes) -> str:
  """Eight hexadecimal digits that differ for different contents."""
  return hashlib.sha256(content).hexdigest()[:8]


def write(
  stem: epath.Path, outputs: Iterable[str], image: np.ndarray, scores: np.ndarray, classes: dataset.Classes
) -> Iterator[str]:
  """Writes the outputs STEM.ENDING of a head for an image, and yields the ending of each after it is written.

  Args:
    stem: OUT/NAME, with the suffix of the head.
    outputs: the endings of the outputs to write.
    image: uint8 [H, W, 3].
    scores: float32 [H, W, C], before the softmax.
    classes: of the scores.

  Raises:
    UserError: one of the files cannot be written.
  """
  from scipy.special import softmax

  prediction = scores.argmax(-1).astype(np.uint8)
  outputs = list(outputs)
  probabilities = softmax(scores, axis=-1) if copies({*outputs} - {'scores.npz'}) else np.empty((0, 0, 0))
  contents: dict[str, Callable[[], bytes]] = {
    'png': lambda: marked(images.indexed(prediction, classes.palette)),
    'gray.png': lambda: marked(images.encoded(Image.fromarray(prediction))),
    'overlay.png': lambda: marked(images.overlay(image, prediction, classes.names, classes.palette)),
    'npz': lambda: files.npz(probabilities=probabilities, classes=classes.names),
    'scores.npz': lambda: files.npz(scores=scores),
  }
  for number, ending in enumerate(heatmap_endings(classes.names)):
    contents[ending] = functools.partial(_heatmap, probabilities, number)
  for ending in outputs:
    files.write(stem.with_name(f'{stem.name}.{ending}'), contents[ending]())
    yield ending


def _heatmap(probabilities: np.ndarray, number: int) -> bytes:
  return marked(images.encoded(Image.fromarray((255 * probabilities[..., number]).round().astype(np.uint8))))


def marked(png: bytes) -> bytes:
  """The PNG with the text that tells predictions from images: its first chunk after the header, which has 33 bytes."""
  chunk = b'tEXt' + MARK
  return png[:33] + struct.pack('>I', len(MARK)) + chunk + struct.pack('>I', zlib.crc32(chunk)) + png[33:]
