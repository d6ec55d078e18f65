"""sbd: the Semantic Boundaries Dataset, masks for 8,498 and 2,857 pictures of VOC 2011, without a border class."""

import functools

from fcn_jax.data.builders import voc
from fcn_jax.data.builders.voc import splits  # noqa: F401, asked for by pipeline


class Sbd(voc.Builder):
  """The Semantic Boundaries Dataset."""

  def _split_generators(self, dl_manager) -> dict:
    examples = self._sbd(dl_manager, ('train', 'val'))
    return {name: self._generate_examples(chosen) for name, chosen in examples.items()}


make = functools.partial(voc.make, Sbd)
