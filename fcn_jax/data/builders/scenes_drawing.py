"""The parts of a drawn street scene, from far to near; `scenes.py` combines them into an image and a label.

Every stroke is drawn into three layers of the same size, so the label is exact by construction. Thin structures make
the difference between the strides of an FCN; their widths are the constants at the top, their counts `OBJECTS`.
"""

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ('sky', 'tree', 'road', 'grass', 'water', 'building', 'mountain', 'foreground')

# Counts per image and sizes in pixels (those of objects: `OBJECTS`): lowest and highest, both included.
HEIGHTS, WIDTHS = (104, 128), (136, 160)
PORTRAITS, PORTRAIT_WIDTHS = 0.15, (96, 120)  # the share of portrait images, which have the largest height
PEAKS, PEAK_WIDTH, PEAK_HEIGHT = (1, 3), (100, 180), (24, 44)
TOWER_WIDTH, TOWER_HEIGHT, TOWER_GAP = (36, 76), (16, 40), (32, 84)
STRIP_HEIGHT = (56, 110)  # bands of grass, water and road at the horizon; 1.5 times as high at the bottom
WAYS, WAY_WIDTH = (0, 1), (60, 100)  # paths, streams and verges; their width at the bottom
TREE_HEIGHT, TRUNK_WIDTH, LEAF_RADIUS = (60, 84), (5, 8), (14, 20)
PERSON_WIDTH, PERSON_HEIGHT = (9, 13), (24, 40)
POLE_WIDTH, POLE_HEIGHT = (3, 5), (30, 60)
CAR_LENGTH, CAR_HEIGHT = (54, 76), (15, 20)
BOAT_LENGTH = (36, 56)  # each object placed on water becomes a boat

# Colors at the top and bottom of the sky. Water reflects them, so that blue alone does not identify a class.
SKIES = (
  ((88, 142, 206), (196, 218, 236)),
  ((120, 164, 214), (222, 226, 226)),
  ((168, 176, 186), (214, 216, 216)),
  ((104, 122, 168), (236, 196, 160)),
)
COLORS = {
  'tree': ((52, 74, 40), (62, 92, 44), (82, 104, 70), (74, 84, 36), (146, 104, 52)),
  'road': ((112, 112, 114), (136, 134, 130), (156, 152, 146), (98, 100, 108), (150, 136, 116)),
  'grass': ((92, 136, 56), (112, 142, 66), (126, 154, 70), (150, 154, 84), (132, 138, 70)),
  'building': ((172, 120, 96), (198, 178, 146), (150, 84, 70), (186, 190, 196), (136, 134, 130)),
  'mountain': ((116, 126, 148), (96, 108, 122), (140, 138, 156), (128, 116, 118)),
  'foreground': (
    *((176, 44, 44), (40, 72, 140), (222, 218, 208), (34, 34, 38), (206, 164, 50)),
    *((160, 60, 120), (140, 88, 60)),
  ),
}
WOOD = (84, 64, 48)
BURIED = 8  # rows by which distant objects extend below the horizon, where the uneven ground hides them


