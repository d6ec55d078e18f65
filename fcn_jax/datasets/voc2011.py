"""voc2011: PASCAL VOC 2011 segmentation, 1,112 pictures to train on and 1,111 for validation, 21 classes."""

from fcn_jax.datasets import voc
from fcn_jax.datasets.voc import splits  # noqa: F401, asked for by pipeline


def make(data) -> 'Voc2011':
  """The builder for a config's section `data`."""
  return Voc2011(archive=data.archive, data_dir=data.dir or None, file_format='array_record')


class Voc2011(voc.Builder):
  """PASCAL VOC 2011 segmentation."""

  def _split_generators(self, dl_manager) -> dict:
    examples = self._voc(dl_manager, 2011, ('train', 'val'))
    return {name: self._generate_examples(chosen) for name, chosen in examples.items()}
