"""Contents of image files for the tests of reading them: of any format, and of kinds that pillow does not write."""

import io
import struct
import zlib

from PIL import Image

# Formats, with pillow's options for saving the exact pixels.
SAVED = {
  'PNG': {},
  'WEBP': {'lossless': True},
  'TIFF': {},
  'TIFF, LZW': {'compression': 'tiff_lzw'},
  'TIFF, two pages': {'save_all': True, 'append_images': [Image.new('RGB', (3, 3))]},
  'BMP': {},
  'JPEG2000': {'irreversible': False},
  'PPM': {},
}


def encoded(image, form, **options) -> bytes:
  image = image if isinstance(image, Image.Image) else Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, form.split(',')[0], **options)
  return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
  """A chunk of a PNG."""
  return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(width, height, bits, kind, rows: bytes, *chunks: bytes) -> bytes:
  """A PNG of any kind; `rows` have a zero in front of each row."""
  header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0))
  pixels = chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + header + b''.join(chunks) + pixels


def tiff(width, bits, pixels: bytes, *, sample=1, photometric=1, samples=1, height=1, planes=1) -> bytes:
  """A TIFF with the pixels of one row; `sample` is 1 for unsigned integers, 2 for signed ones, 3 for floats."""
  tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: samples, 278: 1}
  tags |= {279: len(pixels), 284: planes, 339: sample}
  entries = b''.join(struct.pack('<HHII', tag, 4 if tag in (273, 279) else 3, 1, x) for tag, x in tags.items())
  return b'II*\0' + struct.pack('<I', 8 + len(pixels)) + pixels + struct.pack('<H', len(tags)) + entries + b'\0' * 4
