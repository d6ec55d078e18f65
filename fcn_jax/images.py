"""Pictures of labels and predictions for people: class colours, a legend, side by side."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

UNKNOWN = (0, 0, 0)  # of label 255
_GAP = 4  # pixels between pictures
_LINE = 14  # pixels a line of text


def colorize(label: np.ndarray, palette) -> np.ndarray:
  """Class numbers [H, W] as colours uint8 [H, W, 3]; what is no class is black."""
  table = np.tile(np.array(UNKNOWN, np.uint8), (256, 1))
  table[: len(palette)] = palette
  return table[label]


def comparison(examples: list[dict], classes, palette) -> bytes:
  """A PNG with a row an example: the image, its label, the prediction; the legend below.

  Each example is a dict of image uint8 [H, W, 3], label and prediction uint8 [H, W].
  """
  rows = [[e['image'], *(colorize(e[name], palette) for name in ('label', 'prediction'))] for e in examples]
  return grid(('image', 'label', 'prediction'), rows, classes, palette)


def grid(titles, rows: list[list[np.ndarray]], classes, palette) -> bytes:
  """A PNG of pictures uint8 [H, W, 3] in rows, a title above each column, the legend below."""
  width = max(row[0].shape[1] for row in rows)
  columns = [_join([_title(titles[i], width), *(row[i] for row in rows)], axis=0) for i in range(len(titles))]
  picture = _join(columns, axis=1)
  return encoded(Image.fromarray(_join([picture, legend(classes, palette, picture.shape[1])], axis=0)))


def overlay(image: np.ndarray, prediction: np.ndarray, classes, palette) -> bytes:
  """A PNG of the picture under half transparent class colours, the legend below."""
  blended = (image.astype(np.uint16) + colorize(prediction, palette)) // 2
  parts = [blended.astype(np.uint8), legend(classes, palette, max(image.shape[1], 160))]
  return encoded(Image.fromarray(_join(parts, axis=0)))


def indexed(label: np.ndarray, palette) -> bytes:
  """A PNG of class numbers [H, W] with the class colours as its palette: it looks right and reads exactly."""
  picture = Image.fromarray(label.astype(np.uint8))
  picture.putpalette(colorize(np.arange(256, dtype=np.uint8), palette).tobytes())
  return encoded(picture)


def encoded(picture: Image.Image, form: str = 'PNG') -> bytes:
  buffer = io.BytesIO()
  picture.save(buffer, form)
  return buffer.getvalue()


def legend(classes, palette, width: int) -> np.ndarray:
  """The class names beside their colours, in as many lines as `width` asks for: uint8 [H, width, 3]."""
  font, places, x, y = ImageFont.load_default(), [], 0, 0
  for name in classes:
    step = int(font.getlength(name)) + 22
    if x and x + step > width:
      x, y = 0, y + _LINE
    places.append((x, y))
    x += step
  picture = Image.new('RGB', (width, y + _LINE), 'white')
  draw = ImageDraw.Draw(picture)
  for (x, y), name, color in zip(places, classes, palette, strict=True):
    draw.rectangle((x + 1, y + 2, x + 11, y + 11), fill=tuple(color), outline='black')
    draw.text((x + 15, y + 1), name, fill='black', font=font)
  return np.asarray(picture)


def _title(text: str, width: int) -> np.ndarray:
  picture = Image.new('RGB', (width, _LINE), 'white')
  ImageDraw.Draw(picture).text((0, 1), text, fill='black')
  return np.asarray(picture)


def _join(parts: list[np.ndarray], axis: int) -> np.ndarray:
  """Pictures one after the other, a white gap between, white where one is smaller."""
  other = max(part.shape[1 - axis] for part in parts)

  def grown(part):
    pad = [(0, 0), (0, 0), (0, 0)]
    pad[axis], pad[1 - axis] = (0, _GAP), (0, other - part.shape[1 - axis])
    return np.pad(part, pad, constant_values=255)

  return np.concatenate([grown(part) for part in parts], axis)
