"""Every setting of a run: its default, one comment, and its check.

An experiment file (`experiments/`) is `default(dataset)` plus its differences; any field is overridden on the command
line as `--config.optim.lr=1e-3`. Nothing here imports jax: a wrong setting is said before anything starts.
"""

import difflib
import math

import ml_collections

from fcn_jax.errors import UserError
from fcn_jax.models.grid import PADDINGS, SKIP_STRIDES, STRIDES

# What the argument of a config file may name (`--config=experiments/fcn16s.py:scenes`), each a module of `datasets/`,
# with what differs there from the defaults below, and the settings that it alone has.
DATASETS = {
  # Drawn by the project itself and learnt from scratch on a CPU within minutes: an eighth of the paper's width, with
  # norm and AdamW, which a network without pretrained weights needs. In so few epochs more augmentation, or dropout,
  # costs accuracy.
  'scenes': {
    'model.width': 0.125,
    'model.fc_channels': 2048,
    'model.norm': 'group',
    'model.dropout': 0.0,
    'data.train_size': (128, 160),
    'data.std': (64.0, 64.0, 64.0),
    'data.scale': (0.9, 1.1),
    'data.flip': 0.5,
    'optim.name': 'adamw',
    'optim.lr': 3e-3,
    'optim.weight_decay': 1e-4,
    'optim.schedule': 'cosine',
    'optim.warmup': 40,
    'optim.clip': 1.0,
    'train.steps': 800,
    'train.batch_size': 8,
    'eval.every': 400,
    'eval.batch_size': 20,
    'eval.canvases': 1,  # all pictures fit 128x160
    'checkpoint.every': 400,
  },
  # Full width, for a GPU; `experiments/stanford_small.py` is for a CPU. From scratch: norm and AdamW as above.
  'stanford_background': {
    'model.norm': 'group',
    'model.dtype': 'bfloat16',
    'data.archive': '',  # path of iccv09Data.tar.gz; '' is TFDS's manual directory, or a download
    'data.label': 'regions',  # eight semantic classes; or surfaces, three geometric ones
    'data.fold': 0,  # of five, to test on
    'data.val_fraction': 0.0,  # share of the other four that is kept back, to choose the best checkpoint
    'data.train_size': (240, 320),
    'data.std': (64.0, 64.0, 64.0),
    'data.flip': 0.5,
    'data.scale': (1.0, 1.67),
    'data.brightness': 0.2,
    'data.contrast': 0.2,
    'data.color': 0.2,
    'optim.name': 'adamw',
    'optim.lr': 5e-4,
    'optim.weight_decay': 1e-4,
    'optim.schedule': 'cosine',
    'optim.warmup': 200,
    'optim.clip': 1.0,
    'train.steps': 5000,
    'train.batch_size': 16,
    'eval.every': 1000,
    'eval.batch_size': 16,
    'checkpoint.every': 1000,
  },
  # PASCAL VOC and SBD with the defaults below, CVPR'15's: for a trunk with pretrained weights, on a GPU.
  'voc2011': {
    'data.archive': '',  # path of VOCtrainval_25-May-2011.tar; '' is TFDS's manual directory, or a download
    'data.train_size': (512, 512),
  },
  'voc2012': {
    'data.archive': '',  # path of VOCtrainval_11-May-2012.tar, likewise
    'data.train_size': (512, 512),
  },
  'sbd': {
    'data.sbd_archive': '',  # path of benchmark.tgz, likewise
    'data.train_size': (512, 512),
  },
  # What the papers train and score on.
  'voc2011_sbd': {
    'data.archive': '',  # path of VOCtrainval_25-May-2011.tar, likewise
    'data.sbd_archive': '',  # path of benchmark.tgz, likewise
    'data.train_size': (512, 512),
  },
}

