"""sbd: the Semantic Boundaries Dataset, masks for 8,498 and 2,857 images of VOC 2011, without unlabeled borders."""

from fcn_jax.data.builders import voc

describe = voc.describe


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return voc.load(Sbd, data)


class Sbd(voc.Builder):
  """The Semantic Boundaries Dataset."""

  def examples(self, dl_manager) -> dict[str, list[dict]]:
    return self.sbd(dl_manager)
