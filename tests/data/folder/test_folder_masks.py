"""Masks of any bit depth, palette, format and color become classes; what they hold and nothing names is an error."""

import folders
import numpy as np
import pytest
from folders import LABELS, RGB, VOC, examples, labels_of, load, measured, pairs, png, save, with_mask
from PIL import Image

from fcn_jax.errors import UserError

BINARY = folders.mask(2)


def paletted(values, colors=VOC):
  image = Image.frombytes('P', values.shape[::-1], values.tobytes())
  image.putpalette(colors.tobytes())
  return image


# The ending, the content, and the labels in it.
KINDS = {f'gray_{bits}': ('.png', png(LABELS, bits), LABELS) for bits in (2, 4, 8, 16)}
KINDS |= {f'palette_{bits}': ('.png', png(LABELS, bits, VOC.tobytes()), LABELS) for bits in (2, 4, 8)}
KINDS |= {
  'gray_1': ('.png', png(BINARY, 1), BINARY),
  'palette_1': ('.png', png(BINARY, 1, VOC[:2].tobytes()), BINARY),
  'pillow_1': ('.png', Image.fromarray(BINARY.astype(bool)), BINARY),
  'pillow_16': ('.png', Image.fromarray(LABELS.astype(np.uint16)), LABELS),
  'gray_of_4_bits_to_15': ('.png', png(folders.mask(16), 4), folders.mask(16)),
  'transparent_gray': ('.png', Image.merge('LA', [Image.fromarray(LABELS)] * 2), LABELS),
  'rgb_that_is_gray': ('.png', np.stack([LABELS] * 3, -1), LABELS),
  'rgba_that_is_gray': ('.png', np.stack([LABELS] * 3 + [LABELS + 200], -1), LABELS),
  'bmp': ('.bmp', LABELS, LABELS),
  'bmp_palette': ('.bmp', paletted(LABELS), LABELS),
  'tiff': ('.tif', LABELS, LABELS),
  'tiff_16': ('.tiff', LABELS.astype(np.uint16), LABELS),
  'tiff_32': ('.tif', LABELS.astype(np.int32), LABELS),
  'tiff_float': ('.tif', LABELS.astype(np.float32), LABELS),
  'tiff_one_band': ('.tif', LABELS[..., None], LABELS),
  'npy': ('.npy', LABELS, LABELS),
  'npy_64': ('.npy', LABELS.astype(np.int64), LABELS),
  'npy_big_endian': ('.npy', LABELS.astype('>u2'), LABELS),
  'npy_bool': ('.npy', BINARY.astype(bool), BINARY),
  'npy_float': ('.npy', LABELS.astype(np.float64), LABELS),
  'npy_fortran': ('.npy', np.asfortranarray(LABELS), LABELS),
}


@pytest.mark.parametrize('kind', KINDS)
def test_a_mask_has_the_numbers_in_its_file(tmp_path, kind):
  ending, content, expected = KINDS[kind]
  label, classes = labels_of(with_mask(tmp_path / 'd', ending, content))
  np.testing.assert_array_equal(label, expected)
  assert classes.names == tuple(f'class_{number}' for number in range(expected.max() + 1))
  if 'palette' in kind:
    assert classes.palette == tuple(map(tuple, VOC[: len(classes)].tolist()))


@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_adobe_deflate', 'packbits', None])
def test_a_mask_is_a_tiff_of_pillow(tmp_path, compression):
  for number in range(2):
    save(tmp_path / f'd/images/{number}.png', folders.image())
    (tmp_path / 'd/masks').mkdir(exist_ok=True)
    paletted(LABELS).save(tmp_path / f'd/masks/{number}.tif', compression=compression)
  np.testing.assert_array_equal(labels_of(tmp_path / 'd')[0], LABELS)


def test_255_and_minus_1_count_nowhere(tmp_path):
  values = LABELS.astype(np.int32)
  values[0, :2] = 255, -1
  label, classes = labels_of(with_mask(tmp_path / 'd', '.npy', values))
  assert label[0, :2].tolist() == [255, 255] and len(classes) == 3
  np.testing.assert_array_equal(label.ravel()[2:], LABELS.ravel()[2:])


