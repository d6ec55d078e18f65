"""What people look for in confusion matrices: the worst images of a split, and which classes are confused."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcn_jax import images

COLUMNS = ('id', 'mean_iou', 'pixel_accuracy', 'confused_label', 'confused_prediction', 'confused_pixels')

_EMPTY, _FULL, _UNLABELED = (255, 255, 255), (8, 48, 107), (225, 225, 225)  # colors of the shares 0 and 1, and of none
_FEW = 32  # classes, up to which the cells have room for numbers
_NAME = 32  # characters of a class name


def images_csv(ids: Sequence[str], matrices: np.ndarray, names: Sequence[str]) -> bytes:
  """A CSV with one line per image, from the worst mean IoU to the best; images without a labeled pixel come last.

  The most confused pair is the label and the prediction that most of the wrong pixels have, and the number of these
  pixels. It is empty if no pixel is wrong; the scores are empty if no pixel is labeled.

  Args:
    ids: of the N images.
    matrices: integers [N, C, C].
    names: of the C classes.
  """
  mean_iou, accuracy = of_images(matrices)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(COLUMNS)
  for index in np.argsort(mean_iou, kind='stable'):  # NaN comes last
    scores = ['' if np.isnan(x) else f'{x:.6f}' for x in (mean_iou[index], accuracy[index])]
    writer.writerow([ids[index], *scores, *_confused(matrices[index], names)])
  return text.getvalue().encode(errors='surrogateescape')  # an id may be the name of a file that is not UTF-8


def of_images(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean IoU and pixel accuracy of each image, as in `metrics.summarize`, from integers [N, C, C]: two arrays [N].

  They are NaN for an image without a labeled pixel.
  """
  correct, labeled, predicted = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2), matrices.sum(1)
  union = labeled + predicted - correct
  with np.errstate(invalid='ignore'):  # 0 / 0 is NaN
    mean_iou = (correct / np.maximum(union, 1)).sum(1) / (union > 0).sum(1)
    return mean_iou, correct.sum(1) / labeled.sum(1)


def _confused(matrix: np.ndarray, names: Sequence[str]) -> tuple:
  """The most confused pair of an image: label, prediction and the number of pixels; empty if no pixel is wrong."""
  wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
  label, prediction = np.unravel_index(wrong.argmax(), wrong.shape)
  return (names[label], names[prediction], wrong.max()) if wrong.any() else ('', '', '')


def drawn(matrix: np.ndarray, names: Sequence[str]) -> bytes:
  """A PNG of a confusion matrix [C, C]: one row per label, one column per prediction; the cells of a row add up to 1.

  The darker a cell is, the larger is the share of the pixels with this label that have this prediction. Up to 32
  classes, cells have the share as a percentage. A row is gray if no pixel has its label.
  """
  pixels, side = matrix.sum(1, keepdims=True), 34 if len(names) <= _FEW else 15
  shares = matrix / np.maximum(pixels, 1)
  colors = np.array(_EMPTY) + shares[..., None] * (np.array(_FULL) - np.array(_EMPTY))
  colors = np.where(pixels[..., None] > 0, colors.round(), _UNLABELED).astype(np.uint8)
  cells = colors.repeat(side, 0).repeat(side, 1)
  cells[side - 1 :: side], cells[:, side - 1 :: side] = 200, 200  # lines between the cells
  font = ImageFont.load_default()
  short = [name if len(name) <= _NAME else f'{name[: _NAME - 3]}...' for name in names]
  texts = [_text(name, font) for name in short]
  title = _text('rows: labels, columns: predictions, in % of the pixels with the label', font)
  margin = max(text.width for text in texts) + 8
  top = margin + title.height + 8
  whole = Image.new('RGB', (max(margin + cells.shape[1], title.width) + 8, top + cells.shape[0] + 8), 'white')
  whole.paste(Image.fromarray(cells), (margin, top))
  whole.paste(title, (4, 2))
  for number, text in enumerate(texts):
    middle = number * side + (side - text.height) // 2
    whole.paste(text, (margin - 4 - text.width, top + middle))
    whole.paste(text.transpose(Image.Transpose.ROTATE_90), (margin + middle, top - 4 - text.width))
  if len(names) <= _FEW:
    draw = ImageDraw.Draw(whole)
    for row, column in np.argwhere(shares >= 0.005):
      place = (margin + (column + 0.5) * side, top + (row + 0.5) * side)
      fill = 'white' if shares[row, column] > 0.5 else 'black'
      draw.text(place, f'{100 * shares[row, column]:.0f}', fill=fill, font=font, anchor='mm')
  return images.encoded(whole)


def _text(text: str, font) -> Image.Image:
  """A line of text, black on white."""
  image = Image.new('RGB', (int(font.getlength(text)) + 2, 13), 'white')
  ImageDraw.Draw(image).text((1, 0), text, fill='black', font=font)
  return image
