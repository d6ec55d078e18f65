"""Images of any number of channels and any type are read as they are; different kinds in one folder are refused."""

import itertools

import folders
import numpy as np
import pytest
import tifffile
from folders import examples, load, measured, save
from photos import rotated
from PIL import Image

from fcn_jax.data import folder
from fcn_jax.errors import UserError

HEIGHT, WIDTH = folders.SIZE


def values(channels, dtype=np.uint16, seed=0):
  """[H, W, C], or [H, W] for one channel; the channels have different ranges."""
  shape = (*folders.SIZE, channels) if channels > 1 else folders.SIZE
  scale = 100 * (1 + np.arange(channels)) if channels > 1 else 100
  return (np.random.default_rng(seed).random(shape) * scale).astype(dtype)


def with_images(root, ending, *contents):
  """images/ and masks/ with these contents, or four times the only one; callables write the file."""
  for number, content in enumerate(contents * 4 if len(contents) == 1 else contents):
    path = root / f'images/{number}{ending}'
    if callable(content):
      path.parent.mkdir(parents=True, exist_ok=True)
      content(path)
    else:
      save(path, content)
    save(root / f'masks/{number}.png', folders.mask())
  return root


def read(root, **fields):
  """The first image, its stream, and the settings."""
  data, found = measured(root, **fields)
  loaded = folder.load(data)
  return loaded.splits['train'][0]['inputs'][next(iter(loaded.inputs))], loaded.inputs, found


RGB = folders.image()
# What viewers show as it is: uint8 [H, W, 3].
PLAIN = {
  'gray': ('.png', RGB[..., 0], np.stack([RGB[..., 0]] * 3, -1)),
  'rgb': ('.png', RGB, RGB),
  'opaque': ('.png', np.concatenate([RGB, RGB[..., :1] * 0 + 255], -1), RGB),
  'tiff': ('.tif', RGB, RGB),
  'tiff_gray': ('.tif', RGB[..., 0], np.stack([RGB[..., 0]] * 3, -1)),
  'bmp': ('.bmp', RGB, RGB),
  'tiff_lzw': ('.tif', lambda path: tifffile.imwrite(path, RGB, photometric='rgb', compression='lzw'), RGB),
  'tiff_alpha': (
    '.tif',
    lambda path: tifffile.imwrite(
      path, np.concatenate([RGB, RGB[..., :1] * 0 + 255], -1), photometric='rgb', extrasamples=['unassalpha']
    ),
    RGB,
  ),
}


@pytest.mark.parametrize('kind', PLAIN)
def test_images_of_8_bits_are_rgb(tmp_path, kind):
  ending, content, expected = PLAIN[kind]
  image, inputs, found = read(with_images(tmp_path / 'd', ending, content))
  np.testing.assert_array_equal(image, expected)
  assert inputs == {'rgb': 3} and found['data.range'] == ()
  flat = expected.reshape(-1, 3).astype(float)
  np.testing.assert_allclose(found['model.mean'], flat.mean(0), atol=1e-3)
  np.testing.assert_allclose(found['model.std'], flat.std(0), atol=1e-3)


FIVE = values(5)
ARRAYS = {
  'png_16': ('.png', values(1), values(1)[..., None]),
  'tiff_16': ('.tif', values(1), values(1)[..., None]),
  'tiff_16_rgb': ('.tif', values(3), values(3)),
  'tiff_5': ('.tif', FIVE, FIVE),
  'tiff_5_first': ('.tif', FIVE.transpose(2, 0, 1).copy(), FIVE),
  'tiff_5_planar': (
    '.tif',
    lambda path: tifffile.imwrite(path, FIVE.transpose(2, 0, 1), planarconfig='separate', photometric='minisblack'),
    FIVE,
  ),
  'tiff_5_contiguous': (
    '.tif',
    lambda path: tifffile.imwrite(path, FIVE, planarconfig='contig', photometric='minisblack'),
    FIVE,
  ),
  'tiff_5_of_imagej': (
    '.tif',
    lambda path: tifffile.imwrite(path, FIVE.transpose(2, 0, 1), imagej=True, metadata={'axes': 'CYX'}),
    FIVE,
  ),
  'tiff_big_endian': ('.tif', lambda path: tifffile.imwrite(path, values(1), byteorder='>'), values(1)[..., None]),
  'tiff_float': ('.tif', values(2, np.float32), values(2, np.float32)),
  'tiff_4_near_infrared': (
    '.tif',
    lambda path: tifffile.imwrite(path, values(4, np.uint8), photometric='rgb', extrasamples=['unspecified']),
    values(4, np.uint8),
  ),
  'tiff_2_of_8_bits': ('.tif', values(2, np.uint8), values(2, np.uint8)),
  'npy': ('.npy', values(4, np.float64), values(4, np.float64)),
  'npy_first': ('.npy', values(2, np.float16).transpose(2, 0, 1), values(2, np.float16)),
  'npy_8': ('.npy', values(3, np.uint8), values(3, np.uint8)),
  'npy_signed': ('.npy', values(1, np.int16) - 50, (values(1, np.int16) - 50)[..., None]),
  'tiny_numbers': ('.npy', values(2, np.float32) * 1e-12, values(2, np.float32) * 1e-12),
}