CHOICES = {
  'model.stride': STRIDES,
  'model.shrink': (1, 2, 4),
  'model.upsample': ('bilinear_fixed', 'bilinear_learned', 'learned_random', 'bilinear_last_fixed'),
  'model.norm': ('none', 'group'),
  'model.geometry': tuple(PADDINGS),
  'model.dtype': ('float32', 'bfloat16'),
  'optim.name': ('sgd', 'adamw'),
  'optim.schedule': ('constant', 'polynomial', 'cosine'),
  'loss.reduction': ('mean', 'sum'),
  'loss.balance': ('none', 'inverse'),
  'data.label': ('regions', 'surfaces'),
  'data.fold': (0, 1, 2, 3, 4),
}

# Fields by the range that they must lie in: (smallest, largest), ends included.
RANGES = {
  'seed': (0, 2**31 - 1),
  'model.width': (1 / 64, 4),
  'model.fc_channels': (1, 65536),
  'model.group_size': (1, 512),
  'model.dropout': (0, 0.99),
  'data.cache': (0, math.inf),
  'data.val_fraction': (0, 0.9),
  'data.flip': (0, 1),
  'data.jitter': (0, math.inf),
  'data.brightness': (0, 1),
  'data.contrast': (0, 1),
  'data.color': (0, 1),
  'optim.lr': (0, math.inf),
  'optim.momentum': (0, 0.9999),
  'optim.weight_decay': (0, math.inf),
  'optim.bias_lr': (0, math.inf),
  'optim.power': (0, math.inf),
  'optim.clip': (0, math.inf),
  'optim.warmup': (0, math.inf),
  'loss.sampling': (0.01, 1),
  'train.steps': (1, math.inf),
  'train.batch_size': (1, math.inf),
  'train.accumulation': (1, math.inf),
  'train.log_every': (1, math.inf),
  'eval.every': (0, math.inf),
  'eval.batch_size': (1, math.inf),
  'eval.canvases': (1, 16),
  'checkpoint.every': (0, math.inf),
  'checkpoint.keep': (1, math.inf),
}


