"""Small archives in the layout of the Stanford Background Dataset, for the tests of archives."""

import functools
import io
import re
import tarfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fcn_jax.data.builders import stanford_background

COUNT = 15  # images of the small archives, three per fold
FOLDER = 'iccv09Data'
KINDS = {'regions': 8, 'surfaces': 3}


def encode(pixels, file_format='JPEG'):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, file_format)
  return buffer.getvalue()


def text(label):
  return ''.join(' '.join(map(str, row)) + '\n' for row in label).encode()


@functools.cache
def contents():
  """A small archive in the official layout: the bytes of each member, and the labels by kind and id."""
  rng, members, labels = np.random.default_rng(0), {f'{FOLDER}/README': b'hello'}, {kind: {} for kind in KINDS}
  for number in range(COUNT):
    name, (height, width) = f'{1000 * number:07d}', rng.integers(4, 20, 2)
    members[f'{FOLDER}/images/{name}.jpg'] = encode(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    members[f'{FOLDER}/labels/{name}.layers.txt'] = b'not read'
    for kind, classes in KINDS.items():
      labels[kind][name] = label = rng.integers(-1, classes, (height, width))
      members[f'{FOLDER}/labels/{name}.{kind}.txt'] = text(label)
  return members, labels


IMAGE, REGIONS = f'{FOLDER}/images/0004000.jpg', f'{FOLDER}/labels/0004000.regions.txt'


def pack(path, changes=None, *, extra=(), mode='w:gz', prefix=''):
  """Writes the small archive: `changes` replaces members, or leaves them out (None); `extra` adds TarInfos."""
  with tarfile.open(path, mode) as archive:
    for name, data in (contents()[0] | (changes or {})).items():
      if data is not None:
        member = tarfile.TarInfo(prefix + name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    for member in extra:
      archive.addfile(member)
  return path


def build(folder, archive='', kind='regions'):
  """The builder, prepared in a folder."""
  tfds.disable_progress_bar()
  builder = stanford_background.StanfordBackground(
    archive=str(archive), config=kind, data_dir=folder, file_format='array_record'
  )
  builder.download_and_prepare()
  return builder


def read(builder, split):
  """The undecoded records of a split by id."""
  raw = {name: tfds.decode.SkipDecoding() for name in ('image', 'label')}
  source = builder.as_data_source(split, decoders=raw)
  return {source[i]['id'].decode(): source[i] for i in range(len(source))}


def pixels(record):
  return np.asarray(Image.open(io.BytesIO(record['label'])))


def left_behind(folder):
  """All files except the one in which TFDS stores the default config, and temporary folders."""
  paths = [path for path in folder.rglob('*') if path.is_file() or 'incomplete' in path.name or '.tmp.' in path.name]
  return [path for path in paths if path.parent.name != '.config']


def assert_in_order(message, *parts):
  assert re.search('.*'.join(map(re.escape, parts)), message), message
