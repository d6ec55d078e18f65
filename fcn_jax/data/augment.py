"""How training images are changed: jitter, scale, crop or pad, flip, brightness, contrast, saturation."""

import numpy as np
from PIL import Image, ImageStat

from fcn_jax.data.dataset import IGNORE, Example

GRAY = (0.299, 0.587, 0.114)  # weights of R, G and B (ITU-R 601), as in pillow


def augment(example: Example, rng: np.random.Generator, data) -> dict:
  """Augments one training example; a pure function of its arguments.

  The same geometric change is applied to all streams and all heads. Brightness, contrast and saturation are applied to
  the stream 'rgb' only.

  Args:
    example: with inputs, uint8 [H, W, C] by stream, and labels, uint8 [H, W] by head.
    rng: the source of randomness.
    data: the section `data` of the config.

  Returns:
    The example on a canvas of `data.train_size`: see `on_canvas`.
  """
  inputs, labels = example['inputs'], example['labels']
  height, width = next(iter(inputs.values())).shape[:2]
  if data.jitter:
    window = tuple(_shifted(length, data.jitter, rng) for length in (height, width))
    inputs, labels = ({name: x[window] for name, x in arrays.items()} for arrays in (inputs, labels))
    height, width = next(iter(inputs.values())).shape[:2]
  size, box = _scale_and_crop((width, height), rng, data.scale, data.train_size)
  flip = rng.random() < data.flip

  def moved(pixels: np.ndarray, resampling) -> Image.Image:
    image = Image.fromarray(pixels).resize(size, resampling, box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image

  def moved_stream(name: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[-1] != 3:
      return np.stack([moved(channel, Image.Resampling.BILINEAR) for channel in np.moveaxis(pixels, -1, 0)], axis=-1)
    image = moved(pixels, Image.Resampling.BILINEAR)
    return np.asarray(_randomly_recolored(image, rng, data) if name == 'rgb' else image)

  inputs = {name: moved_stream(name, pixels) for name, pixels in inputs.items()}
  # Class numbers cannot be interpolated.
  labels = {name: np.asarray(moved(label, Image.Resampling.NEAREST)) for name, label in labels.items()}
  return on_canvas(inputs, labels, data.train_size)


def on_canvas(inputs: dict[str, np.ndarray], labels: dict[str, np.ndarray], canvas: tuple[int, int]) -> dict:
  """An image in the top left of a canvas (height, width) that is at least as large.

  Args:
    inputs: uint8 [h, w, C] by stream.
    labels: uint8 [h, w] by head; may be empty.
    canvas: height H and width W.

  Returns:
    inputs, uint8 [H, W, C] by stream, padded with 0; labels, uint8 [H, W] by head, padded with 255; size, int32 [2],
    h and w.
  """
  height, width = next(iter(inputs.values())).shape[:2]
  bottom_right = (0, canvas[0] - height), (0, canvas[1] - width)
  return {
    'inputs': {name: np.pad(x, (*bottom_right, (0, 0))) for name, x in inputs.items()},
    'labels': {name: np.pad(x, bottom_right, constant_values=IGNORE) for name, x in labels.items()},
    'size': np.array((height, width), np.int32),
  }


def recolored(image: Image.Image, brightness: float, contrast: float, color: float) -> Image.Image:
  """An RGB image changed by these factors, like pillow's `ImageEnhance` applied in this order; 1 changes nothing.

  Each change is affine in the color of a pixel, and so is their composition. One pass takes a quarter of the time of
  three, and rounds and clips only at the end.
  """
  matrix = brightness * contrast * (color * np.eye(3) + (1 - color) * np.array(GRAY))
  offset = brightness * (1 - contrast) * ImageStat.Stat(image.convert('L')).mean[0]
  return image.convert('RGB', [x for row in matrix for x in (*row, offset)])


def _randomly_recolored(image: Image.Image, rng, data) -> Image.Image:
  amounts = data.brightness, data.contrast, data.color
  return recolored(image, *(rng.uniform(1 - x, 1 + x) for x in amounts)) if any(amounts) else image


def _shifted(length: int, most: int, rng) -> slice:
  """The part of one axis that stays in view if an image is shifted by up to `most` pixels (CVPR 2015, section 4.3).

  The area that becomes free has no label, and the network masks it. So the shift is a crop at the side that leaves the
  view. The rest is placed in the top left of the canvas, like every image.
  """
  most = min(most, length - 1)
  shift = int(rng.integers(-most, most + 1))
  return slice(max(-shift, 0), length - max(shift, 0))


def _scale_and_crop(shape, rng, scale, canvas) -> tuple[list[int], tuple]:
  """A random scale, and a random crop if the scaled image is larger than the canvas; one resampling does both.

  Args:
    shape: width and height of the image.
    rng: the source of randomness.
    scale: smallest and largest scale.
    canvas: height and width of the canvas.

  Returns:
    The size to resample to, [width, height], and the box of the image to resample, (left, top, right, bottom).
  """
  factor = np.exp(rng.uniform(*np.log(scale)))  # halving is as likely as doubling
  box, size = [], []
  for length, room in zip(shape, reversed(canvas), strict=True):  # width, then height, like pillow
    size.append(min(room, max(1, round(length * factor))))
    window = min(length, size[-1] / factor)
    start = rng.uniform(0, length - window)
    # If the scale does not change, the window starts at a whole pixel, so that nothing is resampled.
    start = round(start) if factor == 1 else start
    box.append((start, start + window))
  return size, (box[0][0], box[1][0], box[0][1], box[1][1])
