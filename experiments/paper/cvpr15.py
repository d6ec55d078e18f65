"""FCN-8s as the CVPR'15 paper describes its training (section 4.3).

  python -m fcn_jax.main --config=experiments/paper/cvpr15.py

Mean loss, 20 images per step, momentum 0.9. Upsampling between score maps is trained from a bilinear start; the last
one stays bilinear. The paper reports 62.7 % mean IoU on the 736 validation images. The backbone starts from VGG-16,
which is downloaded.
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='voc2011_sbd'):
  config = apply_recipe(default(dataset), 'pami16_heavy')
  config.model.stride = 8
  config.optim.lr = 1e-4
  if dataset != 'scenes':  # its network is too narrow for VGG-16's weights
    config.init.weights = 'vgg16'
  config.model.upsample = 'bilinear_last_fixed'
  config.loss.reduction = 'mean'
  config.optim.momentum = 0.9
  config.train.batch_size = 20
  config.data.with_replacement = False
  return config