# dataset.toml, labels in the masks, the expected labels, names.
BINARIES = {
  'guessed': ('', [0, 255], [0, 1], 'background foreground'),
  'only_255': ('', [255, 255], [1, 1], 'background foreground'),
  'named': ('classes = ["no", "yes"]', [0, 255], [0, 1], 'no yes'),
  'ignored': ('ignore = [255]\nclasses = ["no", "yes"]', [0, 255], [0, 255], 'no yes'),
  'three_classes': ('classes = ["a", "b", "c"]', [0, 255], [0, 255], 'a b c'),
  'mapped': ('classes = ["a", "b"]\nmap.255 = "a"', [0, 255], [0, 0], 'a b'),
  'white_first': ('classes = ["w", "b"]\ncolors = [[255, 255, 255], [0, 0, 0]]', [0, 255], [1, 0], 'w b'),
  'grays': ('classes = ["a", "b", "c"]\ncolors = [[0,0,0], [9,9,9], [255,255,255]]', [9, 255], [1, 2], 'a b c'),
}


# For which masks the classes are guessed: colors of a table are no guess.
GUESSED = dict.fromkeys(BINARIES, '') | dict.fromkeys(('guessed', 'only_255', 'named'), 'both')
GUESSED |= {'white_first': 'gray', 'grays': 'gray'}


@pytest.mark.parametrize('kind', ['gray', 'rgb'])
@pytest.mark.parametrize('case', BINARIES)
def test_masks_of_few_grays(tmp_path, caplog, case, kind):
  caplog.set_level('INFO')
  toml, values, expected, names = BINARIES[case]
  mask = np.array(values, np.uint8)[BINARY]
  root = with_mask(tmp_path / 'd', '.png', mask if kind == 'gray' else np.stack([mask] * 3, -1))
  save(root / 'dataset.toml', toml)
  label, classes = labels_of(root)
  np.testing.assert_array_equal(label, np.array(expected)[BINARY])
  assert classes.names == tuple(names.split())
  assert ('guessed: masks hold only' in caplog.text) == (GUESSED[case] in ('both', kind))


@pytest.mark.parametrize('value', [1, 7, 254])
def test_a_binary_mask_with_another_label_is_refused(tmp_path, value, monkeypatch):
  """The guess is made on a sample; that other masks are none of its is found when they are read."""
  root = with_mask(tmp_path / 'd', '.png', BINARY * 255)
  mask = BINARY * 255
  mask[0, 0] = value
  other = folders.unsampled(root, monkeypatch)
  save(root / f'masks/{other}.png', mask)
  with pytest.raises(
    UserError, match=rf'masks/{other}.png has the labels {value} \(1 pixels\).*expected 0, 255: correct'
  ):
    examples(load(root))


# dataset.toml, labels of the masks, expected labels and names.
STATED = {
  'ignore_first': ('ignore = [0]', [0, 1, 2], [255, 0, 1], 'class_1 class_2'),
  'ignore_class': ('classes = ["a", "void", "c"]\nignore = [1]', [0, 1, 2], [0, 255, 1], 'a c'),
  'ignore_other': ('classes = ["a", "b"]\nignore = [11]', [0, 1, 11], [0, 1, 255], 'a b'),
  'map': ('classes = ["a", "b"]\n[map]\n7 = "b"\n40000 = "a"', [0, 7, 40000], [0, 1, 0], 'a b'),
  'ignored_number_of_a_mapped_class': (
    'classes = ["a", "b", "v"]\nignore = [2]\n[map]\n7 = "v"',
    [0, 2, 7],
    [0, 255, 2],
    'a b v',
  ),
  'sparse': ('classes = ["a", "b", "c"]\n[map]\n100 = "b"\n200 = "c"', [0, 100, 200], [0, 1, 2], 'a b c'),
  'unused_class': ('classes = ["a", "b", "c", "d", "e"]', [0, 1, 2], [0, 1, 2], 'a b c d e'),
}


@pytest.mark.parametrize('case', STATED)
def test_what_dataset_toml_says_of_labels(tmp_path, case):
  toml, values, expected, names = STATED[case]
  root = with_mask(tmp_path / 'd', '.png', np.array(values, np.uint16)[LABELS])
  save(root / 'dataset.toml', toml)
  _, found = measured(root)
  assert found['data.classes'] == len(names.split())
  for fields in ({}, {'classes': found['data.classes']}):  # before and after the number of classes is measured
    label, classes = labels_of(root, **fields)
    np.testing.assert_array_equal(label, np.array(expected)[LABELS])
    assert classes.names == tuple(names.split())


def test_the_number_of_classes_is_a_setting(tmp_path):
  assert len(labels_of(pairs(tmp_path / 'd'), classes=7)[1]) == 7
  with pytest.raises(UserError, match=r'has the labels 2 \(16 pixels\)'):
    labels_of(tmp_path / 'd', classes=2)


