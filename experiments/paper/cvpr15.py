"""FCN-8s as the CVPR'15 paper describes its training (section 4.3).

  python -m fcn_jax.main --config=experiments/paper/cvpr15.py

Mean loss, 20 pictures a step, momentum 0.9; upsampling between score maps is trained from bilinear, the last one stays
bilinear. The paper reports 62.7 % mean IoU on the 736 validation pictures. The trunk starts from VGG-16,
which is fetched.
"""

from fcn_jax.config.recipes import as_released


def get_config(dataset='voc2011_sbd'):
  config = as_released(dataset, stride=8, lr=1e-4, weights='vgg16')
  config.model.upsample = 'bilinear_last_fixed'
  config.loss.reduction = 'mean'
  config.optim.momentum = 0.9
  config.train.batch_size = 20
  config.data.replacement = False
  return config
