"""What a drawn street scene holds, from far to near; `scenes.py` makes a picture and label of it.

Every stroke goes to three layers of one size, so the label is exact by construction. What tells the
strides of an FCN apart is what is thin, so its counts and widths stand first, to be tuned.
"""

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ('sky', 'tree', 'road', 'grass', 'water', 'building', 'mountain', 'foreground')

# How many of each a picture has, and how large in pixels: lowest and highest, both included.
HEIGHTS, WIDTHS = (104, 128), (136, 160)
PORTRAITS, PORTRAIT_WIDTHS = 0.15, (96, 120)  # the share of upright pictures; they are tallest
PEAKS, PEAK_WIDTH, PEAK_HEIGHT = (1, 3), (100, 180), (24, 44)
TOWER_WIDTH, TOWER_HEIGHT, TOWER_GAP = (36, 76), (16, 40), (32, 84)
STRIP_HEIGHT = (56, 110)  # bands of grass, water and road at the horizon; 1.5 of that at the bottom
WAYS, WAY_WIDTH = (0, 1), (60, 100)  # paths, streams and verges; the width at the bottom
TREES, TREE_HEIGHT, TRUNK_WIDTH, LEAF_RADIUS = (1, 2), (60, 84), (5, 8), (14, 20)
PEOPLE, PERSON_WIDTH, PERSON_HEIGHT = (0, 2), (9, 13), (24, 40)
POLES, POLE_WIDTH, POLE_HEIGHT = (0, 1), (3, 5), (30, 60)
CARS, CAR_LENGTH, CAR_HEIGHT = (0, 2), (54, 76), (15, 20)
BOAT_LENGTH = (36, 56)  # as many boats as things would stand in water
ANIMALS, FENCES = (0, 1), (0, 1)

