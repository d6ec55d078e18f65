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

  def examples(self, dl_manager) -> dict[str, list[dict]]:
    train = self.sbd(dl_manager, ('train',))['train']
    names = {example['id'] for example in train}
    val = [example for example in self.voc(dl_manager, 2011, ('val',))['val'] if example['id'] not in names]
    if len(val) != VALIDATION:
      raise UserError(
        f'{len(val)} images of VOC 2011 val are not in SBD train; expected {VALIDATION}: one of the archives is not '
        'the original'
      )
    return {'train': train, 'val': val}