def default(dataset: str = 'scenes') -> ml_collections.ConfigDict:
  """The settings of a run on a data set: FCN-8s as CVPR'15 trains it, plus what `DATASETS` says."""
  if dataset not in DATASETS:
    raise UserError(f'there is no data set {dataset!r}{nearest(dataset, DATASETS)}')
  config = ml_collections.ConfigDict()
  config.seed = 0  # of the initial values, the order of the pictures, augmentation and dropout

  config.model = ml_collections.ConfigDict()
  config.model.stride = 8  # of the finest score map: 32, 16, 8, 4 or 2
  config.model.skips = 'all'  # score maps added on the way: all, none, or names as pool4+pool3
  config.model.upsample = 'bilinear_fixed'  # or bilinear_learned, learned_random, bilinear_last_fixed
  config.model.shrink = 1  # pixels a side that are averaged first: 2 halves the resolution that the trunk sees
  config.model.width = 1.0  # scales all channels; 1 is the paper's
  config.model.fc_channels = 4096  # of fc6 and fc7, before width
  config.model.norm = 'none'  # the paper; or group: GroupNorm after each convolution
  config.model.group_size = 8  # channels a group
  config.model.dropout = 0.5  # of fc6 and fc7, element by element
  config.model.dtype = 'float32'  # of the computation, or bfloat16; parameters and loss stay float32
  config.model.geometry = 'aligned'  # or caffe: padding and crops of the authors' networks (docs/geometry.md)
  config.model.at_once = False  # scales pool4 by 0.01 and pool3 by 0.0001, as the authors' FCN-8s at-once
  config.model.remat = False  # recompute activations in the backward pass: less memory, more time

  config.data = ml_collections.ConfigDict()
  config.data.name = dataset  # set by the argument of the config file
  config.data.dir = ''  # where prepared data lie; '' is TFDS_DATA_DIR or ~/tensorflow_datasets
  config.data.cache = 4.0  # GiB of memory for decoded pictures; what does not fit is decoded anew
  config.data.threads = 4  # that decode and augment
  config.data.train_size = (
    384,
    512,
  )  # height and width that training pictures are cropped or padded to
  config.data.mean = (122.67892, 116.66877, 104.00699)  # of R, G, B in 0..255, subtracted
  config.data.std = (1.0, 1.0, 1.0)  # of R, G, B, divided by
  config.data.replacement = False  # draw training pictures with replacement, as the authors; else epoch by epoch
  config.data.flip = 0.0  # probability of a horizontal flip
  config.data.jitter = 0  # pixels that a picture is moved by at most, up, down, left and right; the papers' try is 32
  config.data.scale = (1.0, 1.0)  # random scale, between these two
  config.data.brightness = 0.0  # random factor in 1 - x .. 1 + x
  config.data.contrast = 0.0  # likewise
  config.data.color = 0.0  # likewise; 0 is grey, 1 the picture's own saturation

  config.optim = ml_collections.ConfigDict()
  config.optim.name = 'sgd'  # with momentum, as Caffe has it; or adamw
  config.optim.lr = 1e-4  # at its highest
  config.optim.momentum = 0.9  # sgd only
  config.optim.weight_decay = 5e-4  # of kernels; biases, norms and upsampling have none
  config.optim.bias_lr = 2.0  # factor of the rate of biases, sgd only
  config.optim.schedule = 'constant'  # or polynomial, cosine (both end at 0)
  config.optim.power = 0.9  # of the polynomial schedule
  config.optim.warmup = 0  # steps of linear warm-up, before the schedule
  config.optim.freeze_trunk = False  # train the score layers and the upsampling alone
  config.optim.clip = 0.0  # largest gradient norm; 0 is no limit

  config.loss = ml_collections.ConfigDict()
  config.loss.reduction = 'mean'  # over the labelled pixels of a batch; or sum
  config.loss.sampling = 1.0  # probability that a cell of the stride-32 grid counts, drawn anew each step
  config.loss.balance = 'none'  # weight of a class; or inverse: by its share of the training pixels

  config.train = ml_collections.ConfigDict()
  config.train.steps = 100_000  # updates
  config.train.batch_size = 20  # pictures an update, over all devices
  config.train.accumulation = 1  # parts that a batch is computed in, one after the other, to save memory
  config.train.log_every = 10  # steps

  config.eval = ml_collections.ConfigDict()
  config.eval.every = 4000  # steps; 0 is at the end only
  config.eval.batch_size = 8  # over all devices
  config.eval.canvases = 3  # sizes that pictures are padded to: more waste less, but each is compiled

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 2000  # steps; 0 is at the end only
  config.checkpoint.keep = 2  # newest checkpoints that stay

  config.init = ml_collections.ConfigDict()
  config.init.run = ''  # workdir of a run that is done, or its name in a sweep: what fits of its checkpoint is taken
  config.init.weights = ''  # a file (weight_files.py), or vgg16, which is fetched; init.run goes first
  config.init.without = ''  # layers that init.weights may lack, or have for nothing, joined by +, as fc6+fc7

  config.update_from_flattened_dict(DATASETS[dataset])
  return config


def validate(config: ml_collections.ConfigDict) -> None:
  """Raises `UserError`, one sentence, where a setting is out of range or contradicts another."""
  flat = flatten(config)
  _validate_fields(flat)
  for field, choices in CHOICES.items():
    if field in flat and flat[field] not in choices:
      raise UserError(f'{field} is {flat[field]!r}{nearest(flat[field], choices)}')
  for field, (low, high) in RANGES.items():
    if field in flat and not low <= flat[field] <= high:
      raise UserError(f'{field} is {flat[field]}; expected {low:g} to {high:g}')
  _validate_model(config.model)
  _validate_data(config.data)
  if config.train.batch_size % config.train.accumulation:
    raise UserError(
      f'train.accumulation is {config.train.accumulation}, which does not divide train.batch_size '
      f'{config.train.batch_size} into equal parts'
    )
  if config.init.weights and config.model.norm != 'none':
    raise UserError(
      f'init.weights is set, and model.norm is {config.model.norm!r}; such files have biases and no norm: set '
      'model.norm=none'
    )
  if config.optim.warmup >= config.train.steps:
    raise UserError(f'optim.warmup is {config.optim.warmup}, but train.steps only {config.train.steps}; shorten it')


