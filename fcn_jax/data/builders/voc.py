"""PASCAL VOC segmentation and SBD, which has masks for more of VOC's images: what their builders have in common.

Everingham et al.: The PASCAL Visual Object Classes Challenge, IJCV 2010. Hariharan et al.: Semantic Contours from
Inverse Detectors, ICCV 2011. Archives are checked as they are read; TFDS installs a data set only once all of it is
written.
"""

import io
import re
from collections.abc import Iterable

import numpy as np
import scipy.io
from etils import epath
from PIL import Image

from fcn_jax import image_files
from fcn_jax.data import archives, palettes, records
from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.errors import UserError
from fcn_jax.images import encoded

NAMES = (
  *('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow'),
  *('dining table', 'dog', 'horse', 'motorbike', 'person', 'potted plant', 'sheep', 'sofa', 'train', 'tv monitor'),
)


CLASSES = Classes(NAMES, tuple(map(palettes.voc_color, range(len(NAMES)))))

URLS = {
  2011: 'http://host.robots.ox.ac.uk/pascal/VOC/voc2011/VOCtrainval_25-May-2011.tar',
  2012: 'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar',
}
SBD_URL = 'http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz'
# Number of images in each list.
COUNTS = {2011: {'train': 1112, 'val': 1111}, 2012: {'train': 1464, 'val': 1449}, 'sbd': {'train': 8498, 'val': 2857}}


def load(builder_class: type, data):
  """The data set of one of the builders, prepared in `data.dir` if necessary: see `dataset.load`."""
  return records.load_builder(builder_class, {'train': 'train', 'validation': 'val'}, data, CLASSES)


def describe(data):
  """Streams and heads, which depend on no setting: see `dataset.describe`."""
  return records.INPUTS, {records.HEAD: CLASSES}


class Builder(archives.Builder, skip_registration=True):
  """The base of the builders."""

  def voc(self, dl_manager, year: int, lists: Iterable[str] = ('train', 'val')) -> dict[str, list[dict]]:
    """The examples of these lists of VOC, by list."""
    return self.read_archive(dl_manager, 'archive', URLS[year], lambda path: read_voc(path, year, lists))

  def sbd(self, dl_manager, lists: Iterable[str] = ('train', 'val')) -> dict[str, list[dict]]:
    """The examples of these lists of SBD, by list."""
    return self.read_archive(dl_manager, 'sbd_archive', SBD_URL, lambda path: read_sbd(path, lists))


def read_voc(path: epath.Path, year: int, lists: Iterable[str]) -> dict[str, list[dict]]:
  """The segmentation examples of a VOC archive, checked.

  Args:
    path: a tar archive that contains VOCdevkit/VOCYEAR/ with JPEGImages/ID.jpg, SegmentationClass/ID.png and
      ImageSets/Segmentation/LIST.txt.
    year: 2011 or 2012.
    lists: one or both of train and val.

  Returns:
    By list, in its order: image, the bytes of the JPEG; label, a grayscale PNG with 255 for the border; id.

  Raises:
    UserError: there is no such archive, or its contents are wrong. The message names the file and what was expected.
  """
  root = rf'(?:TrainVal/)?VOCdevkit/VOC{year}'
  ids = _lists(path, f'{root}/ImageSets/Segmentation', lists, COUNTS[year], URLS[year])
  return _examples(path, ids, root, 'JPEGImages', 'SegmentationClass', image_files.read_mask, URLS[year])


def read_sbd(path: epath.Path, lists: Iterable[str]) -> dict[str, list[dict]]:
  """Like `read_voc`, of SBD's archive: benchmark_RELEASE/dataset/ with img/ID.jpg, cls/ID.mat and LIST.txt."""
  root = 'benchmark_RELEASE/dataset'
  ids = _lists(path, root, lists, COUNTS['sbd'], SBD_URL)
  return _examples(path, ids, root, 'img', 'cls', _parse_mat, SBD_URL)


def _lists(path, folder: str, lists: Iterable[str], counts: dict[str, int], url: str) -> dict[str, list[str]]:
  """The ids in each list, from the files LIST.txt in a folder of the archive."""
  pattern = re.compile(rf'{folder}/({"|".join(lists)})\.txt')
  found = {name: [] for name in lists}
  for name, content in archives.members(path, pattern, url):
    found[pattern.fullmatch(name).group(1)] = content.decode('ascii', 'replace').split()
  for name, ids in found.items():
    if not len(ids) == len(set(ids)) == counts[name]:
      raise UserError(f'{path} lists {len(set(ids))} images for {name}; expected {counts[name]}, as in {url}')
    if strange := [i for i in ids if not re.fullmatch(r'\w+', i, re.ASCII)]:
      raise UserError(f'{path} lists the image {strange[0]!r} for {name}; expected names like 2007_000033')
  return found


def _examples(path, ids: dict, root: str, images: str, masks: str, parse, url: str) -> dict[str, list[dict]]:
  """The checked examples of each list, from the files in the folders `images` and `masks` of `root`."""
  wanted = '|'.join(name for names in ids.values() for name in names)
  pattern = re.compile(rf'{root}/({images}|{masks})/({wanted})\.(?:jpg|png|mat)')
  # Name in the archive and content, by folder and id.
  files = {pattern.fullmatch(name).groups(): (name, data) for name, data in archives.members(path, pattern, url)}
  examples = {listed: [] for listed in ids}
  for listed, name in ((listed, name) for listed, names in ids.items() for name in names):
    for folder in (images, masks):
      if (folder, name) not in files:
        raise UserError(f'{path} has no file for {name} in {folder}, but {name} is in its list {listed}')
    (image, jpeg), (mask, content) = files[images, name], files[masks, name]
    size = archives.size_of_jpeg(jpeg, where=f'{path}: {image}')
    label = parse(content, f'{path}: {mask}')
    if label.shape != size:
      raise UserError(f'{path}: {mask} is {list(label.shape)}; expected {list(size)}, like {image}')
    if (wrong := label[(label >= len(CLASSES)) & (label != IGNORE)]).size:
      raise UserError(f'{path}: {mask} has the class {wrong[0]}; expected 0 to {len(CLASSES) - 1}, or 255')
    examples[listed].append({'image': jpeg, 'label': encoded(Image.fromarray(label)), 'id': name})
  return examples


def _parse_mat(content: bytes, where: str) -> np.ndarray:
  """GTcls.Segmentation of a Matlab file as uint8 [H, W]."""
  try:
    found = scipy.io.loadmat(io.BytesIO(content), variable_names=['GTcls'])
    label = found['GTcls']['Segmentation'][0, 0]
  except Exception as error:  # scipy raises many kinds for damaged files
    raise UserError(f'{where} cannot be read as a Matlab file with GTcls.Segmentation: {error!r:.200}') from error
  if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer) or (label.size and not 0 <= label.min() <= 255):
    raise UserError(f'{where}: GTcls.Segmentation is {label.dtype} {list(label.shape)}; expected class numbers [H, W]')
  return label.astype(np.uint8)
