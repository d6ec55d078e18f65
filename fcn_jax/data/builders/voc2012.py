"""voc2012: PASCAL VOC 2012 segmentation, 1,464 pictures to train on and 1,449 for validation, 21 classes."""

import functools

from fcn_jax.data.builders import voc
from fcn_jax.data.builders.voc import splits  # noqa: F401, asked for by pipeline


class Voc2012(voc.Year):
  """PASCAL VOC 2012 segmentation."""

  YEAR = 2012


make = functools.partial(voc.make, Voc2012)
