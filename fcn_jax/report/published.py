"""Published results, in percent, by data set; a report shows them next to the results of the runs."""

# Mean IoU of VOC's labels after downsampling by a factor and upsampling again (CVPR'15, appendix A).
UPPER_BOUNDS = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}

# Data set -> over how many folds of a cross-validation its published results are means.
FOLDS = {'stanford_background': 5}

# Data set -> (protocol, rows). A row has the network, the paper, and the scores in the order of `metrics.METRICS`;
# scores that the paper does not report are missing at the end.
TABLES = {
  'stanford_background': (
    'Folds of 572 training and 143 test images. The networks are not FCNs; some use superpixels or a CRF. Their class '
    'accuracy is our mean accuracy.',
    [
      ('superparsing', 'Tighe and Lazebnik 2010', 77.5),
      ('ConvNet, one scale', 'Farabet et al. 2013', 66.0, 56.5),
      ('ConvNet, three scales', 'Farabet et al. 2013', 78.8, 72.4),
      ('ConvNet, three scales, CRF', 'Farabet et al. 2013', 81.4, 76.0),
      ('recurrent CNN', 'Pinheiro and Collobert 2014', 80.2, 69.9),
      ('rCPN', 'Sharma et al. 2014', 80.9, 78.8),
    ],
  ),
  'voc2011_sbd': (
    'The 736 images of VOC 2011 val that are not in SBD train. Backbone pretrained on ImageNet, one image per step, '
    'momentum 0.99, summed loss. Compare only with runs that use this backbone and this split.',
    [
      ('FCN-32s, backbone frozen', "CVPR'15, table 2", 83.0, 59.7, 45.4, 72.0),
      ('FCN-32s', "CVPR'15, table 2", 89.1, 73.3, 59.4, 81.4),
      ('FCN-16s', "CVPR'15, table 2", 90.0, 75.7, 62.4, 83.0),
      ('FCN-8s', "CVPR'15, table 2", 90.3, 75.9, 62.7, 83.2),
      ('FCN-32s', 'released weights', 90.48, 76.48, 63.63, 83.46),
      ('FCN-16s', 'released weights', 91.00, 78.07, 65.01, 84.26),
      ('FCN-8s', 'released weights', 91.22, 77.61, 65.51, 84.54),
      ('FCN-8s at-once', 'released weights', 91.13, 78.50, 65.40, 84.43),
    ],
  ),
}