@pytest.mark.parametrize('kind', ARRAYS)
def test_the_range_of_other_values_is_measured_and_used(tmp_path, kind):
  ending, content, expected = ARRAYS[kind]
  image, inputs, found = read(with_images(tmp_path / 'd', ending, content))
  channels = expected.shape[-1]
  assert image.shape == expected.shape and image.dtype == np.uint8
  assert inputs == {'rgb' if channels == 3 else 'image': channels}
  expected = expected.astype(np.float64)
  if found['data.range']:
    low, high = np.array(found['data.range']).reshape(channels, 2).T
    np.testing.assert_allclose([low, high], np.percentile([expected] * 3, (0.1, 99.9), axis=(0, 1, 2)), rtol=1e-5)
    expected = np.clip((expected - low) / (high - low) * 255, 0, 255)
  else:
    assert '8' in kind or 'infrared' in kind
  np.testing.assert_allclose(image, expected, atol=0.51)
  np.testing.assert_allclose(found['model.mean'], image.mean((0, 1)), atol=1e-3)
  np.testing.assert_allclose(found['model.std'], image.std((0, 1)), atol=1e-3)


def test_nan_and_infinity_are_no_part_of_the_range(tmp_path):
  content = values(2, np.float32)
  content[0, 0], content[0, 1], content[0, 2] = np.nan, np.inf, -np.inf
  content[..., 1] = np.nan
  image, _, found = read(with_images(tmp_path / 'd', '.npy', content))
  assert np.isfinite(found['data.range']).all() and found['data.range'][1] <= 100
  assert image[0, :3, 0].tolist() == [0, 255, 0] and (image[..., 1] == 0).all()
  assert found['model.std'][1] == 1  # nothing is divided by 0


@pytest.mark.parametrize(
  'given, expected',
  [('[0, 100]', (0, 100) * 2), ('[[0, 100], [10, 200]]', (0, 100, 10, 200)), ('[0, 1e3]', (0, 1e3) * 2)],
)
def test_the_range_is_given(tmp_path, given, expected):
  root = with_images(tmp_path / 'd', '.tif', values(2))
  save(root / 'dataset.toml', f'range = {given}')
  image, _, found = read(root)
  assert found['data.range'] == expected
  low, high = np.array(expected).reshape(2, 2).T
  np.testing.assert_allclose(image, np.clip((values(2) - low) / (high - low) * 255, 0, 255), atol=0.51)
  np.testing.assert_array_equal(next(iter(examples(load(root)).values()))[0], image)  # also before it is measured
  assert read(root, range=(0.0, 50.0))[2]['data.range'] == (0, 50, 0, 50)  # the setting wins


@pytest.mark.parametrize('given', ['[[0, 1], [0, 1], [0, 1]]', '[[0, 1]]'])
def test_a_range_for_other_channels(tmp_path, given):
  root = with_images(tmp_path / 'd', '.tif', values(2) if given.count('0') == 3 else values(5))
  save(root / 'dataset.toml', f'range = {given}')
  if given == '[[0, 1]]':
    assert read(root)[2]['data.range'] == (0, 1) * 5
  else:
    with pytest.raises(UserError, match='low and high of each of the 2 channels'):
      read(root)


def test_values_without_a_range_are_refused(tmp_path):
  with pytest.raises(UserError, match=r'images/\d.tif has 2 channels of uint16, and data.range is not set'):
    examples(load(with_images(tmp_path / 'd', '.tif', values(2))))