def _validate_fields(flat: dict) -> None:
  """The same fields, of the same types, as the default has for the data set."""
  if flat.get('data.name') not in DATASETS:
    raise UserError(f'data.name is {flat.get("data.name")!r}{nearest(flat.get("data.name"), DATASETS)}')
  expected = flatten(default(flat['data.name']))
  for field, value in flat.items():
    if field not in expected:
      raise UserError(f'there is no setting {field}{closest(field, expected)}')
    kinds = (int, float) if isinstance(expected[field], float) else type(expected[field])
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
      raise UserError(f'{field} is {value!r}; expected {type(expected[field]).__name__}, as {expected[field]!r}')
  if missing := expected.keys() - flat.keys():
    raise UserError(f'the config has no {", ".join(sorted(missing))}')


def _validate_model(model: ml_collections.ConfigDict) -> None:
  if model.skips not in ('all', 'none'):
    for skip in model.skips.split('+'):
      if skip not in SKIP_STRIDES:
        raise UserError(f'model.skips has {skip!r}{nearest(skip, ("all", "none", *SKIP_STRIDES))}')
      if SKIP_STRIDES[skip] < model.stride:
        raise UserError(
          f'model.skips has {skip}, of stride {SKIP_STRIDES[skip]}, finer than model.stride {model.stride}; '
          f'set model.stride={SKIP_STRIDES[skip]} or leave {skip} out'
        )
  if model.at_once and model.stride < 8:
    raise UserError(f'model.at_once knows factors of pool4 and pool3 only; model.stride is {model.stride}, expected 8')
  channels = {
    '64 (conv1_1)': 64 * model.width,
    'model.fc_channels': model.fc_channels * model.width,
  }
  for name, count in channels.items():
    if count != int(count):
      raise UserError(f'model.width {model.width} makes {count:g} channels of {name}; not whole')
    if model.norm == 'group' and count % model.group_size:
      raise UserError(
        f'model.group_size {model.group_size} does not divide the {count:g} channels that model.width '
        f'{model.width} makes of {name}'
      )


def _validate_data(data: ml_collections.ConfigDict) -> None:
  for field, length in (('train_size', 2), ('scale', 2), ('mean', 3), ('std', 3)):
    if len(data[field]) != length:
      raise UserError(f'data.{field} is {data[field]}; expected {length} numbers')
    if not all(math.isfinite(x) and (field == 'mean' or x > 0) for x in data[field]):
      raise UserError(f'data.{field} is {data[field]}; expected finite numbers{"" if field == "mean" else " above 0"}')
  if not all(isinstance(x, int) for x in data.train_size):
    raise UserError(f'data.train_size is {data.train_size}; expected whole numbers of pixels')
  if data.scale[0] > data.scale[1]:
    raise UserError(f'data.scale is {data.scale}; expected the smaller number first')
  if data.threads < 1:
    raise UserError(f'data.threads is {data.threads}; expected 1 or more')


def flatten(config: ml_collections.ConfigDict) -> dict:
  """The fields by dotted name: {'seed': 0, 'model.stride': 8, ...}."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f'{name}.{inner}': v for inner, v in flatten(value).items()}
    else:
      flat[name] = value
  return flat


def closest(name: str, names) -> str:
  """' (did you mean ...?)' where a name is much like one of `names`, else ''."""
  close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1)
  return f' (did you mean {close[0]}?)' if close else ''


def nearest(name: str, names) -> str:
  """The end of a sentence about a wrong name: what it may have meant, and what there is."""
  return f'{closest(name, names)}; expected one of {", ".join(str(n) for n in names)}'
