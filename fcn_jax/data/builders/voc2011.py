"""voc2011: PASCAL VOC 2011 segmentation, 1,112 pictures to train on and 1,111 for validation, 21 classes."""

import functools

from fcn_jax.data.builders import voc
from fcn_jax.data.builders.voc import splits  # noqa: F401, asked for by pipeline


class Voc2011(voc.Year):
  """PASCAL VOC 2011 segmentation."""

  YEAR = 2011


make = functools.partial(voc.make, Voc2011)