class Scene:
  """Three layers that every stroke is drawn into: color (RGB), class, and light (255 is full) of each pixel."""

  def __init__(self, rng: np.random.Generator):
    self.rng = rng
    self.width, self.height = self.within(WIDTHS), self.within(HEIGHTS)
    if self.chance(PORTRAITS):
      self.width, self.height = self.within(PORTRAIT_WIDTHS), max(HEIGHTS)
    self.horizon = int(self.height * rng.uniform(0.38, 0.58))
    self.sky = SKIES[rng.integers(len(SKIES))]
    self.palette = {name: [some[i] for i in rng.integers(len(some), size=3)] for name, some in COLORS.items()}
    size = (self.width, self.height)
    self.layers = [Image.new(*kind) for kind in (('RGB', size), ('L', size), ('L', size, 255))]
    self.brushes = [ImageDraw.Draw(layer) for layer in self.layers]

  def within(self, bounds: tuple[int, int], times: float = 1.0) -> int:
    """A random integer within the bounds (both included) times `times`, rounded, at least 1."""
    return max(1, round(times * int(self.rng.integers(bounds[0], bounds[1] + 1))))

  def chance(self, probability: float) -> bool:
    return bool(self.rng.random() < probability)

  def color(self, name: str, spread: float = 12) -> tuple[int, int, int]:
    """One of the image's colors for a class, varied a little; water reflects the sky."""
    if name == 'water':
      top, bottom = np.array(self.sky)
      base = (top + (bottom - top) * self.rng.random()) * self.rng.uniform(0.6, 0.85) - (12, 2, -10)
    else:
      base = self.palette[name][self.rng.integers(3)]
    return tinted(base, self.rng.normal(0, spread) + self.rng.normal(0, spread / 4, 3))

  def nearness(self, foot: float) -> float:
    """Scale of an object with its base at row `foot`: 0.6 at the horizon, 1.1 at the bottom."""
    return 0.6 + 0.5 * (foot - self.horizon) / (self.height - self.horizon)

  def stroke(self, kind: str, points, name: str, color, light: int = 255, **options):
    """Draws `kind` (a method of ImageDraw) into all layers; points are (x, y) pairs."""
    points = [(int(x), int(y)) for x, y in points]
    for brush, fill in zip(self.brushes, (color, CLASSES.index(name), light), strict=True):
      getattr(brush, kind)(points, fill=fill, **options)

  def polygon(self, points, name, color, light=255):
    self.stroke('polygon', points, name, color, light)

  def line(self, points, thickness, name, color):
    self.stroke('line', points, name, color, width=thickness)

  def box(self, x, y, width, height, name, color, light=255):
    corners = [(x, y), (x + max(1, width) - 1, y + max(1, height) - 1)]
    self.stroke('rectangle', corners, name, color, light)

  def oval(self, x, y, across, down, name, color):
    self.stroke('ellipse', [(x - across, y - down), (x + across, y + down)], name, color)

  def shadow(self, x, foot, across):
    """Darkens the ground; strokes that follow reset the light."""
    self.brushes[2].ellipse([x - across, foot - 2, x + across, foot + 1], fill=165)


def tinted(color, change) -> tuple[int, int, int]:
  """`color` plus `change` (one number, or one per channel), clipped to 0..255."""
  return tuple(int(value) for value in np.clip(np.asarray(color) + change, 0, 255))


