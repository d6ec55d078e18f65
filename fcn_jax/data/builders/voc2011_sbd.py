"""voc2011_sbd: what the papers train and score on: SBD's 8,498, and VOC 2011 val without them (seg11valid)."""

import functools

from fcn_jax.data.builders import voc
from fcn_jax.data.builders.voc import splits  # noqa: F401, asked for by pipeline
from fcn_jax.errors import UserError

VALIDATION = 736  # pictures that are left (CVPR'15, section 5)


class Voc2011Sbd(voc.Builder):
  """SBD to train on, and PASCAL VOC 2011 val without its pictures for validation."""

  def _split_generators(self, dl_manager) -> dict:
    train = self._sbd(dl_manager, ('train',))['train']
    names = {example['id'] for example in train}
    val = [e for e in self._voc(dl_manager, 2011, ('val',))['val'] if e['id'] not in names]
    if len(val) != VALIDATION:
      raise UserError(
        f'{len(val)} pictures of VOC 2011 val are not in SBD train; expected {VALIDATION}: one of the archives is not '
        'the original'
      )
    return {'train': self._generate_examples(train), 'val': self._generate_examples(val)}


make = functools.partial(voc.make, Voc2011Sbd)
