"""Batches are a pure function of (seed, step, host); evaluation meets every picture once, at its own size."""

import collections
import concurrent.futures
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from fcn_jax import config as config_lib
from fcn_jax.data import canvases, dataset, pipeline
from fcn_jax.data.builders import scenes
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError

COUNT = 23  # no multiple of any batch size below


def png(pixels):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, 'PNG')
  return buffer.getvalue()


class Source(list):
  """Records as TFDS gives them undecoded; counts how often each is read."""

  def __init__(self, records):
    super().__init__(records)
    self.reads = collections.Counter()

  def __getitem__(self, index):
    self.reads[index] += 1
    return super().__getitem__(index)


def record(number, image, label):
  return {'image': png(image), 'label': png(label), 'id': f'picture_{number}'.encode()}


def make_source(count=COUNT, largest=50):
  """Noise, but for red, which tells the picture: 10 times its number."""
  rng, records = np.random.default_rng(0), []
  for number in range(count):
    size = tuple(rng.integers(1, largest + 1, 2))
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    image[..., 0] = 10 * number
    label = rng.choice(np.array([0, 1, 7, IGNORE], np.uint8), size)
    records.append(record(number, image, label))
  return Source(records)


def make_pictures(source=None, room=2**30, **fields):
  return dataset.Pictures(make_source() if source is None else source, split='train', classes=8, room=room, **fields)


def settings(**fields):
  data = config_lib.default('scenes').data
  data.update({'train_size': (32, 32)} | fields)
  return data


def train(steps, *, pictures=None, data=None, **options):
  """The batches of so many steps."""
  pictures = pictures or make_pictures()
  batches = pipeline.train_batches(pictures, data or settings(), **{'batch_size': 8, 'seed': 5} | options)
  return list(itertools.islice(batches, steps))


def assert_same(batches, others):
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys()
    assert all(np.array_equal(batch[name], other[name]) for name in batch)


def contents(batch):
  """The examples of a batch, regardless of their order."""
  return sorted(b''.join(batch[name][i].tobytes() for name in sorted(batch)) for i in range(len(batch['size'])))


def numbers(batches):
  """Which picture each example is."""
  return [int(n) // 10 for batch in batches for n in batch['image'][:, 0, 0, 0]]


PLAIN = {'scale': (1.0, 1.0), 'flip': 0.0, 'brightness': 0.0, 'contrast': 0.0, 'color': 0.0}


def test_a_training_batch_is_what_the_step_expects():
  (batch,) = train(1)
  assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
    'image': ((8, 32, 32, 3), np.uint8),
    'label': ((8, 32, 32), np.uint8),
    'size': ((8, 2), np.int32),
  }


@pytest.mark.parametrize('step', [1, 3, 7])
def test_a_resumed_run_sees_the_batches_that_it_would_have_seen(step):
  assert_same(train(10)[step:], train(10 - step, step=step))


def test_another_seed_gives_other_batches():
  assert not np.array_equal(train(1)[0]['image'], train(1, seed=6)[0]['image'])


@pytest.mark.parametrize('threads', [1, 2, 16])
def test_threads_do_not_change_the_batches(threads):
  assert_same(train(6), train(6, data=settings(threads=threads)))


def test_the_cache_does_not_change_the_batches():
  assert_same(train(6), train(6, pictures=make_pictures(room=0)))


