"""Colors and classes of data sets that the code reads in more than one way."""


def voc_color(number: int) -> tuple[int, int, int]:
  """VOC's color of a class: bits 0, 3 and 6 of its number are the highest bits of red; 1, 4 and 7 are green's."""
  return tuple(sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3))


# The classes that Cityscapes evaluates: name, color, and id in *_gtFine_labelIds.png (cityscapesScripts, labels.py).
CITYSCAPES = (
  ('road', (128, 64, 128), 7),
  ('sidewalk', (244, 35, 232), 8),
  ('building', (70, 70, 70), 11),
  ('wall', (102, 102, 156), 12),
  ('fence', (190, 153, 153), 13),
  ('pole', (153, 153, 153), 17),
  ('traffic light', (250, 170, 30), 19),
  ('traffic sign', (220, 220, 0), 20),
  ('vegetation', (107, 142, 35), 21),
  ('terrain', (152, 251, 152), 22),
  ('sky', (70, 130, 180), 23),
  ('person', (220, 20, 60), 24),
  ('rider', (255, 0, 0), 25),
  ('car', (0, 0, 142), 26),
  ('truck', (0, 0, 70), 27),
  ('bus', (0, 60, 100), 28),
  ('train', (0, 80, 100), 31),
  ('motorcycle', (0, 0, 230), 32),
  ('bicycle', (119, 11, 32), 33),
)
