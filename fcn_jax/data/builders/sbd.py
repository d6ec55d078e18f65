"""sbd: the Semantic Boundaries Dataset, masks for 8,498 and 2,857 images of VOC 2011, without unlabeled borders."""

from fcn_jax.data.builders import voc

describe = voc.describe


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return voc.load(Sbd, data)


class Sbd(voc.Builder):
  """The Semantic Boundaries Dataset."""

  def _split_generators(self, dl_manager) -> dict:
    examples = self._sbd(dl_manager, ('train', 'val'))
    return {name: self._generate_examples(chosen) for name, chosen in examples.items()}