@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_share_the_batches_of_one_host(hosts):
  parts = [train(5, host=host, hosts=hosts) for host in range(hosts)]
  for whole, *shares in zip(train(5), *parts, strict=True):
    assert all(len(share['size']) == 8 // hosts for share in shares)
    assert contents(whole) == sorted(itertools.chain(*map(contents, shares)))


class Counted:
  """Pictures that count how often they are asked for."""

  def __init__(self):
    self._pictures, self.asked = make_pictures(), 0

  def __len__(self):
    return len(self._pictures)

  def __getitem__(self, index):
    self.asked += 1  # an addition lost between threads does not matter here
    return self._pictures[index]


def test_a_host_reads_its_part_only():
  steps, ahead = 40, 16 + 8  # batches are made ahead, and by several threads
  alone, shared = Counted(), Counted()
  train(steps, pictures=alone)
  train(steps, pictures=shared, host=1, hosts=4)
  assert alone.asked >= 8 * steps
  assert shared.asked <= 2 * (steps + ahead)


def test_a_resumed_host_sees_its_part():
  assert_same(train(6, host=1, hosts=2)[4:], train(2, host=1, hosts=2, step=4))


def test_with_replacement_pictures_come_as_often_as_chance_has_it():
  data = settings(**PLAIN, replacement=True)
  seen = numbers(train(4 * COUNT, data=data))
  assert set(seen) == set(range(COUNT))
  assert any(len(set(seen[i : i + COUNT])) < COUNT for i in range(0, len(seen), COUNT))
  assert_same(train(5, data=data)[2:], train(3, data=data, step=2))


def test_each_epoch_is_a_permutation_of_its_own():
  seen = numbers(train(3 * COUNT, data=settings(**PLAIN)))
  epochs = [tuple(seen[i : i + COUNT]) for i in range(0, 8 * COUNT, COUNT)]
  assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
  assert len(set(epochs)) == len(epochs)


def test_a_picture_is_augmented_anew_in_each_epoch():
  pictures = make_pictures(make_source(count=1))
  batches = train(2, pictures=pictures, data=settings(flip=0.5, brightness=0.3))
  assert len(set(itertools.chain(*map(contents, batches)))) > 8


def test_a_batch_may_be_larger_than_the_data_set():
  seen = numbers(train(3, pictures=make_pictures(make_source(count=3)), data=settings(**PLAIN)))
  assert len(seen) == 24 and all(sorted(seen[i : i + 3]) == [0, 1, 2] for i in range(0, 24, 3))


def evaluate(pictures=None, data=None, **options):
  options = {'batch_size': 4, 'canvases': 2} | options
  return list(pipeline.eval_batches(pictures or make_pictures(), data or settings(), **options))


@pytest.mark.parametrize('canvases', [1, 2, 5])
@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_evaluation_meets_every_picture_once_and_whole(canvases, hosts):
  pictures, met = make_pictures(), []
  for host in range(hosts):
    for batch in evaluate(pictures, canvases=canvases, host=host, hosts=hosts):
      assert len(batch['index']) == 4 // hosts
      for i, number in enumerate(batch['index']):
        height, width = batch['size'][i]
        inside = np.zeros(batch['label'].shape[1:], bool)
        inside[:height, :width] = True
        assert np.all(batch['label'][i][~inside] == IGNORE)
        if number < 0:
          assert (height, width) == (1, 1) and np.all(batch['label'][i] == IGNORE)
          continue
        met.append(int(number))
        picture = pictures[number]
        assert np.array_equal(batch['image'][i, :height, :width], picture['image'])
        assert np.array_equal(batch['label'][i, :height, :width], picture['label'])
  assert sorted(met) == list(range(COUNT))


@pytest.mark.parametrize('hosts', [2, 4])
def test_all_hosts_have_equally_many_batches_of_each_shape(hosts):
  """Else one would wait for the others for ever."""
  shapes = [[batch['image'].shape for batch in evaluate(host=host, hosts=hosts)] for host in range(hosts)]
  assert all(shape == shapes[0] for shape in shapes)


def test_evaluation_meets_few_shapes():
  assert len({batch['image'].shape for batch in evaluate(canvases=2)}) == 2


def test_threads_do_not_change_the_evaluation():
  assert_same(evaluate(), evaluate(data=settings(threads=9)))


def test_a_batch_of_evaluation_is_filled_up_only_where_a_canvas_ends():
  for batches in (evaluate(canvases=1), evaluate(canvases=3)):
    fillers = collections.Counter()
    for batch in batches:
      fillers[batch['image'].shape] += np.count_nonzero(batch['index'] < 0)
    assert all(count < 4 for count in fillers.values())


@pytest.mark.parametrize('limit', [1, 2, 3, 8])
@pytest.mark.parametrize('seed', range(5))
def test_canvases_hold_all_sizes_within_the_limit(limit, seed):
  sizes = np.random.default_rng(seed).integers(1, 300, (40, 2))
  chosen = canvases.choose_canvases(sizes, limit)
  assert len(set(chosen)) == len(chosen) <= limit
  assert all(n % 16 == 0 for canvas in chosen for n in canvas)
  assert all(any(np.all(size <= canvas) for canvas in chosen) for size in sizes)
  # No canvas is larger than what it must hold.
  assert all(max(side) - largest < 16 for side, largest in zip(zip(*chosen, strict=True), sizes.max(0), strict=True))


def area(sizes, canvases):
  return sum(min(h * w for h, w in canvases if h >= size[0] and w >= size[1]) for size in sizes)


@pytest.mark.parametrize('seed', range(5))
def test_more_canvases_waste_less(seed):
  sizes = np.random.default_rng(seed).integers(1, 300, (40, 2))
  areas = [area(sizes, canvases.choose_canvases(sizes, limit)) for limit in (1, 2, 4, 8, 100)]
  assert areas == sorted(areas, reverse=True) and areas[0] > areas[2] > areas[-1]


def test_with_room_for_all_every_size_is_rounded_up_alone():
  sizes = np.array([(32, 32), (33, 32), (1, 65), (20, 70)])
  assert sorted(canvases.choose_canvases(sizes, 9)) == [(16, 80), (32, 32), (32, 80), (48, 32)]


def test_upright_and_lying_pictures_get_a_canvas_each():
  """One for both would be a third larger than the two."""
  sizes = np.array([(128, 160)] * 9 + [(160, 128)] * 9 + [(144, 112)])
  assert sorted(canvases.choose_canvases(sizes, 2)) == [(128, 160), (160, 128)]


@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_the_plan_has_every_picture_once_on_a_canvas_that_holds_it(batch_size):
  sizes = np.random.default_rng(0).integers(1, 200, (40, 2))
  plan = canvases.eval_plan(sizes, batch_size=batch_size, canvases=3)
  assert sorted(i for _, indices in plan for i in indices) == list(range(40))
  assert all(len(indices) <= batch_size for _, indices in plan)
  assert all(np.all(sizes[indices] <= canvas) for canvas, indices in plan)


def test_pictures_that_do_not_fill_a_batch_share_one_on_a_larger_canvas_where_that_is_cheaper():
  sizes = np.array([(32, 48)] * 10 + [(48, 32)] * 3 + [(48, 48)] * 2)
  plan = canvases.eval_plan(sizes, batch_size=8, canvases=3)
  assert [(canvas, indices.tolist()) for canvas, indices in plan] == [
    ((32, 48), list(range(8))),
    ((48, 48), [8, 9, 10, 11, 12, 13, 14]),
  ]
  # One more batch of the larger canvas would cost more than to fill up one of the smaller.
  sizes = np.array([(32, 48)] * 3 + [(48, 48)] * 7)
  plan = canvases.eval_plan(sizes, batch_size=8, canvases=2)
  assert [(canvas, len(indices)) for canvas, indices in plan] == [((32, 48), 3), ((48, 48), 7)]


def test_pictures_are_decoded_as_they_were_stored():
  rng = np.random.default_rng(1)
  image, label = rng.integers(0, 256, (6, 9, 3), np.uint8), rng.integers(0, 8, (6, 9), np.uint8)
  pictures = make_pictures(Source([record(0, image, label)]))
  assert np.array_equal(pictures[0]['image'], image) and np.array_equal(pictures[0]['label'], label)
  assert pictures[0]['id'] == 'picture_0' and pictures.ids() == ['picture_0']
  assert pictures.sizes().tolist() == [[6, 9]]


def test_grey_images_become_rgb():
  grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
  pictures = make_pictures(Source([record(0, grey, np.zeros((3, 4), np.uint8))]))
  assert np.array_equal(pictures[0]['image'], np.stack([grey] * 3, -1))


def blank(count, height=10, width=10):
  return Source([
    record(i, np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)) for i in range(count)
  ])  # fmt: skip


