"""voc2011_sbd: the papers' split: SBD's 8,498 training images, and VOC 2011 val without these images (seg11valid)."""

from fcn_jax.data.builders import voc
from fcn_jax.errors import UserError

VALIDATION = 736  # images of VOC 2011 val that are not in SBD's training list (CVPR 2015, section 5)

describe = voc.describe


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return voc.load(Voc2011Sbd, data)


class Voc2011Sbd(voc.Builder):
  """SBD for training, and PASCAL VOC 2011 val without SBD's training images for validation."""

  def _split_generators(self, dl_manager) -> dict:
    train = self._sbd(dl_manager, ('train',))['train']
    names = {example['id'] for example in train}
    val = [e for e in self._voc(dl_manager, 2011, ('val',))['val'] if e['id'] not in names]
    if len(val) != VALIDATION:
      raise UserError(
        f'{len(val)} images of VOC 2011 val are not in SBD train; expected {VALIDATION}: one of the archives is not '
        'the original'
      )
    return {'train': self._generate_examples(train), 'val': self._generate_examples(val)}
