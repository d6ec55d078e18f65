"""The Python API: `load_run` gives a trained network that predicts, `build_model` a new one."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from fcn_jax import config as config_lib
from fcn_jax import files, machine, models
from fcn_jax.config import normalization
from fcn_jax.data import augment, canvases, resizing
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError, nearest
from fcn_jax.models import cost, names, upsample
from fcn_jax.run import checkpoint as checkpoints
from fcn_jax.run import saved
from fcn_jax.weights import match

# The networks that `build_model` makes, as settings of the section `model`.
MODELS: dict[str, dict[str, Any]] = {
  'fcn32s': {'stride': 32},
  'fcn16s': {'stride': 16},
  'fcn8s': {'stride': 8},
  'unet': {'name': 'unet'},
}
CHECKPOINTS = ('last', 'best')
BATCH_PIXELS = 2**20  # largest total of the canvases of a batch; a larger image is a batch by itself
# The floating point operations that take as long as compiling a network: 2 s at 100 GFLOP/s on two CPU cores, 10 s at
# 100 TFLOP/s on an accelerator. A pixel takes at least as long as `_LEAST_FLOPS`, however narrow the network is. On two
# cores, a compilation is worth 11, 12, 4.2 and 0.34 million pixels at the widths 1/16, 1/8, 1/4 and 1.
COMPILE_FLOPS, ACCELERATOR_COMPILE_FLOPS, _LEAST_FLOPS = 2e11, 1e15, 2e4
_ROWS, _COLUMNS = 64, 256  # scores are enlarged by so many rows at a time, and by a multiple of so many columns
_SAMPLE = (512, 512)  # height and width at which the cost of a pixel is measured; it is the same for large images


class Predictor:
  """A network with its parameters, which segments images.

  Attributes:
    config: of the run, or of the network.
    heads: the classes of each head.
    model: the linen module.
    params: its parameters.
    step: the training step of the checkpoint; 0 for weights of a file.
  """

  def __init__(self, config: ml_collections.ConfigDict, inputs, heads: dict[str, Classes], params: dict, step: int = 0):
    self.config, self.heads, self.step = config, heads, step
    self.model = models.build(config.model, inputs, heads)
    self.params = jax.device_put(params)
    self._apply = jax.jit(lambda params, inputs, size: self.model.apply({'params': params}, inputs, size))
    self._longest = config.data.get('resize', 0)
    self._enlarge = jax.jit(upsample.enlarge, static_argnums=4)

  @property
  def classes(self) -> tuple[str, ...]:
    """The names of the classes of the first head."""
    return next(iter(self.heads.values())).names

  @property
  def palette(self) -> tuple[tuple[int, int, int], ...]:
    """The colors of the classes of the first head, RGB in 0..255."""
    return next(iter(self.heads.values())).palette

  def predict(self, images, *, head: str | None = None):
    """The class of every pixel.

    Args:
      images: an image [H, W, 3] (or [H, W, C]) in 0..255, or a dict of such arrays by input stream; or a list of
        images, which may have different sizes.
      head: the head to predict with; by default the first.

    Returns:
      uint8 [H, W], or a list of these.

    Raises:
      UserError: an image has another shape, an input stream is missing, or there is no such head.
    """
    return self._map(images, head, lambda scores: scores.argmax(-1).astype(np.uint8))

  def probabilities(self, images, *, head: str | None = None):
    """The probability of every class at every pixel: float32 [H, W, classes], or a list of these; see `predict`."""
    from scipy.special import softmax

    return self._map(images, head, lambda scores: softmax(scores, axis=-1))

  def scores(self, images: Sequence, canvas: tuple[int, int], count: int = 0) -> list[dict[str, np.ndarray]]:
    """Scores before the softmax of images that share a canvas.

    With `data.resize`, images are resized for the network as in training, and their scores are enlarged bilinearly to
    the original size, as in the evaluation.

    Args:
      images: each [H, W, C], or a dict of such arrays by input stream.
      canvas: height and width that the images, after resizing, are padded to.
      count: number of images that the program is compiled for; by default `len(images)`.

    Returns:
      For each image, a dict by head: float32 [H, W, classes].
    """
    whole = [{name: np.asarray(x, np.uint8) for name, x in self._streams(image).items()} for image in images]
    examples = [augment.on_canvas(*resizing.resized(image, {}, self._longest), canvas) for image in whole]
    examples += examples[:1] * (count - len(examples))
    inputs = {stream: np.stack([e['inputs'][stream] for e in examples]) for stream in self.model.mean}
    sizes = np.stack([e['size'] for e in examples])
    computed = self._apply(self.params, inputs, sizes)
    if self._longest:
      full = [next(iter(image.values())).shape[:2] for image in whole]
      return [{h: self._enlarged(x[i], sizes[i], size) for h, x in computed.items()} for i, size in enumerate(full)]
    computed = {head: np.asarray(x) for head, x in computed.items()}
    return [{head: x[i, : sizes[i, 0], : sizes[i, 1]] for head, x in computed.items()} for i in range(len(images))]

  def _enlarged(self, scores: jax.Array, size: np.ndarray, full: tuple[int, int]) -> np.ndarray:
    """Scores [H, W, C] of the size `full`, of an image that was resized to `size`; a device enlarges some rows."""
    (height, width), result = full, np.empty((*full, scores.shape[-1]), np.float32)
    for first in range(0, height, _ROWS):
      rows = first + np.arange(_ROWS)
      strip = self._enlarge(scores, size, np.array(full), rows, -(-width // _COLUMNS) * _COLUMNS)
      result[first : first + _ROWS] = np.asarray(strip)[: height - first, :width]
    return result

  def batches(self, sizes: np.ndarray) -> list[tuple[tuple[int, int], int, np.ndarray]]:
    """Which images of sizes [N, 2] share a batch: canvas, count and indices, from small to large canvases.

    `scores` of the images with this canvas and count computes a batch; see `canvases.predict_plan`.
    """
    limit, pixels = self.config.eval.canvases, 0.0
    sizes = np.reshape(sizes, (-1, 2))  # there may be none
    resized = resizing.sizes(sizes, self._longest)
    # The scores of a batch are enlarged to BATCH_PIXELS, or those of one image.
    batch_pixels = int(BATCH_PIXELS * (resized.prod(1) / sizes.prod(1)).min(initial=1))
    if len(np.unique(canvases.rounded(resized), axis=0)) > limit:
      flops = COMPILE_FLOPS if jax.default_backend() == 'cpu' else ACCELERATOR_COMPILE_FLOPS
      pixels = flops / self._flops_per_pixel
    return canvases.predict_plan(resized, batch_pixels=batch_pixels, canvases=limit, compile_pixels=pixels)

  def memory(self, size: tuple[int, int]) -> int:
    """The bytes that a forward pass of one image of this size takes, without the parameters, without computing it."""
    (canvas,) = canvases.rounded(resizing.sizes(np.array(size), self._longest))
    return math.ceil(self._bytes_per_pixel * int(canvas.prod()))

  def available_memory(self) -> float:
    """The bytes that a forward pass may take on the device, infinity if that is unknown."""
    stats = jax.local_devices()[0].memory_stats()  # None for a CPU
    return stats['bytes_limit'] - stats['bytes_in_use'] if stats else machine.available_memory()

  @functools.cached_property
  def _flops_per_pixel(self) -> float:
    return max(_LEAST_FLOPS, cost.flops(self.model, _SAMPLE) / math.prod(_SAMPLE))

  @functools.cached_property
  def _bytes_per_pixel(self) -> float:
    """As XLA counts them: images, feature maps and scores grow with the number of pixels."""
    inputs = {name: jax.ShapeDtypeStruct((1, *_SAMPLE, len(mean)), np.uint8) for name, mean in self.model.mean.items()}
    program = self._apply.lower(self.params, inputs, jax.ShapeDtypeStruct((1, 2), np.int32)).compile()
    if (analysis := program.memory_analysis()) is None:  # not every platform counts
      return 0.0
    total = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    return total / math.prod(_SAMPLE) + sum(map(len, self.model.mean.values()))

  def _map(self, images, head: str | None, function):
    if head is not None and head not in self.heads:
      raise UserError(f'there is no head {head!r}{nearest(head, self.heads)}')
    if not isinstance(images, Sequence):
      return self._map([images], head, function)[0]
    head, images = head or next(iter(self.heads)), [self._streams(image) for image in images]
    sizes = np.array([next(iter(image.values())).shape[:2] for image in images]).reshape(-1, 2)
    results: list[Any] = [None] * len(images)
    for canvas, count, members in self.batches(sizes):
      for index, scores in zip(members, self.scores([images[i] for i in members], canvas, count), strict=True):
        results[index] = function(scores[head])
    return results

  def _streams(self, image) -> dict[str, np.ndarray]:
    """The input streams of an image, checked."""
    given = image if isinstance(image, Mapping) else {next(iter(self.model.mean)): image}
    streams = {}
    for stream, mean in self.model.mean.items():
      if stream not in given:
        raise UserError(f'the image has no input stream {stream!r}; expected a dict with {", ".join(self.model.mean)}')
      x = streams[stream] = np.asarray(given[stream])
      if x.ndim != 3 or x.shape[-1] != len(mean) or 0 in x.shape or x.dtype.kind not in 'uif':
        raise UserError(
          f'the image is {x.dtype} {list(x.shape)}; expected numbers in 0..255 of the shape [H, W, {len(mean)}] for '
          f'the input stream {stream!r}'
        )
    if len({x.shape[:2] for x in streams.values()}) > 1:
      sizes = ', '.join(f'{list(x.shape[:2])} of {stream}' for stream, x in streams.items())
      raise UserError(f'the input streams of the image have the sizes {sizes}; expected one size')
    return streams


def load_run(workdir: str, *, checkpoint: str = 'last') -> Predictor:
  """The trained network of a run directory.

  Args:
    workdir: the run directory, on a disk or in a bucket.
    checkpoint: 'last', or 'best' (with `train.patience`, or if there are a validation and a test split).

  Raises:
    UserError: there is no run, or no such checkpoint.
  """
  if checkpoint not in CHECKPOINTS:
    raise UserError(f'there is no checkpoint {checkpoint!r}{nearest(checkpoint, CHECKPOINTS)}')
  path = files.path(workdir)
  config = saved.read_config(path)
  inputs, heads = saved.read_data(path)
  step, params = checkpoints.load_params(path, checkpoint)
  return Predictor(config, inputs, heads, params, step)


def build_model(
  name: str,
  classes: int | Mapping[str, int],
  backbone: str = 'vgg16',
  weights: str | None = None,
  *,
  preprocessing: str = 'from_file',
  allow_mismatch: str = '',
  inputs: Mapping[str, int] | None = None,
  seed: int = 0,
  **settings,
):
  """A new network and its initial parameters.

  Args:
    name: a key of `MODELS`: 'fcn32s', 'fcn16s', 'fcn8s' or 'unet'.
    classes: the number of classes, or a dict of these by head.
    backbone: a key of `models.names.BACKBONES`, or the dotted path of a linen module; not for 'unet'.
    weights: a weights file (`weights/formats.py`), or 'vgg16', which is downloaded. The file also sets `mean` and
      `std`, unless `settings` have them. Score layers that the file lacks start at zero.
    preprocessing: what sets `mean` and `std` instead of the file: 'caffe', 'torchvision' or 'none'.
    allow_mismatch: layers that may be missing from, or unused in, the file, joined by +: 'fc6+fc7'.
    inputs: channels of each input stream; {'rgb': 3} by default.
    seed: of the initial parameters.
    **settings: further settings of the section `model` of a config, such as width=0.25 or geometry='caffe'. By default,
      `norm` is that of pretrained weights: 'frozen_batch' for a ResNet, else 'none'.

  Returns:
    The linen module and its parameters: `module.apply({'params': params}, {'rgb': images})['semantic']` are scores
    float32 [B, H, W, classes] of images [B, H, W, 3] in 0..255.

  Raises:
    UserError: there is no such network or setting, or the weights do not fit.
  """
  if name not in MODELS:
    raise UserError(f'there is no network {name!r}{nearest(name, MODELS)}')
  config = _config({'backbone': backbone} | MODELS[name] | settings)
  if preprocessing not in (choices := config_lib.CHOICES['init.preprocessing']):
    raise UserError(f'preprocessing is {preprocessing!r}{nearest(preprocessing, choices)}')
  config.init.preprocessing, config.init.allow_mismatch = preprocessing, allow_mismatch
  file = match.read(weights, preprocessing) if weights else None
  config = normalization.resolve(config, file, weights or '')
  model = models.build(
    config.model, inputs or {'rgb': 3}, classes if isinstance(classes, Mapping) else {'semantic': classes}
  )
  params = models.init(model, seed)
  if weights and file:
    params, _ = match.fit(params, file, config, weights, allow="allow_mismatch='{}'")
  return model, params


def _config(settings: dict) -> ml_collections.ConfigDict:
  """The base config with settings of the section `model`, checked."""
  config = config_lib.base()
  for field, value in settings.items():
    if field not in config.model:
      dotted = field if '.' in field else f'model.{field}'
      raise UserError(config_lib.unknown_setting(dotted, [f'model.{f}' for f in config.model]))
    default = config.model[field]
    try:
      config.model[field] = value
    except TypeError as error:
      example = '' if default == () else f', like {default!r}'
      raise UserError(f'model.{field} is {value!r}; expected {type(default).__name__}{example}') from error
  if 'norm' not in settings and config.model.backbone in names.BACKBONES:
    config.model.norm = names.pretrained_norm(config.model)
  config_lib.check_model(config.model, config_lib.base().model)
  return config