def test_what_fits_is_kept_and_the_rest_is_decoded_anew():
  source = blank(4)
  pictures = make_pictures(source, room=2 * 400 + 399)  # 400 bytes a picture
  for _ in range(3):
    for i in range(4):
      assert pictures[i]['image'].shape == (10, 10, 3)
  assert source.reads == {0: 1, 1: 1, 2: 3, 3: 3}


def test_without_room_nothing_is_kept():
  source = blank(2)
  pictures = make_pictures(source, room=0)
  assert [pictures[1]['id'] for _ in range(3)] == ['picture_1'] * 3
  assert source.reads == {1: 3}


def test_many_threads_keep_no_more_than_there_is_room():
  source = blank(50)
  pictures = make_pictures(source, room=10 * 400)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(pictures.__getitem__, [*range(50)] * 4))
  before = source.reads.copy()
  for i in range(50):
    pictures[i]
  assert sum((source.reads - before).values()) == 40


def wrong_label():
  source = blank(4)
  label = np.zeros((10, 10), np.uint8)
  label[2:4, 5] = 9
  source[3] = record(3, np.zeros((10, 10, 3), np.uint8), label)
  return source


MESSAGE = 'train picture picture_3: 2 pixels are labelled 9; expected classes 0 to 7, or 255'


def test_a_label_out_of_range_names_the_picture_and_the_class():
  with pytest.raises(UserError, match=MESSAGE):
    make_pictures(wrong_label())[3]


