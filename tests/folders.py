"""Folders of small images and masks, for the tests of the folder data set."""

import importlib
import pathlib
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

from fcn_jax import config
from fcn_jax.data import dataset, folder

SIZE = (6, 8)  # height and width


def image(seed=0, size=SIZE) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def mask(classes=3, size=SIZE) -> np.ndarray:
  """All classes, one after another."""
  return (np.arange(size[0] * size[1]) % classes).astype(np.uint8).reshape(size)


LABELS = mask(3)
RGB = np.array([[128, 64, 128], [0, 0, 0], [0, 0, 142]], np.uint8)  # colors of three classes
VOC = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)


def save(path: pathlib.Path, content) -> pathlib.Path:
  """Writes an array, a pillow image, text or bytes, in the format that the ending names."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif isinstance(content, str):
    path.write_text(content)
  elif path.suffix.lower() == '.npy':
    np.save(path, content)
  elif path.suffix.lower() in ('.tif', '.tiff'):
    tifffile.imwrite(path, content)
  else:
    (content if isinstance(content, Image.Image) else Image.fromarray(content)).save(path)
  return path


def make(root: pathlib.Path, images, masks=(), **others) -> pathlib.Path:
  """A folder of images and masks with these names, each image another one."""
  for seed, name in enumerate(images.split() if isinstance(images, str) else images):
    save(root / name, image(seed))
  for name in masks.split() if isinstance(masks, str) else masks:
    save(root / name, mask())
  return root


def pairs(root: pathlib.Path, count=4, masks=None) -> pathlib.Path:
  """images/ and masks/ with `count` pairs; `masks` replaces their masks."""
  for number in range(count):
    save(root / f'images/{number}.png', image(number))
    save(root / f'masks/{number}.png', mask() if masks is None else masks)
  return root


def settings(root, **fields):
  """The section `data` of a config, with the cache next to the folder."""
  data = config.default('folder').data
  data.folder, data.threads = str(root), 2
  data.dir = str(pathlib.Path(root).absolute().parent / 'prepared')
  data.update(fields)
  return data


def measured(root, **fields):
  """The same with the settings that are measured at the start of a run, and these."""
  data = settings(root, **fields)
  found = folder.resolve(data)
  data.update({name.removeprefix('data.'): value for name, value in found.items() if name.startswith('data.')})
  return data, found


def load(root, **fields) -> dataset.Data:
  return dataset.load(settings(root, **fields))


def ids(root, **fields) -> dict[str, list[str]]:
  return {name: sorted(split.ids()) for name, split in load(root, **fields).splits.items()}


def examples(data: dataset.Data) -> dict:
  """All examples by id: the input, the label."""
  found = (split[i] for split in data.splits.values() for i in range(len(split)))
  return {x['id']: (next(iter(x['inputs'].values())), x['labels']['semantic']) for x in found}


def with_mask(root, ending, content, count=5):
  """A folder whose masks all have this content."""
  for number in range(count):
    save(root / f'images/{number}.png', image(number))
    save(root / f'masks/{number}{ending}', content)
  return root


def labels_of(root, **fields):
  """The label of the only content, and the classes."""
  data = load(root, **fields)
  (label, *others) = [label for _, label in examples(data).values()]
  assert all((label == other).all() for other in others) and label.dtype == np.uint8
  return label, data.heads['semantic']


def unsampled(root, monkeypatch) -> str:
  """An id, of one of the training images of `pairs`, that is not looked at before it is read."""
  module = importlib.import_module('fcn_jax.data.folder.load')
  found = module.open_folder(settings(root))
  monkeypatch.setattr(module, 'SAMPLE', 1)
  sampled = {pair.id for part in (found.layout.pairs, found.splits['train']) for pair in module.sampled(part, 1)}
  sampled |= {found.splits['train'][0].id}  # whose header is read
  return next(pair.id for pair in found.splits['train'] if pair.id not in sampled)


def png(values: np.ndarray, bits: int, palette: bytes = b'') -> bytes:
  """A PNG of gray, or of a palette, with 1, 2, 4, 8 or 16 bits per pixel, as the specification has it."""

  def chunk(kind, content):
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

  rows = b''
  for row in values:
    text = ''.join(f'{value:0{bits}b}' for value in row)
    rows += b'\0' + bytes(int(text[i : i + 8].ljust(8, '0'), 2) for i in range(0, len(text), 8))
  header = struct.pack('>IIBBBBB', values.shape[1], values.shape[0], bits, 3 if palette else 0, 0, 0, 0)
  parts = [chunk(b'IHDR', header), chunk(b'PLTE', palette) if palette else b'', chunk(b'IDAT', zlib.compress(rows))]
  return b'\x89PNG\r\n\x1a\n' + b''.join(parts) + chunk(b'IEND', b'')
