"""voc2011: PASCAL VOC 2011 segmentation, 1,112 images for training and 1,111 for validation, 21 classes."""

from fcn_jax.data.builders import voc

describe = voc.describe


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return voc.load(Voc2011, data)


class Voc2011(voc.Builder):
  """PASCAL VOC 2011 segmentation."""

  def examples(self, dl_manager) -> dict[str, list[dict]]:
    return self.voc(dl_manager, 2011)