def sky(s: Scene):
  """A gradient from top to horizon, and clouds made of a few soft ovals."""
  top, bottom = s.sky
  rows = s.horizon + BURIED
  column = np.linspace(top, bottom, rows).astype(np.uint8)[:, None]
  s.layers[0].paste(Image.fromarray(column).resize((s.width, rows)))
  for _ in range(s.within((1, 4))):
    x, y = s.rng.integers(s.width), s.rng.integers(2 + s.horizon // 2)
    white = tinted(bottom, s.rng.uniform(5, 30))
    for shift in s.rng.integers(-14, 15, size=5):
      s.oval(x + shift, y + shift % 3, s.within((5, 12)), s.within((2, 4)), 'sky', white)


def mountains(s: Scene):
  """Isolated sharp peaks with a shaded side, some with snow."""
  for _ in range(s.within(PEAKS)):
    x, width, height = s.rng.integers(s.width), s.within(PEAK_WIDTH), s.within(PEAK_HEIGHT)
    top, foot = s.horizon - height, s.horizon + BURIED
    tip, color = x + s.rng.integers(-width // 8, width // 8 + 1), s.color('mountain')
    s.polygon([(x - width // 2, foot), (tip, top), (x + width // 2, foot)], 'mountain', color)
    middle = x + s.rng.integers(-width // 6, width // 6 + 1)
    s.polygon([(middle, foot), (tip, top), (x + width // 2, foot)], 'mountain', color, 215)
    if s.chance(0.3):
      snow = [(tip, top), (tip + width // 10, top + height // 5), (tip - width // 10, top + 5)]
      s.polygon(snow, 'mountain', tinted(color, 80))


def skyline(s: Scene):
  """Narrow houses and towers along the horizon; the background is visible in the gaps."""
  x, loose = -s.rng.integers(12), s.rng.uniform(0.4, 2)
  while x < s.width:
    width, height = s.within(TOWER_WIDTH), s.within(TOWER_HEIGHT)
    building(s, x, min(height, s.horizon - 2), width)
    x += width + s.within(TOWER_GAP, loose)


def building(s: Scene, x: int, height: int, width: int):
  """Walls with windows under a flat roof, a gable or a mast."""
  color, top, foot = s.color('building'), s.horizon - height, s.horizon + BURIED
  s.box(x, top, width, foot - top, 'building', color)
  s.box(x + width - width // 4, top, width // 4, foot - top, 'building', color, 200)
  roof = s.rng.integers(3)
  if roof == 1:
    gable = [(x - 1, top), (x + width // 2, top - width // 2), (x + width, top)]
    s.polygon(gable, 'building', tinted(s.color('building'), -30))
  elif roof == 2:
    mast = s.within((2, 3))
    s.box(x + width // 2, top - s.within((4, 12)), mast, 14, 'building', tinted(color, -40))
  glass = tinted(color, s.rng.choice((-55, -40, 45)))
  across, down = s.within((3, 5)), s.within((4, 6))
  for row in range(top + 2, foot - 2, down):
    for column in range(x + 1, x + width - 2, across):
      s.box(column, row, across - 2, down - 2, 'building', glass)


def ground(s: Scene):
  """Bands of grass, road and water from the horizon down, each with an uneven upper edge."""
  columns = np.linspace(0, s.width, 12)
  y, name = s.horizon, s.rng.choice(('grass', 'road', 'water'))
  while y < s.height:
    nearer = 0.4 + s.nearness(y)
    slope, phase = s.rng.uniform(-0.06, 0.06), s.rng.uniform(0, 6)
    bend = 1.5 * np.sin(columns / 14 + phase) + slope * (columns - s.width / 2)
    edge = list(zip(columns, y + bend, strict=True))
    s.polygon([*edge, (s.width, s.height), (0, s.height)], name, s.color(name))
    y += s.within(STRIP_HEIGHT, nearer)
    name = s.rng.choice([other for other in ('grass', 'road', 'water') if other != name])


def ways(s: Scene):
  """Roads, streams and strips of grass that wind from the horizon to the bottom."""
  for _ in range(s.within(WAYS)):
    name = s.rng.choice(('road', 'road', 'water', 'grass'))
    near = np.linspace(0, 1, 12)
    start, end = s.rng.uniform(0, s.width, 2)
    wind = s.rng.uniform(2, 10) * np.sin(near * s.rng.uniform(3, 9)) * near
    center, half = start + (end - start) * near**1.5 + wind, near * s.within(WAY_WIDTH) / 2 + 1
    rows = s.horizon + 1 + near * (s.height - s.horizon)
    left = list(zip(center - half, rows, strict=True))
    right = list(zip(center + half, rows, strict=True))
    color = s.color(name)
    s.polygon(left + right[::-1], name, color)
    if name == 'road' and s.chance(0.5):
      s.line(list(zip(center, rows, strict=True)), 1, 'road', tinted(color, 60))


def tree(s: Scene, x: int, foot: int):
  """A thin trunk with loose leaves, a conifer, or bare branches."""
  size, color = s.nearness(foot), s.color('tree')
  height, trunk = s.within(TREE_HEIGHT, size), s.within(TRUNK_WIDTH)
  top, bark = foot - height, tinted(WOOD, s.rng.normal(0, 15))
  s.shadow(x, foot, height // 5)
  s.box(x - trunk // 2, top + 4, trunk, height - 4, 'tree', bark)
  kind = s.rng.choice(('leaves', 'leaves', 'conifer', 'bare'))
  if kind == 'conifer':
    for y in range(top, foot - height // 5, 6):
      half = 2 + (y - top) // 5
      s.polygon([(x, y - 4), (x - half, y + 7), (x + half, y + 7)], 'tree', color)
  elif kind == 'bare':
    for y in range(top + 2, foot - height // 3, 5):
      reach = s.within((5, 13), size) * (1 if s.chance(0.5) else -1)
      s.line([(x, y + 5), (x + reach, y - abs(reach) // 2)], 2, 'tree', bark)
  else:
    for dx, dy in s.rng.normal(0, height / 6, (10, 2)):
      leaf, down = s.within(LEAF_RADIUS, size), top + height / 4 + 0.7 * dy
      s.oval(x + dx, down, leaf, leaf - 1, 'tree', tinted(color, s.rng.normal(0, 10)))


def person(s: Scene, x: int, foot: int):
  """Legs, body and head."""
  size = s.nearness(foot)
  width, height = s.within(PERSON_WIDTH, size), s.within(PERSON_HEIGHT, size)
  top, legs, head = foot - height, height // 2, max(2, height // 9)
  cloth, skin = s.color('foreground'), tinted((196, 150, 122), s.rng.uniform(-100, 20))
  s.shadow(x + width // 2, foot, width)
  trousers, stance = tinted(s.color('foreground'), -20), s.rng.integers(0, 3)
  s.line([(x + 1, foot - legs), (x + 1 - stance, foot)], 2, 'foreground', trousers)
  s.line([(x + width - 2, foot - legs), (x + width - 2 + stance, foot)], 2, 'foreground', trousers)
  s.box(x, top + 2 * head, width, height - legs - 2 * head + 1, 'foreground', cloth)
  s.oval(x + width // 2, top + head, head - 0.5, head, 'foreground', skin)


def pole(s: Scene, x: int, foot: int):
  """A lamp on an arm, a sign, or a bare post."""
  size, color = s.nearness(foot), tinted(s.color('foreground'), -25)
  width, height = s.within(POLE_WIDTH), s.within(POLE_HEIGHT, size)
  top = foot - height
  s.box(x, top, width, height, 'foreground', color)
  kind, side = s.rng.choice(('lamp', 'sign', 'post')), 1 if s.chance(0.5) else -1
  if kind == 'lamp':
    s.line([(x, top), (x + 9 * side, top - 2)], 2, 'foreground', color)
    s.oval(x + 9 * side, top, 3, 2, 'foreground', tinted(color, 60))
  elif kind == 'sign':
    wide, high = s.within((6, 11)), s.within((5, 10))
    s.box(x + width // 2 - wide // 2, top, wide, high, 'foreground', s.color('foreground'))


def car(s: Scene, x: int, foot: int):
  """A body with windows, seen from the side, on two wheels."""
  size, color = s.nearness(foot), s.color('foreground')
  length, height = s.within(CAR_LENGTH, size), s.within(CAR_HEIGHT, size)
  middle, deck = x + length // 2, foot - height - 1
  s.shadow(middle, foot, length // 2 + 2)
  roof = [(x + 2, deck), (x + length // 4, deck - height), (x + length * 3 // 4, deck - height)]
  s.polygon([*roof, (x + length - 2, deck)], 'foreground', color)
  s.box(x + length // 4, deck - height + 2, length // 2, height - 2, 'foreground', (58, 68, 80))
  s.box(middle, deck - height, 2, height, 'foreground', color)
  s.box(x, deck, length, height, 'foreground', color)
  for wheel in (x + length // 5, x + length * 4 // 5):
    s.oval(wheel, foot - 2, 2, 2, 'foreground', (30, 30, 32))


def animal(s: Scene, x: int, foot: int):
  """A dog, a sheep or a cow, which differ only in size and color."""
  color, height = tinted(WOOD, s.rng.uniform(-40, 130)), s.within((6, 12), s.nearness(foot))
  side = 1 if s.chance(0.5) else -1
  s.shadow(x, foot, height)
  s.oval(x, foot - height * 2 // 3, height * 2 // 3, height // 3, 'foreground', color)
  s.oval(x + side * height * 3 // 4, foot - height, 2, 2, 'foreground', color)
  for leg in (-height // 2, -height // 4, height // 4, height // 2):
    s.box(x + leg, foot - height // 2, 2, height // 2, 'foreground', tinted(color, -20))


def boat(s: Scene, x: int, foot: int):
  """A hull, a cabin and, for half of the boats, a mast."""
  size, color = s.nearness(foot), s.color('foreground')
  length, deck = s.within(BOAT_LENGTH, size), foot - s.within((4, 7), size)
  hull = [(x, deck), (x + length, deck), (x + length * 4 // 5, foot), (x + length // 5, foot)]
  s.polygon(hull, 'foreground', color)
  s.box(x + length // 3, deck - 4, length // 3, 4, 'foreground', tinted(color, 60))
  if s.chance(0.5):
    s.box(x + length // 2, deck - length, 2, length, 'foreground', tinted(color, -40))


def fence(s: Scene, x: int, foot: int):
  """Posts and rails; the background is visible between them."""
  color, height = s.color('foreground'), s.within((7, 12), s.nearness(foot))
  pitch, posts = s.within((5, 9)), s.within((4, 12))
  for post in range(posts):
    s.box(x + post * pitch, foot - height, 2, height, 'foreground', color)
  for rail in (foot - height + 1, foot - height // 2):
    s.line([(x, rail), (x + (posts - 1) * pitch, rail)], 2, 'foreground', color)


# The objects on the ground, with their counts per image: lowest and highest, both included.
OBJECTS = {tree: (1, 2), person: (0, 2), pole: (0, 1), car: (0, 2), animal: (0, 1), fence: (0, 1)}
