"""Published results, in percent, by data set; a report shows them next to its own."""

import dataclasses

from fcn_jax.metrics import METRICS


@dataclasses.dataclass(frozen=True)
class Published:
  """One row of a published table.

  Attributes:
    network: the name of the network.
    source: the paper.
    scores: in percent, by `METRICS`; metrics that the paper does not report are missing.
  """

  network: str
  source: str
  scores: dict[str, float]


def _rows(source: str, networks: dict[str, tuple]) -> list[Published]:
  """`networks` gives the scores of each network in the order of `METRICS`; trailing scores may be missing."""
  return [Published(network, source, dict(zip(METRICS, scores, strict=False))) for network, scores in networks.items()]


# Mean IoU of VOC's labels after downsampling by a factor and upsampling again (CVPR'15, appendix A).
UPPER_BOUNDS = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}

# Data set -> (protocol, rows).
TABLES = {
  'stanford_background': (
    'Means over five folds of 572 training and 143 test images. The networks are not FCNs; some use superpixels or a '
    'CRF. Their class accuracy is our mean accuracy. Each of our runs is one fold.',
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
    'The 736 images of VOC 2011 val that are not in SBD train. Backbone pretrained on ImageNet, one image per step, '
    'momentum 0.99, summed loss. Compare only with runs that use this backbone and this split.',
    [
      *_rows(
        "CVPR'15, table 2",
        {
          'FCN-32s, backbone frozen': (83.0, 59.7, 45.4, 72.0),
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