# Top and bottom of the sky; water mirrors them, so that blue alone says little.
SKIES = (
  ((88, 142, 206), (196, 218, 236)),
  ((120, 164, 214), (222, 226, 226)),
  ((168, 176, 186), (214, 216, 216)),
  ((104, 122, 168), (236, 196, 160)),
)
COLOURS = {
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
BURIED = 8  # rows below the horizon where the far things end, hidden by the uneven ground


class Scene:
  """Three layers under one brush: colour (RGB), class, and the light (255 = full) on each pixel."""

  def __init__(self, rng: np.random.Generator):
    self.rng = rng
    self.width, self.height = self.within(WIDTHS), self.within(HEIGHTS)
    if self.chance(PORTRAITS):
      self.width, self.height = self.within(PORTRAIT_WIDTHS), max(HEIGHTS)
    self.horizon = int(self.height * rng.uniform(0.38, 0.58))
    self.sky = SKIES[rng.integers(len(SKIES))]
    self.palette = {name: self.some(COLOURS[name], 3) for name in COLOURS}
    size = (self.width, self.height)
    self.layers = [Image.new(*kind) for kind in (('RGB', size), ('L', size), ('L', size, 255))]
    self.brushes = [ImageDraw.Draw(layer) for layer in self.layers]

  def within(self, bounds: tuple[int, int], times: float = 1.0) -> int:
    """A random whole number with both bounds included, scaled and never below 1."""
    return max(1, round(times * int(self.rng.integers(bounds[0], bounds[1] + 1))))

  def chance(self, share: float) -> bool:
    return bool(self.rng.random() < share)

  def some(self, colours, count: int):
    return [colours[i] for i in self.rng.integers(len(colours), size=count)]

  def colour(self, name: str, spread: float = 12) -> tuple[int, int, int]:
    """One of the picture's colours for a class, moved a little; water mirrors the sky."""
    if name == 'water':
      top, bottom = np.array(self.sky)
      base = (top + (bottom - top) * self.rng.random()) * self.rng.uniform(0.6, 0.85) - (12, 2, -10)
    else:
      base = self.palette[name][self.rng.integers(3)]
    return tinted(base, self.rng.normal(0, spread) + self.rng.normal(0, spread / 4, 3))

  def nearness(self, foot: float) -> float:
    """Scale of a thing standing at row `foot`: 0.6 at the horizon, 1.1 at the bottom."""
    return 0.6 + 0.5 * (foot - self.horizon) / (self.height - self.horizon)

  def stroke(self, kind: str, points, name: str, colour, light: int = 255, **options):
    """Draws `kind` (a method of ImageDraw) in all layers; points are (x, y) pairs."""
    points = [(int(x), int(y)) for x, y in points]
    for brush, fill in zip(self.brushes, (colour, CLASSES.index(name), light), strict=True):
      getattr(brush, kind)(points, fill=fill, **options)

  def polygon(self, points, name, colour, light=255):
    self.stroke('polygon', points, name, colour, light)

  def line(self, points, thickness, name, colour):
    self.stroke('line', points, name, colour, width=thickness)

  def box(self, x, y, width, height, name, colour, light=255):
    corners = [(x, y), (x + max(1, width) - 1, y + max(1, height) - 1)]
    self.stroke('rectangle', corners, name, colour, light)

  def oval(self, x, y, across, down, name, colour):
    self.stroke('ellipse', [(x - across, y - down), (x + across, y + down)], name, colour)

  def shadow(self, x, foot, across):
    """Darkens the ground; what is drawn later stands in the light again."""
    self.brushes[2].ellipse([x - across, foot - 2, x + across, foot + 1], fill=165)


def tinted(colour, change) -> tuple[int, int, int]:
  return tuple(int(value) for value in np.clip(np.asarray(colour) + change, 0, 255))


def sky(s: Scene):
  """A gradient from zenith to horizon, and clouds of a few soft ovals."""
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
  """Single sharp peaks with a shaded side, some with snow, some high up in the haze."""
  for _ in range(s.within(PEAKS)):
    x, width, height = s.rng.integers(s.width), s.within(PEAK_WIDTH), s.within(PEAK_HEIGHT)
    top, foot = s.horizon - height, s.horizon + BURIED
    tip, colour = x + s.rng.integers(-width // 8, width // 8 + 1), s.colour('mountain')
    s.polygon([(x - width // 2, foot), (tip, top), (x + width // 2, foot)], 'mountain', colour)
    middle = x + s.rng.integers(-width // 6, width // 6 + 1)
    s.polygon([(middle, foot), (tip, top), (x + width // 2, foot)], 'mountain', colour, 215)
    if s.chance(0.3):
      snow = [(tip, top), (tip + width // 10, top + height // 5), (tip - width // 10, top + 5)]
      s.polygon(snow, 'mountain', tinted(colour, 80))


def skyline(s: Scene):
  """Narrow houses and towers along the horizon, with gaps that show what lies behind."""
  x, loose = -s.rng.integers(12), s.rng.uniform(0.4, 2)
  while x < s.width:
    width, height = s.within(TOWER_WIDTH), s.within(TOWER_HEIGHT)
    building(s, x, min(height, s.horizon - 2), width)
    x += width + s.within(TOWER_GAP, loose)


def building(s: Scene, x: int, height: int, width: int):
  """Walls with windows; a flat roof, a gable or a mast on top."""
  colour, top, foot = s.colour('building'), s.horizon - height, s.horizon + BURIED
  s.box(x, top, width, foot - top, 'building', colour)
  s.box(x + width - width // 4, top, width // 4, foot - top, 'building', colour, 200)
  roof = s.rng.integers(3)
  if roof == 1:
    gable = [(x - 1, top), (x + width // 2, top - width // 2), (x + width, top)]
    s.polygon(gable, 'building', tinted(s.colour('building'), -30))
  elif roof == 2:
    mast = s.within((2, 3))
    s.box(x + width // 2, top - s.within((4, 12)), mast, 14, 'building', tinted(colour, -40))
  glass = tinted(colour, s.rng.choice((-55, -40, 45)))
  across, down = s.within((3, 5)), s.within((4, 6))
  for row in range(top + 2, foot - 2, down):
    for column in range(x + 1, x + width - 2, across):
      s.box(column, row, across - 2, down - 2, 'building', glass)


def ground(s: Scene):
  """Bands of grass, road and water from the horizon down, each with an uneven far edge."""
  columns = np.linspace(0, s.width, 12)
  y, name = s.horizon, s.rng.choice(('grass', 'road', 'water'))
  while y < s.height:
    nearer = 0.4 + s.nearness(y)
    slope, phase = s.rng.uniform(-0.06, 0.06), s.rng.uniform(0, 6)
    bend = 1.5 * np.sin(columns / 14 + phase) + slope * (columns - s.width / 2)
    edge = list(zip(columns, y + bend, strict=True))
    s.polygon([*edge, (s.width, s.height), (0, s.height)], name, s.colour(name))
    y += s.within(STRIP_HEIGHT, nearer)
    name = s.rng.choice([other for other in ('grass', 'road', 'water') if other != name])


def ways(s: Scene):
  """Roads, streams and strips of grass that wind from the horizon to the bottom."""
  for _ in range(s.within(WAYS)):
    name = s.rng.choice(('road', 'road', 'water', 'grass'))
    near = np.linspace(0, 1, 12)
    start, end = s.rng.uniform(0, s.width, 2)
    wind = s.rng.uniform(2, 10) * np.sin(near * s.rng.uniform(3, 9)) * near
    centre, half = start + (end - start) * near**1.5 + wind, near * s.within(WAY_WIDTH) / 2 + 1
    rows = s.horizon + 1 + near * (s.height - s.horizon)
    left = list(zip(centre - half, rows, strict=True))
    right = list(zip(centre + half, rows, strict=True))
    colour = s.colour(name)
    s.polygon(left + right[::-1], name, colour)
    if name == 'road' and s.chance(0.5):
      s.line(list(zip(centre, rows, strict=True)), 1, 'road', tinted(colour, 60))


def tree(s: Scene, x: int, foot: int):
  """A thin trunk under loose leaves, a conifer, or bare branches."""
  size, colour = s.nearness(foot), s.colour('tree')
  height, trunk = s.within(TREE_HEIGHT, size), s.within(TRUNK_WIDTH)
  top, bark = foot - height, tinted(WOOD, s.rng.normal(0, 15))
  s.shadow(x, foot, height // 5)
  s.box(x - trunk // 2, top + 4, trunk, height - 4, 'tree', bark)
  kind = s.rng.choice(('leaves', 'leaves', 'conifer', 'bare'))
  if kind == 'conifer':
    for y in range(top, foot - height // 5, 6):
      half = 2 + (y - top) // 5
      s.polygon([(x, y - 4), (x - half, y + 7), (x + half, y + 7)], 'tree', colour)
  elif kind == 'bare':
    for y in range(top + 2, foot - height // 3, 5):
      reach = s.within((5, 13), size) * (1 if s.chance(0.5) else -1)
      s.line([(x, y + 5), (x + reach, y - abs(reach) // 2)], 2, 'tree', bark)
  else:
    for dx, dy in s.rng.normal(0, height / 6, (10, 2)):
      leaf, down = s.within(LEAF_RADIUS, size), top + height / 4 + 0.7 * dy
      s.oval(x + dx, down, leaf, leaf - 1, 'tree', tinted(colour, s.rng.normal(0, 10)))


def person(s: Scene, x: int, foot: int):
  size = s.nearness(foot)
  width, height = s.within(PERSON_WIDTH, size), s.within(PERSON_HEIGHT, size)
  top, legs, head = foot - height, height // 2, max(2, height // 9)
  cloth, skin = s.colour('foreground'), tinted((196, 150, 122), s.rng.uniform(-100, 20))
  s.shadow(x + width // 2, foot, width)
  trousers, stance = tinted(s.colour('foreground'), -20), s.rng.integers(0, 3)
  s.line([(x + 1, foot - legs), (x + 1 - stance, foot)], 2, 'foreground', trousers)
  s.line([(x + width - 2, foot - legs), (x + width - 2 + stance, foot)], 2, 'foreground', trousers)
  s.box(x, top + 2 * head, width, height - legs - 2 * head + 1, 'foreground', cloth)
  s.oval(x + width // 2, top + head, head - 0.5, head, 'foreground', skin)


def pole(s: Scene, x: int, foot: int):
  """A lamp on an arm, a sign, or a bare post."""
  size, colour = s.nearness(foot), tinted(s.colour('foreground'), -25)
  width, height = s.within(POLE_WIDTH), s.within(POLE_HEIGHT, size)
  top = foot - height
  s.box(x, top, width, height, 'foreground', colour)
  kind, side = s.rng.choice(('lamp', 'sign', 'post')), 1 if s.chance(0.5) else -1
  if kind == 'lamp':
    s.line([(x, top), (x + 9 * side, top - 2)], 2, 'foreground', colour)
    s.oval(x + 9 * side, top, 3, 2, 'foreground', tinted(colour, 60))
  elif kind == 'sign':
    wide, high = s.within((6, 11)), s.within((5, 10))
    s.box(x + width // 2 - wide // 2, top, wide, high, 'foreground', s.colour('foreground'))


def car(s: Scene, x: int, foot: int):
  size, colour = s.nearness(foot), s.colour('foreground')
  length, height = s.within(CAR_LENGTH, size), s.within(CAR_HEIGHT, size)
  middle, deck = x + length // 2, foot - height - 1
  s.shadow(middle, foot, length // 2 + 2)
  roof = [(x + 2, deck), (x + length // 4, deck - height), (x + length * 3 // 4, deck - height)]
  s.polygon([*roof, (x + length - 2, deck)], 'foreground', colour)
  s.box(x + length // 4, deck - height + 2, length // 2, height - 2, 'foreground', (58, 68, 80))
  s.box(middle, deck - height, 2, height, 'foreground', colour)
  s.box(x, deck, length, height, 'foreground', colour)
  for wheel in (x + length // 5, x + length * 4 // 5):
    s.oval(wheel, foot - 2, 2, 2, 'foreground', (30, 30, 32))


def animal(s: Scene, x: int, foot: int):
  """A dog, a sheep or a cow: they differ in size and colour alone."""
  colour, height = tinted(WOOD, s.rng.uniform(-40, 130)), s.within((6, 12), s.nearness(foot))
  side = 1 if s.chance(0.5) else -1
  s.shadow(x, foot, height)
  s.oval(x, foot - height * 2 // 3, height * 2 // 3, height // 3, 'foreground', colour)
  s.oval(x + side * height * 3 // 4, foot - height, 2, 2, 'foreground', colour)
  for leg in (-height // 2, -height // 4, height // 4, height // 2):
    s.box(x + leg, foot - height // 2, 2, height // 2, 'foreground', tinted(colour, -20))


def boat(s: Scene, x: int, foot: int):
  """A hull, a cabin and, on some, a mast."""
  size, colour = s.nearness(foot), s.colour('foreground')
  length, deck = s.within(BOAT_LENGTH, size), foot - s.within((4, 7), size)
  hull = [(x, deck), (x + length, deck), (x + length * 4 // 5, foot), (x + length // 5, foot)]
  s.polygon(hull, 'foreground', colour)
  s.box(x + length // 3, deck - 4, length // 3, 4, 'foreground', tinted(colour, 60))
  if s.chance(0.5):
    s.box(x + length // 2, deck - length, 2, length, 'foreground', tinted(colour, -40))


def fence(s: Scene, x: int, foot: int):
  """Posts and rails; what lies behind shows between them."""
  colour, height = s.colour('foreground'), s.within((7, 12), s.nearness(foot))
  pitch, posts = s.within((5, 9)), s.within((4, 12))
  for post in range(posts):
    s.box(x + post * pitch, foot - height, 2, height, 'foreground', colour)
  for rail in (foot - height + 1, foot - height // 2):
    s.line([(x, rail), (x + (posts - 1) * pitch, rail)], 2, 'foreground', colour)


def street(s: Scene):
  """Everything that stands on the ground, from the farthest foot to the nearest.

  What would stand in water becomes a boat.
  """
  bare = np.array(s.layers[1])
  counts = {tree: TREES, person: PEOPLE, pole: POLES, car: CARS, animal: ANIMALS, fence: FENCES}
  things = []
  for thing, bounds in counts.items():
    for _ in range(s.rng.integers(bounds[0], bounds[1] + 1)):
      foot, x = int(s.rng.integers(s.horizon + 3, s.height)), int(s.rng.integers(s.width))
      afloat = CLASSES[bare[foot, x]] == 'water'
      things.append((foot, len(things), boat if afloat else thing, x))
  for foot, _, thing, x in sorted(things):
    thing(s, x, foot)


FAR_TO_NEAR = (sky, mountains, skyline, ground, ways, street)
