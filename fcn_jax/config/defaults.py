"""Every setting of a run, with its default value and a comment.

An experiment file (`experiments/`) is `default(argument)` plus its differences. Any setting can be overridden on the
command line, as in `--config.optim.lr=1e-3`. Nothing here imports jax, so that a wrong setting is reported at once.
"""

import ml_collections

from fcn_jax.config import recipes
from fcn_jax.data import names
from fcn_jax.errors import UserError, closest


def default(argument: str = 'scenes', recipe_of: dict[str, str] | None = None) -> ml_collections.ConfigDict:
  """The settings of a run on a data set: the base, then the data set's recipe, then the data set's own settings.

  Args:
    argument: the argument of a config file, 'DATASET' or 'DATASET,recipe=NAME'. DATASET is a key of
      `data.names.DATASETS` or the dotted path of an importable module with `load(data)`.
    recipe_of: the recipes of an experiment by data set, if they differ from `recipes.BY_DATASET`. A recipe in
      `argument` takes precedence.

  Raises:
    UserError: there is no such data set or recipe.
  """
  name, _, option = argument.partition(',')
  key, _, recipe = option.partition('=')
  if option and (key != 'recipe' or not recipe):
    raise UserError(f'the argument of the config file is {argument!r}; expected DATASET or DATASET,recipe=NAME')
  settings = names.settings(name)
  if not recipe and name not in names.DATASETS:
    recipe = getattr(names.module(name), 'RECIPE', '')
  config = base()
  recipes.apply_recipe(config, recipe or (recipes.BY_DATASET | (recipe_of or {})).get(name, recipes.OTHERWISE))
  config.data.name = name
  add_settings(config, settings)
  return config