@pytest.mark.parametrize('ending', ['.png', '.tif', '.npy'])
def test_each_file_is_a_channel(tmp_path, ending):
  root, channels = tmp_path / 'd', [values(1, np.uint8, seed) for seed in range(3)]
  for name, (number, content) in itertools.product('abc', enumerate(channels)):
    save(root / f'imagesTr/{name}_{number:04}{ending}', content)
    save(root / f'labelsTr/{name}.png', folders.mask())
  image, inputs, found = read(root)
  np.testing.assert_array_equal(image, np.stack(channels, -1))
  assert inputs == {'rgb': 3} and found['data.range'] == ()
  save(root / f'imagesTr/a_0001{ending}', channels[0][:3])
  with pytest.raises(
    UserError, match=r'channels of an image have the sizes \[6, 8\] in .*a_0000.*\[3, 8\] in .*a_0001'
  ):
    examples(load(root))
  (root / f'imagesTr/a_0001{ending}').unlink()
  with pytest.raises(UserError, match=r'of different kinds: imagesTr/a_0000.* has 2 channels of uint8; images'):
    load(root)


# An image of the folder, another one, and what messages call them.
MIXED = {
  'bits': (RGB[..., 0], values(1), '8 bits', '1 channel of uint16'),
  'channels': (values(2), values(3), '2 channels of uint16', '3 channels of uint16'),
  'types': (values(2), values(2, np.float32), '2 channels of uint16', '2 channels of float32'),
  'more_channels': (RGB, values(5, np.uint8), '8 bits', '5 channels of uint8'),
}


@pytest.mark.parametrize('case', MIXED)
@pytest.mark.parametrize('turn', [1, -1])
def test_images_of_two_kinds_are_refused(tmp_path, monkeypatch, case, turn):
  one, two, *names = (MIXED[case][i] for i in ((0, 1, 2, 3) if turn == 1 else (1, 0, 3, 2)))
  root = with_images(tmp_path / 'd', '.tif', *[one] * 9)
  data, _ = measured(root)
  other = folders.unsampled(root, monkeypatch)
  save(root / f'images/{other}.tif', two)
  found = names[1] if names[1] != '8 bits' else f'{1 if two.ndim == 2 else 3} channels? of uint8'
  with pytest.raises(UserError, match=f'images/{other}.tif has {found}; expected {names[0]}.*, as in other images'):
    examples(folder.load(data))
  monkeypatch.undo()
  with pytest.raises(UserError) as caught:
    load(root)
  assert all(f'.tif has {name}' in str(caught.value) for name in names) and f'images/{other}.tif' in str(caught.value)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_photo_is_upright_and_its_mask_has_its_shape(tmp_path, orientation):
  photo = Image.fromarray(np.repeat(np.arange(HEIGHT, dtype=np.uint8)[:, None] * 40, WIDTH, 1))
  root = with_images(tmp_path / 'd', '.jpg', lambda path: photo.save(path, exif=rotated(orientation)))
  if orientation < 5:
    image = read(root)[0]
    assert (image[0].mean() > image[-1].mean()) == (orientation in (3, 4))
    return
  with pytest.raises(UserError) as caught:
    load(root)
  assert f'images/0.jpg has {HEIGHT}x{WIDTH} pixels and its mask masks/0.png {WIDTH}x{HEIGHT}' in str(caught.value)
  assert 'EXIF' in str(caught.value)
  for number in range(4):
    save(root / f'masks/{number}.png', folders.mask(size=(WIDTH, HEIGHT)))
  assert read(root)[0].shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize('content', [values(3)[..., :2], RGB])
def test_images_are_resized_and_full_labels_stay(tmp_path, content):
  data, _ = measured(with_images(tmp_path / 'd', '.tif', content), resize=4)
  split = folder.load(data).splits['train']
  assert split[0]['labels']['semantic'].shape == split[0]['inputs'][next(iter(split[0]['inputs']))].shape[:2] == (3, 4)
  assert split.sizes().tolist() == [[3, 4]] * len(split)
  np.testing.assert_array_equal(split.full_labels(0)['semantic'], folders.mask())


WRONG = {
  'size': (folders.image(size=(5, 8)), ['images/3.png has 8x5 pixels and its mask masks/3.png 8x6', 'expected masks']),
  'empty': (b'', ['images/3.png', 'it is empty']),
  'text': (b'this is some text, and no image', ['images/3.png', 'unknown']),
}


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_image_is_named(tmp_path, case):
  content, parts = WRONG[case]
  root = with_images(tmp_path / 'd', '.png', RGB)
  save(root / 'images/3.png', content)
  with pytest.raises(UserError) as caught:
    load(root)
  assert all(part in str(caught.value) for part in parts), caught.value