UNKNOWN = {
  'sparse': ('.png', np.array([0, 1, 200], np.uint8)[LABELS], ['have the labels 0, 1, 200', 'dataset.toml', 'init']),
  'all_ignored': ('.png', LABELS * 0 + np.uint8(255), []),
  'ids_of_objects': ('.npy', LABELS.astype(np.int32) * 70000, ['have the labels 0, 70000, 140000']),
  'only_ignored': ('.tif', LABELS + np.uint8(5), ['hold only 5, 6, 7, which count nowhere (dataset.toml); expected']),
  'negative': ('.npy', LABELS.astype(np.int8) - 3, ['have the labels -3, -2']),
  'colors': ('.png', RGB[LABELS], ['have colors, such as (0, 0, 0), (0, 0, 142), (128, 64, 128)', 'classes.csv']),
  'fractions': ('.npy', LABELS / 2, ['masks/0.npy is float64 [6, 8]', 'one whole number per pixel']),
  'nan': ('.npy', np.full(folders.SIZE, np.nan, np.float32), ['masks/0.npy is float32']),
  'one_hot': ('.npy', np.zeros((*folders.SIZE, 5), np.uint8), ['masks/0.npy is uint8 [6, 8, 5]']),
  'jpeg': ('.jpg', LABELS, ['the mask', 'masks/0.jpg is a JPEG file', 'may change labels', 'PNG, BMP, TIFF or NPY']),
  'jpeg_in_png': ('.png', 'jpeg', ['masks/0.png is a JPEG file']),
  'webp': ('.webp', RGB[LABELS], ['masks/0.webp is a WEBP file']),
  'gif': ('.gif', paletted(LABELS), ['masks/0.gif is a GIF file', 'reorder']),
  'text': ('.png', b'hello, this is text', ['masks/0.png', 'content is unknown']),
  'empty': ('.png', b'', ['masks/0.png', 'it is empty']),
  'truncated': ('.png', png(np.tile(LABELS, (9, 9)), 8)[:60], ['masks/0.png']),
  'objects': ('.npy', np.array([[{}]]), ['masks/0.npy']),
  'volume': ('.npy', np.zeros((2, 3, 4, 5), np.uint8), ['masks/0.npy has an array of uint8 [2, 3, 4, 5]']),
}


@pytest.mark.parametrize('case', UNKNOWN)
def test_masks_that_say_no_classes(tmp_path, case):
  ending, content, parts = UNKNOWN[case]
  if isinstance(content, str):
    content = save(tmp_path / 'x.jpg', LABELS).read_bytes()
  root = with_mask(tmp_path / 'd', ending, content)
  if case == 'only_ignored':
    save(root / 'dataset.toml', 'classes = ["a", "b"]\nignore = [5, 6, 7]')
  if not parts:
    assert (labels_of(root)[0] == 1).all()
    return
  with pytest.raises(UserError) as caught:
    load(root)
  message = str(caught.value)
  assert all(part in message for part in parts) and '\n' not in message and len(message) < 600, message


def test_unknown_labels_are_named_with_their_numbers_of_pixels(tmp_path):
  values = LABELS.copy()
  values[0, :3], values[1, :2] = 11, 12
  root = pairs(tmp_path / 'd')
  save(root / 'masks/1.png', values)
  save(root / 'dataset.toml', 'classes = ["a", "b", "c"]')
  with pytest.raises(
    UserError, match=r'masks/1.png has the labels 11 \(3 pixels\), 12 \(2 pixels\).*expected 0, 1, 2, 255'
  ):
    examples(load(root))
  save(root / 'dataset.toml', 'ignore = [11, 12]')
  assert (examples(load(root))['1'][1] == 255).sum() == 5


def test_a_palette_in_another_order_than_the_table_of_colors_is_refused(tmp_path):
  colors = [(0, 0, 0), (200, 0, 0), (0, 0, 200)]
  folders.pairs(tmp_path / 'data')
  rows = ''.join(f'{name},{",".join(map(str, color))}\n' for name, color in zip('abc', colors, strict=True))
  (tmp_path / 'data/classes.csv').write_text(f'name,red,green,blue\n{rows}')
  for number in range(4):
    image = Image.fromarray(folders.mask())
    order = colors if number else [colors[0], colors[2], colors[1]]
    image.putpalette([x for color in order for x in color])
    image.save(tmp_path / f'data/masks/{number}.png')
  data = folders.load(tmp_path / 'data')
  with pytest.raises(UserError, match=r'masks/0.png has the color \(0, 0, 200\) for the label 1, .* the label 2'):
    for split in data.splits.values():
      for index in range(len(split)):
        split[index]
