"""Segments images with a trained run, or with a weights file.

  python -m fcn_jax.predict --workdir=runs/fcn16s-scenes photo.jpg folder/ --out=predictions
  python -m fcn_jax.predict --config=experiments/fcn8s.py:voc2011 --config.model.geometry=caffe \\
    --weights=fcn8s-heavy-pascal.caffemodel photo.jpg

Writes for each image:
  OUT/NAME.png          class numbers, with the class colors as palette
  OUT/NAME.overlay.png  the image overlaid with the class colors, and a legend
  OUT/NAME.CLASS.png    with --heatmaps: the probability of each class, as an image
  OUT/NAME.npz          with --heatmaps: `probabilities` [H, W, C]
  OUT/NAME.scores.npz   with --save_scores: `scores` float32 [H, W, C], before the softmax

NAME is the name of the image without its ending; images in subfolders keep their relative paths. Where two images would
have the same outputs, or an output would be an image or the weights file, NAME keeps the ending (0001.jpg and
0001.png) or the folder (day1/0001.jpg and day2/0001.jpg). Names that are too long are shortened with a hash.

A run with data.resize resizes images as in training; outputs have the size of the original image.

Images are JPEG, PNG, WebP, TIFF, BMP, GIF, JPEG 2000 and PNM files, found in folders by their endings. Hidden files and
folders, __MACOSX and earlier predictions in folders are left out. A run that was trained on a folder of TIFF or NPY
files with other channels, or more than 8 bits, reads files of that kind.

An output that exists is kept, also if another image or network made it, and an image with all outputs is skipped;
--overwrite makes them again. An image that cannot be read, or whose forward pass does not fit the memory, is reported,
and the others are segmented. The last line has the numbers of images that are done, skipped and failed; the exit code
is 1 if any failed.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import dataclasses
import errno
import logging
import math
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from etils import epath

from fcn_jax import cli, files, images, machine, predict_files
from fcn_jax.data.folder.reader import Reader
from fcn_jax.errors import UserError

logger = logging.getLogger('fcn_jax.predict')  # here `__name__` is '__main__'

_GIB = 2**30
# Memory that an image takes in addition to the forward pass, measured: bytes per pixel, and copies of the scores for
# heatmaps.
_IMAGE_BYTES, _HEATMAP_COPIES = 32, 3
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # which no other image would be spared


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Run directory of a trained network, whose preprocessing is used.')
  flags.DEFINE_string('weights', None, 'Weights file to use instead of a run; --config describes the network.')
  flags.DEFINE_string('out', 'predictions', 'Folder to write to.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint to use.')
  flags.DEFINE_bool('heatmaps', False, 'Also write the probability of each class.')
  flags.DEFINE_bool('save_scores', False, 'Also write the scores before the softmax.')
  flags.DEFINE_bool('overwrite', False, 'Make outputs that exist again.')


@dataclasses.dataclass(frozen=True)
class Job:
  """An image to segment: its height and width, and its outputs OUT/NAME.ENDING that are to be written."""

  path: epath.Path
  size: tuple[int, int]
  name: str
  endings: list[str]


@dataclasses.dataclass
class Tally:
  """The numbers of images that are done, skipped and failed, and of outputs that were kept."""

  done: int = 0
  skipped: int = 0
  failed: int = 0
  kept: int = 0

  def fail(self, reason: object) -> None:
    """Counts and reports an image or an argument that cannot be used; `reason` names it."""
    self.failed += 1
    sys.stderr.write(f'failed: {reason}\n')

  def __str__(self) -> str:
    text = f'{self.done} done, {self.skipped} skipped, {self.failed} failed'
    if self.kept:
      text += (
        f'; kept {self.kept} outputs that exist, perhaps of another image or network (--overwrite makes them again)'
      )
    return text


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  has_config = given['config'].value is not None
  if bool(given.workdir) == has_config or bool(given.weights) != has_config:
    raise UserError('nothing to predict with; expected --workdir=RUN, or both --config=... and --weights=FILE')
  if not arguments:
    raise UserError('no images; expected files or folders, for example photo.jpg folder/')
  tally, out = Tally(), files.path(given.out)
  reader, class_names = of_network(given)
  found = predict_files.find(arguments, out, reader.endings)
  if found.left_out:
    listed = ', '.join(f'{kind} ({count})' for kind, count in sorted(found.left_out.items()))
    logger.info('left out: %s', listed)
  for fault in found.faults:
    tally.fail(fault)
  sizes: dict[str, tuple[int, int]] = {}
  for key, source in found.sources.items():
    try:
      sizes[key] = reader.size_of(source.path)
    except UserError as error:
      tally.fail(error)
  if sizes and (jobs := plan(found.sources, sizes, out, class_names, given, tally)):
    segment(jobs, reader, out, given, tally)
  logger.info('%s', tally)
  sys.exit(1 if tally.failed else 0)


def plan(
  sources, sizes: dict[str, tuple[int, int]], out: epath.Path, class_names: Sequence[str], given, tally: Tally
) -> list[Job]:
  """The images that have outputs to write; the others are counted as skipped, or failed."""
  heatmaps = predict_files.heatmap_endings(class_names)
  basic, of_heatmaps, of_scores = ['png', 'overlay.png'], [*heatmaps, 'npz'], ['scores.npz']
  others = [given.weights, cli.config_path()] if given.weights else []
  names = predict_files.Names(sources, out, basic + of_heatmaps + of_scores, others).choose()
  wanted = basic + of_heatmaps * given.heatmaps + of_scores * given.save_scores
  jobs = []
  for key, size in sizes.items():
    try:
      kept = [] if given.overwrite else [e for e in wanted if files.exists(out / f'{names[key]}.{e}')]
    except UserError as error:
      tally.fail(error)
      continue
    tally.kept += len(kept)
    if len(kept) < len(wanted):
      jobs.append(Job(sources[key].path, size, names[key], [e for e in wanted if e not in kept]))
    else:
      tally.skipped += 1
  return jobs


def of_network(given) -> tuple[Reader, Sequence[str]]:
  """What reads images for the network, and the names of the classes of the first head, without importing jax.

  Raises:
    UserError: the network has input streams that an image file does not provide.
  """
  if given.weights:
    from fcn_jax.data import dataset

    data = cli.config().data
    inputs, heads = dataset.describe(data)
  else:
    from fcn_jax.run import saved

    workdir = files.path(given.workdir)
    data = cli.relocated(saved.read_config(workdir)).data  # refuses settings that cannot be changed
    inputs, heads = saved.read_data(workdir)
  return Reader(data, inputs), next(iter(heads.values())).names


def load_predictor(given):
  """Loads the network of the run, or of --config with --weights."""
  from fcn_jax import api

  if given.weights:
    from fcn_jax.data import dataset
    from fcn_jax.weights import match

    config = cli.config()
    inputs, heads = dataset.describe(config.data)
    config, params = match.load(config, inputs, heads, given.weights)
    predictor = api.Predictor(config, inputs, heads, params)
  else:
    predictor = api.load_run(given.workdir, checkpoint=given.checkpoint)
  return predictor


def segment(jobs: list[Job], reader: Reader, out: epath.Path, given, tally: Tally) -> None:
  """Writes the outputs of all images that fit the memory, from small to large images."""
  predict_files.check_out(out, files.path(given.workdir) if given.workdir else None)
  predictor = load_predictor(given)
  from fcn_jax.run import devices, progress

  devices.enable_compilation_cache()
  classes = next(iter(predictor.heads.values()))
  jobs = [job for job in jobs if _fits(job, predictor, given, tally)]
  total = tally.failed + len(jobs)
  with progress.Counter(len(jobs)) as bar:
    for canvas, count, members in predictor.batches(np.array([job.size for job in jobs])):
      for job, image, scores in _computed([jobs[i] for i in members], predictor, reader, canvas, count, tally):
        try:
          predict_files.write(out / job.name, job.endings, images.viewable({'': image}), scores, classes)
          tally.done += 1
        except UserError as error:
          if not _can_write(out, error):
            tally.failed = total - tally.done  # none of the others can be written
            logger.info('%s', tally)
            raise
          tally.fail(error)
        except MemoryError:
          tally.fail(_no_memory(job))
      for _ in members:
        bar.advance()


def _fits(job: Job, predictor, given, tally: Tally) -> bool:
  """Whether an image can be segmented with the memory that is available; if not, the image is counted as failed."""
  from fcn_jax import api

  pixels = math.prod(job.size)
  if pixels <= api.BATCH_PIXELS:  # as much as a batch of small images
    return True
  forward = predictor.memory(job.size)
  scores = 4 * len(predictor.classes) * pixels
  outputs = pixels * _IMAGE_BYTES + scores * (_HEATMAP_COPIES * given.heatmaps + given.save_scores)
  on_host_only = outputs + (scores if predictor.config.data.get('resize') else 0)  # enlarged after the forward pass
  on_host, on_device = machine.available_memory(), predictor.available_memory()
  parts = [(forward + on_host_only, on_host)] if _is_on_cpu() else [(forward, on_device), (scores + outputs, on_host)]
  for required, available in parts:
    if required > available:
      tally.fail(
        f'{job.path}: its {job.size[1]}x{job.size[0]} pixels require {required / _GIB:.1f} GiB of memory, but '
        f'{available / _GIB:.1f} GiB are available; {_way_out()}'
      )
      return False
  return True


def _is_on_cpu() -> bool:
  import jax

  return jax.default_backend() == 'cpu'


def _way_out() -> str:
  other = 'a machine with more memory' if _is_on_cpu() else 'JAX_PLATFORMS=cpu, which uses the memory of the machine'
  return f'use a smaller copy of the image, or {other}'


def _no_memory(job: Job) -> str:
  return f'{job.path}: the memory that is available is not sufficient; {_way_out()}'


def _computed(jobs: list[Job], predictor, reader: Reader, canvas: tuple[int, int], count: int, tally: Tally):
  """The images of a batch that can be read: job, image uint8 [H, W, C], and scores of the first head [H, W, C]."""
  import jax

  whole = []
  for job in jobs:
    try:
      whole.append((job, reader.read(job.path)))
    except UserError as error:  # the header may be intact although the rest is not
      tally.fail(error)
  if not whole:
    return []
  try:
    scores = predictor.scores([image for _, image in whole], canvas, count)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if 'RESOURCE_EXHAUSTED' not in str(error) and not isinstance(error, MemoryError):
      raise
    for job, _ in whole:
      tally.fail(_no_memory(job))
    return []
  head = next(iter(predictor.heads))
  return [(job, image, x[head]) for (job, image), x in zip(whole, scores, strict=True)]


def _can_write(out: epath.Path, error: UserError) -> bool:
  """Whether other images can be written, although one could not be."""
  return getattr(error.__cause__, 'errno', None) not in _DISK_ERRORS and (files.is_remote(out) or files.can_write(out))


if __name__ == '__main__':
  cli.run(main, define_flags)
