"""voc2012: PASCAL VOC 2012 segmentation, 1,464 images for training and 1,449 for validation, 21 classes."""

from fcn_jax.data.builders import voc

describe = voc.describe


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return voc.load(Voc2012, data)


class Voc2012(voc.Builder):
  """PASCAL VOC 2012 segmentation."""

  def examples(self, dl_manager) -> dict[str, list[dict]]:
    return self.voc(dl_manager, 2012)
