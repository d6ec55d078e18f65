"""The predictions that a finished run keeps: those of at most `eval.keep` images, the same images in every run.

They are in the run directory, as `eval/SPLIT/ID.prediction.png`. The images and labels depend on the data only, so they
are stored once for all runs of a sweep, in its folder; a run that is not in a sweep has its own. Nothing here imports
jax, so that reports can read it.
"""

import concurrent.futures
import hashlib
from collections.abc import Sequence

from etils import epath
from PIL import Image

from fcn_jax import files, images
from fcn_jax.data import resizing
from fcn_jax.data.dataset import Data
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory

THUMBNAIL = 320  # pixels: the longer side of an image that is stored is at most as long
_THREADS = 16  # that write, because a bucket answers slowly


def chosen(ids: Sequence[str], most: int) -> list[int]:
  """The sorted indices of at most `most` images, by a hash of their ids: another set of runs has the same ones."""
  by_hash = sorted(range(len(ids)), key=lambda index: hashlib.sha256(ids[index].encode()).digest())
  return sorted(by_hash[:most])


def images_folder(run: epath.Path, fingerprint: str) -> epath.Path:
  """The folder of the images and labels that the runs of a sweep share.

  It has SPLIT/ID.image.jpg, a thumbnail, and SPLIT/ID.label.png, of the size that the split gives; for the second head
  and further ones, SPLIT.HEAD/ID.label.png.

  Args:
    run: the run directory.
    fingerprint: of the data set.
  """
  sweep = run.parent
  home = sweep if files.exists(sweep / 'sweep.json') else run
  return home / 'images' / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]


class Kept:
  """The predictions of the split that is watched during training, as one evaluation keeps them.

  Attributes:
    indices: of the images whose predictions are kept.
  """

  def __init__(self, directory: RunDirectory, data: Data, most: int):
    """Keeps those of at most `most` images; on several hosts, only the ones that the first host scores."""
    self._directory, self._data, self._name, self._split = directory, data, data.watched, data.splits[data.watched]
    self._ids = self._split.ids() if most and directory.writes else []
    self.indices = frozenset(chosen(self._ids, most))
    self._predictions: dict[str, bytes] = {}  # by file name

  def add(self, image: dict) -> None:
    """Adds an image, as `evaluation.Evaluator.images` yields it; if it is not one of `indices`, nothing happens."""
    if image['index'] in self.indices:
      for head, classes in self._data.heads.items():
        stem = saved.file_stem(self._name, head, self._data.heads)
        file = f'eval/{stem}/{self._ids[image["index"]]}.prediction.png'
        size = next(iter(image['inputs'].values())).shape[:2]  # that of the labels, also where images were resized
        self._predictions[file] = images.indexed(resizing.nearest(image['predictions'][head], size), classes.palette)

  def write(self) -> None:
    """Writes the predictions, and the images and labels that no run of the sweep has written yet."""
    if not self.indices:
      return
    folder = images_folder(self._directory.path, self._data.fingerprint)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      written = [pool.submit(self._directory.write, *file) for file in self._predictions.items()]
      written += [pool.submit(self._write_image, folder, index) for index in self.indices]
    for future in written:
      future.result()  # raises its error

  def _write_image(self, folder: epath.Path, index: int) -> None:
    heads = self._data.heads
    file = folder / self._name / f'{self._ids[index]}.image.jpg'
    if not files.exists(file):
      thumbnail = Image.fromarray(images.viewable(self._split[index]['inputs']))
      thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
      files.write(file, images.encoded(thumbnail, 'JPEG'))
    for head, classes in heads.items():
      file = folder / saved.file_stem(self._name, head, heads) / f'{self._ids[index]}.label.png'
      if not files.exists(file):
        files.write(file, images.indexed(self._split[index]['labels'][head], classes.palette))
