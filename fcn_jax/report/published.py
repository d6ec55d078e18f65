"""Numbers that others published, to stand beside ours: per cent, by data set."""

import dataclasses

from fcn_jax.metrics import METRICS


@dataclasses.dataclass(frozen=True)
class Published:
  """One row of a published table.

  Attributes:
    network: as its authors call it.
    source: the paper.
    scores: in per cent, by `METRICS`; what its authors do not give is missing.
  """

  network: str
  source: str
  scores: dict[str, float]


def _rows(source: str, networks: dict[str, tuple]) -> list[Published]:
  """`networks` are scores in the order of `METRICS`; the last may be missing."""
  return [Published(network, source, dict(zip(METRICS, scores, strict=False))) for network, scores in networks.items()]


# Mean IoU of VOC's labels through a grid of the factor and back (CVPR'15, appendix A).
UPPER_BOUNDS = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}

# By the name of the data set: how the protocol is, and the rows.
TABLES = {
  'stanford_background': (
    'Five folds of 572 and 143 pictures, their mean; other networks than FCNs, some with superpixels or a CRF. Class '
    'accuracy is our mean accuracy. A run of ours is one fold.',
    [
      *_rows('Tighe and Lazebnik 2010', {'superparsing': (77.5,)}),
      *_rows(
        'Farabet et al. 2013',
        {
          'ConvNet, one scale': (66.0, 56.5),
          'ConvNet, three scales': (78.8, 72.4),
          'ConvNet, three scales, CRF': (81.4, 76.0),
        },
      ),
      *_rows('Pinheiro and Collobert 2014', {'recurrent CNN': (80.2, 69.9)}),
      *_rows('Sharma et al. 2014', {'rCPN': (80.9, 78.8)}),
    ],
  ),
  'voc2011_sbd': (
    'The 736 pictures of VOC 2011 val that are not in SBD train; trunk pretrained on ImageNet, one picture a step, '
    'momentum 0.99, summed loss. Compare only runs with that trunk and split.',
    [
      *_rows(
        "CVPR'15, table 2",
        {
          'FCN-32s, trunk frozen': (83.0, 59.7, 45.4, 72.0),
          'FCN-32s': (89.1, 73.3, 59.4, 81.4),
          'FCN-16s': (90.0, 75.7, 62.4, 83.0),
          'FCN-8s': (90.3, 75.9, 62.7, 83.2),
        },
      ),
      *_rows(
        'released weights',
        {
          'FCN-32s': (90.48, 76.48, 63.63, 83.46),
          'FCN-16s': (91.00, 78.07, 65.01, 84.26),
          'FCN-8s': (91.22, 77.61, 65.51, 84.54),
          'FCN-8s at-once': (91.13, 78.50, 65.40, 84.43),
        },
      ),
    ],
  ),
}