@pytest.mark.parametrize('room', [0, 2**30])
def test_a_label_out_of_range_is_said_also_out_of_the_threads_that_read_ahead(room):
  with pytest.raises(UserError, match=MESSAGE):
    train(2, pictures=make_pictures(wrong_label(), room=room))
  with pytest.raises(UserError, match=MESSAGE):
    evaluate(make_pictures(wrong_label(), room=room))


def test_a_label_of_another_size_names_the_picture():
  source = Source([record(0, np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5), np.uint8))])
  with pytest.raises(UserError, match=r'train picture picture_0: the label is \(6, 5\), the image \(5, 6\)'):
    make_pictures(source)[0]


def test_class_shares_leave_ignored_pixels_out():
  label = np.array([[0, 0, 0, 1], [IGNORE] * 4], np.uint8)
  pictures = make_pictures(Source([record(0, np.zeros((2, 4, 3), np.uint8), label)]))
  assert dataset.class_shares(pictures, 3).tolist() == [0.75, 0.25, 0]


def test_scenes_are_prepared_once_and_known_again(data_dir):
  data = settings(dir=data_dir)
  first, again = dataset.load(data), dataset.load(data)
  assert {name: len(pictures) for name, pictures in first.splits.items()} == {'train': 600, 'validation': 100}
  assert len(first.classes) == len(first.palette) == 8
  assert first.fingerprint == again.fingerprint
  assert np.array_equal(first.splits['train'][7]['label'], again.splits['train'][7]['label'])
  assert not set(first.splits['train'].ids()) & set(first.splits['validation'].ids())


def test_what_is_prepared_is_said_once(tmp_path, monkeypatch):
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 3, 'validation': 1})
  said = []
  for _ in range(2):
    dataset.load(settings(dir=str(tmp_path)), said.append)
  assert len(said) == 1 and 'scenes' in said[0] and str(tmp_path) in said[0]


def test_splits_share_the_cache_by_their_size(tmp_path, monkeypatch):
  """Half of what all of them need keeps about half of each."""
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 8, 'validation': 4})
  splits = dataset.load(settings(dir=str(tmp_path), cache=1.0)).splits
  total = sum(
    sum(p[n].nbytes for n in ('image', 'label'))
    for split in splits.values()
    for p in map(split.__getitem__, range(len(split)))
  )
  splits = dataset.load(settings(dir=str(tmp_path), cache=total / 2 / 2**30)).splits
  kept = {}
  for name, split in splits.items():
    first = [split[i] for i in range(len(split))]
    kept[name] = sum(split[i] is first[i] for i in range(len(split)))
  assert 3 <= kept['train'] <= 5 and 1 <= kept['validation'] <= 3


def test_the_fingerprint_changes_with_the_pictures_and_not_with_the_writing(tmp_path, monkeypatch):
  prints = []
  for folder, count in (('a', 3), ('b', 4), ('c', 3)):
    monkeypatch.setattr(scenes, 'SPLITS', {'train': count, 'validation': 1})
    prints.append(dataset.load(settings(dir=str(tmp_path / folder))).fingerprint)
  assert prints[0] != prints[1] and prints[0] == prints[2]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match=f'{tmp_path}/file/data'):
    dataset.load(settings(dir=str(tmp_path / 'file' / 'data')))