def usual(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The settings that the data set and the recipe of a config give, or the base if it has neither."""
  return default(f'{config.data.name},recipe={config.recipe}') if config.recipe else base()


def add_settings(config: ml_collections.ConfigDict, settings: dict) -> None:
  """Sets settings by dotted name; the section `data` may get new ones, the others may not."""
  for field, value in settings.items():
    section, _, leaf = field.rpartition('.')
    if section == 'data':
      config.data[leaf] = value
      continue
    known = flatten(config)
    if field not in known:
      raise UserError(f'the data set {config.data.name} sets {field}, which does not exist{closest(field, known)}')
    try:
      config.update_from_flattened_dict({field: value})
    except TypeError as error:
      raise UserError(f'the data set {config.data.name} sets {field} to {value!r}: {error}') from error


def base() -> ml_collections.ConfigDict:
  """All settings that every run has."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # for initial values, the order of images, augmentation and dropout
  config.recipe = ''  # set by `recipes.apply_recipe`
  config.model = _model()
  config.data = _data()
  config.optim = _optim()

  config.loss = ml_collections.ConfigDict()
  config.loss.name = 'cross_entropy'  # focal, dice, a dotted path, or a sum with factors: cross_entropy+0.5*dice
  config.loss.gamma = 2.0  # of focal: pixels that are almost right weigh less
  config.loss.reduction = 'mean'  # over the labeled pixels of a batch, dice over its images; or sum
  config.loss.sampling = 1.0  # probability that a cell of the stride-32 grid counts, drawn again at each step
  # Weights of classes, but not of dice, in which all classes of an image weigh the same.
  config.loss.balance = 'none'  # or inverse, by their shares of the pixels; median_frequency; or numbers: 1,2.5,1

  config.train = ml_collections.ConfigDict()
  config.train.steps = 100_000  # parameter updates
  config.train.epochs = 0.0  # passes over the training images: sets train.steps when a run first starts; 0 does not
  config.train.patience = 0  # evaluations in a row without a better mean IoU after which the run ends; 0 is no limit
  config.train.batch_size = 20  # images per update, over all devices
  config.train.accumulation = 1  # sequential parts that a batch is computed in, to save memory
  config.train.deterministic = False  # repeatable runs on a GPU, which are slower; on a CPU, runs always are
  config.train.log_every = 10  # steps

  config.eval = ml_collections.ConfigDict()
  config.eval.every = 4000  # steps; 0 evaluates at the end only
  config.eval.batch_size = 8  # over all devices
  config.eval.canvases = 3  # sizes that images are padded to: more sizes waste less, but each is compiled
  config.eval.keep = 200  # images whose predictions a finished run keeps, the same ones in every run

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 2000  # steps; 0 saves at the end only
  config.checkpoint.keep = 2  # number of newest checkpoints that are kept

  config.init = ml_collections.ConfigDict()
  config.init.run = ''  # directory of a finished run, or its name in the sweep, to copy matching parameters from
  config.init.optimizer = False  # restore the state of the optimizer of init.run too, where it fits
  config.init.weights = ''  # a weights file (`weights/formats.py`), or vgg16, which is downloaded; init.run wins
  config.init.preprocessing = 'from_file'  # mean and std with init.weights; or caffe, torchvision, none
  config.init.allow_mismatch = ''  # layers that may be missing from, or unused in, init.weights: fc6+fc7
  return config


def _model() -> ml_collections.ConfigDict:
  model = ml_collections.ConfigDict()
  model.name = 'fcn'  # a key of models.names.NETWORKS
  model.backbone = 'vgg16'  # a key of models.names.BACKBONES, or the dotted path of a linen module
  model.stride = 8  # of the finest score map, in cells of the grid that the backbone sees: 32, 16, 8, 4 or 2
  model.skips = 'all'  # taps whose scores are added on the way: all, none, or names joined by +: pool4+pool3
  model.upsample = 'bilinear_fixed'  # or bilinear_learned, learned_random, bilinear_last_fixed
  model.shrink = 1  # pixels per side that are averaged first: 2 halves the resolution that the backbone sees
  model.depth = 4  # unet only: number of poolings
  model.width = 1.0  # scales all channels; 1 is the paper's width
  model.fc_channels = 4096  # of fc6 and fc7 of vgg16 and alexnet, before width
  model.norm = 'none'  # the paper; group: GroupNorm; or frozen_batch: BatchNorm of pretrained ResNets
  model.group_size = 8  # channels per group
  model.dropout = 0.5  # of fc6 and fc7, element by element
  model.dtype = 'float32'  # of the computation, or bfloat16; parameters and loss stay float32
  model.geometry = 'aligned'  # or caffe: padding and crops of the authors' networks (docs/geometry.md)
  model.at_once = False  # scales pool4 by 0.01 and pool3 by 0.0001, like the authors' FCN-8s at-once
  model.remat = False  # recompute activations in the backward pass: less memory, more time
  model.mean = ()  # per input channel (R, G, B in 0..255), subtracted; () is chosen at start (`normalization.py`)
  model.std = ()  # per input channel, what the result is divided by; () is chosen at start, like the mean
  return model


def _data() -> ml_collections.ConfigDict:
  data = ml_collections.ConfigDict()
  data.name = ''  # set by the argument of the config file
  data.dir = ''  # folder of prepared data; '' is TFDS_DATA_DIR or ~/tensorflow_datasets
  data.cache_gib = 4.0  # room for decoded images; those that do not fit are decoded again in each epoch
  data.cache_dir = ''  # folder of decoded images, shared by all runs on a machine; '' is DATA.DIR/decoded
  data.threads = 4  # threads that decode and augment; fewer are used while all images are decoded
  data.augment_on = 'auto'  # host; device, within the training step; auto: the device, if it is not a CPU
  data.train_size = (384, 512)  # height and width that training images are cropped or padded to
  data.with_replacement = False  # draw training images with replacement, like the authors; else epoch by epoch
  data.augment = 'none'  # or the dotted path of a function that changes training images before all of the following
  data.flip = 0.0  # probability of a horizontal flip
  data.flip_vertical = 0.0  # probability of a vertical flip
  data.rotate90 = 0.0  # probability of a turn by 90, 180 or 270 degrees, each as likely
  data.rotate = 0.0  # largest angle in degrees, for which the host resamples; uncovered pixels are black and ignored
  data.jitter = 0  # largest shift in pixels, in all four directions; the papers try 32
  data.scale = (1.0, 1.0)  # range of a random scale
  data.crop_rare = 0.0  # share of crops centered on a class of the first head, drawn by 1 / its pixels in the image
  data.brightness = 0.0  # range of a random factor, 1 - x to 1 + x
  data.contrast = 0.0  # range of a random factor, 1 - x to 1 + x
  data.color = 0.0  # range of a random saturation, 1 - x to 1 + x; 0 is gray
  data.blur = 0.0  # largest standard deviation of a random Gaussian blur, in pixels
  data.noise = 0.0  # largest standard deviation of random noise, in levels of 0..255
  return data


def _optim() -> ml_collections.ConfigDict:
  optim = ml_collections.ConfigDict()
  optim.name = 'sgd'  # with Caffe's momentum; or adamw
  optim.lr = 1e-4  # peak learning rate
  optim.lr_backbone = 0.0  # peak learning rate of the backbone, for fine-tuning; 0 is that of the other layers
  optim.momentum = 0.9  # sgd only
  optim.weight_decay = 5e-4  # of kernels; not of biases, norms and upsampling
  optim.bias_lr = 2.0  # factor on the learning rate of biases, sgd only
  optim.schedule = 'constant'  # or polynomial, cosine (both end at 0)
  optim.power = 0.9  # of the polynomial schedule
  optim.warmup = 0  # steps of linear warmup before the schedule
  optim.freeze_backbone = False  # train only the score and upsampling layers
  optim.clip = 0.0  # largest gradient norm; 0 is no limit
  return optim


def flatten(config: ml_collections.ConfigDict) -> dict:
  """The settings by dotted name: {'seed': 0, 'model.stride': 8, ...}."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f'{name}.{inner}': v for inner, v in flatten(value).items()}
    else:
      flat[name] = value
  return flat
