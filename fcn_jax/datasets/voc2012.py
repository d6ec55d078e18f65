"""voc2012: PASCAL VOC 2012 segmentation, 1,464 pictures to train on and 1,449 for validation, 21 classes."""

from fcn_jax.datasets import voc
from fcn_jax.datasets.voc import splits  # noqa: F401, asked for by pipeline


def make(data) -> 'Voc2012':
  """The builder for a config's section `data`."""
  return Voc2012(archive=data.archive, data_dir=data.dir or None, file_format='array_record')


class Voc2012(voc.Builder):
  """PASCAL VOC 2012 segmentation."""

  def _split_generators(self, dl_manager) -> dict:
    examples = self._voc(dl_manager, 2012, ('train', 'val'))
    return {name: self._generate_examples(chosen) for name, chosen in examples.items()}
