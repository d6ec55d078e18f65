"""Segments images with a trained run, or with a weights file.

  python -m fcn_jax.predict --workdir=runs/fcn16s-scenes photo.jpg folder/ --out=predictions
  python -m fcn_jax.predict --config=experiments/fcn8s.py:voc2011 --config.model.geometry=caffe \\
    --weights=fcn8s-heavy-pascal.caffemodel photo.jpg

Writes OUT/NAME.png and OUT/NAME.overlay.png for each image. --save=labels,gray,... chooses other outputs:
  labels         OUT/NAME.png          class numbers, with the class colors as palette
  probabilities  OUT/NAME.npz          `probabilities` float32 [H, W, C], and `classes`, their names
  gray           OUT/NAME.gray.png     class numbers as 8-bit gray: cv2.imread(FILE, 0) would turn a palette into colors
  overlay        OUT/NAME.overlay.png  the image overlaid with the class colors, and a legend
  scores         OUT/NAME.scores.npz   `scores` float32 [H, W, C], before the softmax
  heatmaps       OUT/NAME.CLASS.png    the probability of each class, as 8-bit gray

--heatmaps adds heatmaps and probabilities, --save_scores adds scores. If the network has several heads, these are the
outputs of the first one; those of every other head are called OUT/NAME.HEAD.png and so on.

NAME is the name of the image without its ending; images in subfolders keep their relative paths. Where two images would
have the same outputs, or an output would be an image or the weights file, NAME keeps the ending (0001.jpg and
0001.png) or the folder (day1/0001.jpg and day2/0001.jpg). Names that are too long are shortened with a hash.

A run with data.resize resizes images as in training; outputs have the size of the original image.

Images are JPEG, PNG, WebP, TIFF, BMP, GIF, JPEG 2000 and PNM files, found in folders by their endings. Hidden files and
folders, __MACOSX and earlier predictions in folders are left out. A run that was trained on a folder of TIFF or NPY
files with other channels, or more than 8 bits, reads files of that kind.

An output that exists is kept, also if another image or network made it, and an image with all outputs is skipped;
--overwrite makes them again. An image that cannot be read, or whose forward pass does not fit the memory, is reported,
and the others are segmented. The last lines have the numbers of files that were written, by name, and of images that
are done, skipped and failed; the exit code is 1 if any failed.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import errno
import itertools
import logging
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags
from etils import epath

from fcn_jax import cli, files, images, predict_files, predict_jobs, predict_outputs
from fcn_jax.data.dataset import Classes
from fcn_jax.data.folder.reader import Reader
from fcn_jax.errors import UserError
from fcn_jax.predict_jobs import Job, Tally

logger = logging.getLogger('fcn_jax.predict')  # here `__name__` is '__main__'

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # which no other image would be spared


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Run directory of a trained network, whose preprocessing is used.')
  flags.DEFINE_string('weights', None, 'Weights file to use instead of a run; --config describes the network.')
  flags.DEFINE_string('out', 'predictions', 'Folder to write to.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint to use.')
  flags.DEFINE_list('save', None, f'Outputs, some of {",".join(predict_outputs.KINDS)}. Default: labels,overlay.')
  flags.DEFINE_bool(
    'heatmaps', False, 'Also write the probability of each class: adds heatmaps,probabilities to --save.'
  )
  flags.DEFINE_bool('save_scores', False, 'Also write the scores before the softmax: adds scores to --save.')
  flags.DEFINE_bool('overwrite', False, 'Make outputs that exist again.')


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  has_config = given['config'].value is not None
  if bool(given.workdir) == has_config or bool(given.weights) != has_config:
    raise UserError('nothing to predict with; expected --workdir=RUN, or both --config=... and --weights=FILE')
  if not arguments:
    raise UserError('no images; expected files or folders, for example photo.jpg folder/')
  tally, out = Tally(), files.path(given.out)
  kinds = predict_outputs.kinds(given.save, heatmaps=given.heatmaps, scores=given.save_scores)
  reader, heads = of_network(given)
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
  if sizes and (jobs := plan(found.sources, sizes, out, heads, kinds, given, tally)):
    segment(jobs, reader, out, given, tally)
  tally.show(out)
  sys.exit(1 if tally.failed else 0)


def plan(
  sources,
  sizes: dict[str, tuple[int, int]],
  out: epath.Path,
  heads: Mapping[str, Classes],
  kinds: Sequence[str],
  given,
  tally: Tally,
) -> list[Job]:
  """The images that have outputs of these kinds to write; the others are counted as skipped, or failed."""
  suffixes = predict_outputs.suffixes(heads)
  outputs = {head: predict_outputs.endings(heads[head].names, suffix) for head, suffix in suffixes.items()}
  every = [
    f'{suffixes[h]}.{ending}'[1:] for h, of_head in outputs.items() for ending in itertools.chain(*of_head.values())
  ]
  others = [given.weights, cli.config_path()] if given.weights else []
  names = predict_files.Names(sources, out, every, others).choose()
  jobs = []
  for key, size in sizes.items():
    missing: dict[str, dict[str, str]] = {head: {} for head in heads}
    kept = tally.kept
    try:
      for head, of_head in outputs.items():
        for ending, name in itertools.chain(*(of_head[kind].items() for kind in kinds)):
          if given.overwrite or not files.exists(out / f'{names[key]}{suffixes[head]}.{ending}'):
            missing[head][ending] = name
          else:
            kept += 1
    except UserError as error:
      tally.fail(error)
      continue
    tally.kept = kept
    if any(missing.values()):
      jobs.append(Job(sources[key].path, size, names[key], missing))
    else:
      tally.skipped += 1
  return jobs


def of_network(given) -> tuple[Reader, Mapping[str, Classes]]:
  """What reads images for the network, and the classes of its heads, without importing jax.

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
  return Reader(data, inputs), heads


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
  suffixes = predict_outputs.suffixes(predictor.heads)
  jobs = [job for job in jobs if predict_jobs.fits(job, predictor, tally)]
  total = tally.failed + len(jobs)
  with progress.Counter(len(jobs)) as bar:
    for canvas, count, members in predictor.batches(np.array([job.size for job in jobs])):
      for job, image, scores in _computed([jobs[i] for i in members], predictor, reader, canvas, count, tally):
        try:
          shown = images.viewable({'': image})
          for head, outputs in job.outputs.items():
            stem = out / f'{job.name}{suffixes[head]}'
            for ending in predict_outputs.write(stem, outputs, shown, scores[head], predictor.heads[head]):
              tally.written[outputs[ending]] += 1
          tally.done += 1
        except UserError as error:
          if not _can_write(out, error):
            tally.failed = total - tally.done  # none of the others can be written
            tally.show(out)
            raise
          tally.fail(error)
        except MemoryError:
          tally.fail(predict_jobs.no_memory(job))
      for _ in members:
        bar.advance()


def _computed(jobs: list[Job], predictor, reader: Reader, canvas: tuple[int, int], count: int, tally: Tally):
  """The images of a batch that can be read: job, image uint8 [H, W, C], and scores of each head [H, W, C]."""
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
      tally.fail(predict_jobs.no_memory(job))
    return []
  return [(job, image, x) for (job, image), x in zip(whole, scores, strict=True)]


def _can_write(out: epath.Path, error: UserError) -> bool:
  """Whether other images can be written, although one could not be."""
  return getattr(error.__cause__, 'errno', None) not in _DISK_ERRORS and (files.is_remote(out) or files.can_write(out))


if __name__ == '__main__':
  cli.run(main, define_flags)
