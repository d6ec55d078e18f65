"""What `evaluate` writes outside of its tables: another folder for the scores, predictions, and the worst images."""

import heapq

import numpy as np

from fcn_jax import confusions, files, images, outputs
from fcn_jax.data import resizing
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError
from fcn_jax.predict_outputs import shortened
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory

_ID_BYTES = 200  # of an id within a file name


class Folder(RunDirectory):
  """A folder that is not the directory of a run: only files that an earlier call wrote there are replaced."""

  def write(self, name: str, content: str | bytes) -> None:
    outputs.reserve(self.path, [name])
    super().write(name, content)

  def write_json(self, name: str, value) -> None:
    outputs.reserve(self.path, [name])
    super().write_json(name, value)


class Predictions:
  """The files in --save_predictions.

  Attributes:
    indices: of the images that have a file.
    error: why a file could not be written, after which nothing more is written; else None.
  """

  def __init__(self, folder: str | None, ids: list[str], heads: dict):
    """Without a folder, nothing is written. Raises: UserError: the folder has other files of these names."""
    self._folder, self._ids, self.error = folder and files.path(folder), ids, None
    self._head, self._classes = next(iter(heads.items()))
    self.indices = range(len(ids) if folder else 0)
    if folder:
      outputs.reserve(self._folder, [f'{name}.png' for name in ids])

  def add(self, image: dict) -> None:
    """Writes the prediction of the first head for an image, which `evaluation.Evaluator.images` yields."""
    if self._folder and not self.error:
      content = images.indexed(image['predictions'][self._head], self._classes.palette)
      try:
        files.write(self._folder / f'{self._ids[image["index"]]}.png', content)
      except UserError as error:  # the scores do not depend on it
        self.error = error


class Worst:
  """The images with the lowest mean IoU, of every head.

  Attributes:
    most: the number of images that are kept.
    indices: of the images whose predictions are needed.
  """

  def __init__(self, most: int, ids: list[str], heads: dict[str, Classes]):
    """Keeps `most` images of each head; with 0, nothing is written."""
    self.most, self._ids, self._heads = min(most, len(ids)), ids, heads
    self.indices = range(len(ids) if most else 0)
    # By head: a heap whose first image is the best one. Images of equal scores keep the order of the split.
    self._heaps: dict[str, list[tuple]] = {head: [] for head in heads}

  def add(self, image: dict) -> None:
    """Keeps an image, which `evaluation.Evaluator.images` yields, if it is one of the worst so far."""
    for head, heap in self._heaps.items() if self.most else ():
      ((mean_iou,), _) = confusions.of_images(image['counts'][head].sum(0)[None])
      key = (-mean_iou, -image['index'])
      if np.isnan(mean_iou):  # no pixel is labeled
        continue
      if len(heap) < self.most:
        heapq.heappush(heap, (*key, self._shown(image, head)))
      elif key > heap[0][:2]:
        heapq.heapreplace(heap, (*key, self._shown(image, head)))

  def _shown(self, image: dict, head: str) -> list[np.ndarray]:
    """Image, label, prediction and errors, each uint8 [h, w, 3]: copies, so that the batch can be freed."""
    classes, shown = self._heads[head], images.viewable(image['inputs'])
    maps = [resizing.nearest(image[kind][head], shown.shape[:2]) for kind in ('labels', 'predictions')]
    colored = [images.colorize(x, classes.palette) for x in maps]
    return [shown.copy(), *colored, images.errors(shown, *maps, classes.ignore)]

  def write(self, directory: RunDirectory, name: str, checkpoint: str) -> None:
    """Writes eval/STEM.worst/RANK.ID.png of every head, and removes those of an earlier call; see `saved.file_stem`."""
    for head, heap in self._heaps.items() if self.most else ():
      folder = directory / f'eval/{saved.file_stem(name, head, self._heads, checkpoint)}.worst'
      names = (*self._heads[head].names, 'wrong', 'without a label')
      contents, colors = {}, (*self._heads[head].palette, images.WRONG, images.IGNORED)
      for rank, (score, index, row) in enumerate(sorted(heap, reverse=True), start=1):
        ending = shortened(self._ids[-index].replace('/', '_'), _ID_BYTES)
        titles = ('image', 'label', 'prediction', f'errors; mean IoU {-100 * score:.1f} %')
        contents[f'{rank:04d}.{ending}.png'] = images.grid(titles, [row], names, colors)
      outputs.replace(folder, contents)
      for file, content in contents.items():
        files.write(folder / file, content)
