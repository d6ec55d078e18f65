"""Labels and predictions as images for people: class colors, a legend, side by side."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

IGNORED = (0, 0, 0)  # the color of label 255
WRONG = (200, 30, 30)  # the color of a pixel that is predicted wrongly
_GAP = 4  # pixels between images
_LINE = 14  # pixels per line of text


def viewable(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
  """An RGB image uint8 [H, W, 3] from input streams [H, W, C]: the first one with three channels, else gray."""
  for x in inputs.values():
    if x.shape[-1] == 3:
      return np.asarray(x, np.uint8)
  gray = np.asarray(next(iter(inputs.values()))[..., :1], np.uint8)
  return np.repeat(gray, 3, axis=-1)


def colorize(label: np.ndarray, palette) -> np.ndarray:
  """Class numbers [H, W] as colors uint8 [H, W, 3]; labels without a class are black."""
  table = np.tile(np.array(IGNORED, np.uint8), (256, 1))
  table[: len(palette)] = palette
  return table[label]


def comparison(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], classes, palette) -> bytes:
  """A PNG with one row per example (image uint8 [H, W, 3], label and prediction uint8 [H, W]), and a legend below."""
  colored = [[image, *(colorize(x, palette) for x in (label, prediction))] for image, label, prediction in rows]
  return grid(('image', 'label', 'prediction'), colored, classes, palette)


def grid(titles, rows: list[list[np.ndarray]], classes, palette) -> bytes:
  """A PNG of images uint8 [H, W, 3] in rows, with a title above each column and a legend below."""
  width = max(row[0].shape[1] for row in rows)
  columns = [_join([_title(titles[i], width), *(row[i] for row in rows)], axis=0) for i in range(len(titles))]
  image = _join(columns, axis=1)
  return encoded(Image.fromarray(_join([image, legend(classes, palette, image.shape[1])], axis=0)))


def overlay(image: np.ndarray, prediction: np.ndarray, classes, palette) -> bytes:
  """A PNG of the image uint8 [H, W, 3] under half-transparent class colors, with a legend below."""
  blended = (image.astype(np.uint16) + colorize(prediction, palette)) // 2
  parts = [blended.astype(np.uint8), legend(classes, palette, max(image.shape[1], 160))]
  return encoded(Image.fromarray(_join(parts, axis=0)))


def errors(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, ignore: int) -> np.ndarray:
  """The image uint8 [H, W, 3] in light gray, with wrong pixels in red and pixels without a label in black."""
  shown = np.repeat(155 + image.mean(-1, keepdims=True) * 0.4, 3, -1).astype(np.uint8)
  shown[prediction != label] = WRONG
  shown[label == ignore] = IGNORED
  return shown


def indexed(label: np.ndarray, palette) -> bytes:
  """A PNG of class numbers [H, W] whose palette is the class colors: readable for people, exact for programs."""
  image = Image.fromarray(label.astype(np.uint8))
  image.putpalette(colorize(np.arange(256, dtype=np.uint8), palette).tobytes())
  return encoded(image)


def encoded(image: Image.Image, form: str = 'PNG', **options) -> bytes:
  """The image as the bytes of a file; `options` are those of pillow's `save`."""
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


def legend(classes, palette, width: int) -> np.ndarray:
  """The class names with their colors, in as many lines as `width` pixels require: uint8 [H, width, 3]."""
  font, places, x, y = ImageFont.load_default(), [], 0, 0
  for name in classes:
    step = int(font.getlength(name)) + 22
    if x and x + step > width:
      x, y = 0, y + _LINE
    places.append((x, y))
    x += step
  image = Image.new('RGB', (width, y + _LINE), 'white')
  draw = ImageDraw.Draw(image)
  for (x, y), name, color in zip(places, classes, palette, strict=True):
    draw.rectangle((x + 1, y + 2, x + 11, y + 11), fill=tuple(color), outline='black')
    draw.text((x + 15, y + 1), name, fill='black', font=font)
  return np.asarray(image)


def _title(text: str, width: int) -> np.ndarray:
  image = Image.new('RGB', (width, _LINE), 'white')
  ImageDraw.Draw(image).text((0, 1), text, fill='black')
  return np.asarray(image)


def _join(parts: list[np.ndarray], axis: int) -> np.ndarray:
  """Images one after the other along an axis, with a white gap between them and white where one is smaller."""
  other = max(part.shape[1 - axis] for part in parts)

  def grown(part):
    pad = [(0, 0), (0, 0), (0, 0)]
    pad[axis], pad[1 - axis] = (0, _GAP), (0, other - part.shape[1 - axis])
    return np.pad(part, pad, constant_values=255)

  return np.concatenate([grown(part) for part in parts], axis)
