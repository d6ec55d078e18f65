"""How a training picture is changed: jitter, flip, scale, crop or pad, brightness, contrast, saturation."""

import numpy as np
from PIL import Image, ImageStat

from fcn_jax.data.dataset import IGNORE

GREY = (0.299, 0.587, 0.114)  # of R, G and B (ITU-R 601), as pillow has it


def augment(image: np.ndarray, label: np.ndarray, rng: np.random.Generator, data) -> dict:
  """One training example, a function of its arguments alone.

  Args:
    image: uint8 [H, W, 3].
    label: uint8 [H, W].
    rng: the randomness.
    data: the section `data` of the config.

  Returns:
    image uint8 [*data.train_size, 3] and label uint8 [*data.train_size], the picture in the top left, zeros and 255
    where it does not reach; size int32 [2], its height and width there.
  """
  if data.jitter:
    kept = tuple(_shifted(length, data.jitter, rng) for length in label.shape)
    image, label = image[kept], label[kept]
  image, label = Image.fromarray(image), Image.fromarray(label)
  image, label = _scale_and_crop(image, label, rng, data.scale, data.train_size)
  if rng.random() < data.flip:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    label = label.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  amounts = data.brightness, data.contrast, data.color
  if any(amounts):
    image = recolored(image, *(rng.uniform(1 - x, 1 + x) for x in amounts))
  return on_canvas(np.asarray(image), np.asarray(label), data.train_size)


def on_canvas(image: np.ndarray, label: np.ndarray, canvas: tuple[int, int]) -> dict:
  """A picture in the top left of a canvas (height, width) that holds it, as `augment` returns it."""
  height, width = label.shape
  bottom_right = (0, canvas[0] - height), (0, canvas[1] - width)
  return {
    'image': np.pad(image, (*bottom_right, (0, 0))),
    'label': np.pad(label, bottom_right, constant_values=IGNORE),
    'size': np.array((height, width), np.int32),
  }


def recolored(image: Image.Image, brightness: float, contrast: float, color: float) -> Image.Image:
  """What pillow's `ImageEnhance` makes of an RGB image by these factors, one after the other; 1 changes nothing.

  Each is affine in a pixel's colour, and so are all three together. One pass takes a quarter of the time of three, and
  rounds and cuts off only at the end.
  """
  matrix = brightness * contrast * (color * np.eye(3) + (1 - color) * np.array(GREY))
  offset = brightness * (1 - contrast) * ImageStat.Stat(image.convert('L')).mean[0]
  return image.convert('RGB', [x for row in matrix for x in (*row, offset)])


def _shifted(length: int, most: int, rng) -> slice:
  """What stays in view of one axis when a picture is moved by up to so many pixels either way (CVPR'15, section 4.3).

  The place that becomes free is not labelled, and the network masks it, so the move is a crop at the side that leaves
  the view; what stays stands in the top left as ever.
  """
  most = min(most, length - 1)
  shift = int(rng.integers(-most, most + 1))
  return slice(max(-shift, 0), length - max(shift, 0))


def _scale_and_crop(image, label, rng, scale, canvas):
  """The pictures at a random scale, cropped at random where the canvas is smaller; one resampling does both."""
  factor = np.exp(rng.uniform(*np.log(scale)))  # halving is as likely as doubling
  box, size = [], []
  for length, room in zip(image.size, reversed(canvas), strict=True):  # width, then height, as pillow has it
    size.append(min(room, max(1, round(length * factor))))
    window = min(length, size[-1] / factor)
    start = rng.uniform(0, length - window)
    # Without a change of scale the window lies on whole pixels, so that nothing is resampled.
    start = round(start) if factor == 1 else start
    box.append((start, start + window))
  box = (box[0][0], box[1][0], box[0][1], box[1][1])
  return (
    image.resize(size, Image.Resampling.BILINEAR, box),
    label.resize(size, Image.Resampling.NEAREST, box),  # class numbers have no in-between
  )
