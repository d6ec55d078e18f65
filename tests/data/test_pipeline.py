"""Batches are a pure function of (seed, step, host); evaluation reads every image once, at its original size."""

import collections
import itertools
import zlib

import grain
import jax
import numpy as np
import pytest
from noise import COUNT, PLAIN, blank, make_source, make_split, record, settings

from fcn_jax.data import augment, device_augment, pipeline
from fcn_jax.data.dataset import IGNORE, CheckedSplit, Classes
from fcn_jax.errors import UserError

ON = pytest.mark.parametrize('on', ['host', 'device'])
AUGMENTED = jax.jit(device_augment.augmented)


def train(steps, *, split=None, data=None, on='auto', **options):
  """The batches of `steps` steps, augmented."""
  options = {'batch_size': 8, 'seed': 5} | options
  data = data or settings(augment_on=on)
  batches = itertools.islice(pipeline.train_batches(split or make_split(), data, **options), steps)
  return [jax.tree.map(np.asarray, AUGMENTED(batch)) if 'draws' in batch else batch for batch in batches]


def flat(batch):
  """The arrays of a batch by name."""
  return batch['inputs'] | batch['labels'] | {name: batch[name] for name in ('size', 'index') if name in batch}


def assert_same(batches, others):
  for batch, other in zip(map(flat, batches), map(flat, others), strict=True):
    assert batch.keys() == other.keys()
    assert all(np.array_equal(batch[name], other[name]) for name in batch)


def contents(batch):
  """The examples of a batch, regardless of their order."""
  arrays = flat(batch)
  return sorted(b''.join(arrays[name][i].tobytes() for name in sorted(arrays)) for i in range(len(batch['size'])))


def numbers(batches):
  """The number of the image in each example."""
  return [int(n) // 10 for batch in batches for n in batch['inputs']['rgb'][:, 0, 0, 0]]


@ON
def test_a_training_batch_is_what_the_step_expects(on):
  (batch,) = train(1, on=on)
  assert batch.keys() == {'inputs', 'labels', 'size'}
  assert {name: (x.shape, x.dtype) for name, x in flat(batch).items()} == {
    'rgb': ((8, 32, 32, 3), np.uint8),
    'semantic': ((8, 32, 32), np.uint8),
    'size': ((8, 2), np.int32),
  }


@ON
@pytest.mark.parametrize('step', [1, 7])
def test_a_resumed_run_sees_the_batches_that_it_would_have_seen(step, on):
  data = settings(augment_on=on, flip_vertical=0.5, rotate90=0.5, rotate=9.0, crop_rare=0.5, blur=1.0, noise=9.0)
  assert_same(train(10, data=data)[step:], train(10 - step, step=step, data=data))


def test_a_setting_that_is_off_changes_no_numbers():
  """The checksum of the numbers before there were turns, rotations, rare crops, blur and noise."""
  fields = {'scale': (1.0, 1.0), 'flip': 0.5, 'jitter': 8, 'brightness': 0.3, 'contrast': 0.3, 'color': 0.3}
  data, digest = settings(augment_on='device', **fields), 0
  for batch in itertools.islice(pipeline.train_batches(make_split(), data, batch_size=8, seed=5), 4):
    for _, numbers in sorted(batch['draws'].items()):
      digest = zlib.crc32(numbers.tobytes(), digest)
  assert digest == 2048297307


def test_another_seed_gives_other_batches():
  assert contents(train(1)[0]) != contents(train(1, seed=6)[0])


@ON
@pytest.mark.parametrize('room', [0, 2**30], ids=['decoded_again', 'decoded'])
@pytest.mark.parametrize('threads', [1, 16])
def test_neither_threads_nor_the_cache_change_the_batches(threads, room, on):
  other = train(6, data=settings(threads=threads, augment_on=on), split=make_split(room=room))
  assert_same(train(6, on=on), other)


@pytest.mark.parametrize(('hosts', 'on'), [(2, 'host'), (4, 'host'), (4, 'device')])
def test_hosts_share_the_batches_of_one_host(hosts, on):
  parts = [train(5, host=host, hosts=hosts, on=on) for host in range(hosts)]
  for whole, *shares in zip(train(5, on=on), *parts, strict=True):
    assert all(len(share['size']) == 8 // hosts for share in shares)
    assert contents(whole) == sorted(itertools.chain(*map(contents, shares)))


class Counted:
  """A split that counts how often its images are read."""

  def __init__(self):
    self._split, self.reads = make_split(), 0

  def __len__(self):
    return len(self._split)

  def __getitem__(self, index):
    self.reads += 1  # an addition lost between threads does not matter here
    return self._split[index]


def test_a_host_reads_only_its_part():
  steps, ahead = 40, 16 + 8  # batches are made ahead, and by several threads
  alone, shared = Counted(), Counted()
  train(steps, split=alone)
  train(steps, split=shared, host=1, hosts=4)
  assert alone.reads >= 8 * steps
  assert shared.reads <= 2 * (steps + ahead)


def test_a_resumed_host_sees_its_part():
  assert_same(train(6, host=1, hosts=2)[4:], train(2, host=1, hosts=2, step=4))


def test_with_replacement_images_are_drawn_independently():
  data = settings(**PLAIN, with_replacement=True)
  seen = numbers(train(4 * COUNT, data=data))
  assert set(seen) == set(range(COUNT))
  assert any(len(set(seen[i : i + COUNT])) < COUNT for i in range(0, len(seen), COUNT))
  assert_same(train(5, data=data)[2:], train(3, data=data, step=2))


def test_each_epoch_is_another_permutation():
  seen = numbers(train(3 * COUNT, data=settings(**PLAIN)))
  epochs = [tuple(seen[i : i + COUNT]) for i in range(0, 8 * COUNT, COUNT)]
  assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
  assert len(set(epochs)) == len(epochs)


def test_an_image_is_augmented_differently_in_each_epoch():
  split = make_split(make_source(count=1))
  batches = train(2, split=split, data=settings(flip=0.5, brightness=0.3))
  assert len(set(itertools.chain(*map(contents, batches)))) > 8


def test_a_batch_may_be_larger_than_the_data_set():
  seen = numbers(train(3, split=make_split(make_source(count=3)), data=settings(**PLAIN)))
  assert len(seen) == 24 and all(sorted(seen[i : i + 3]) == [0, 1, 2] for i in range(0, 24, 3))


def test_a_seed_stands_for_the_numbers_of_earlier_versions():
  """They came from grain's `random_map`: a run that an earlier version began goes on with them."""
  data = settings(**PLAIN | {'flip': 0.5})
  order = grain.MapDataset.range(COUNT).seed(5).shuffle().repeat()
  drawn = order.random_map(lambda index, rng: augment.augment(make_split()[index], rng, data))
  expected = [drawn[i]['inputs']['rgb'] for i in range(3 * 8)]
  assert np.array_equal(np.concatenate([batch['inputs']['rgb'] for batch in train(3, data=data)]), expected)


@ON
def test_memory_of_a_batch_is_used_again_only_when_nothing_refers_to_it(on):
  """Not even a view of a part of it, nor an array of jax, which may share it on a CPU."""
  batches = pipeline.train_batches(make_split(), settings(augment_on=on), batch_size=8, seed=5)
  kept, copies, places = [], [], set()
  for number, batch in enumerate(itertools.islice(batches, 60)):
    x = batch['inputs']['rgb']
    places.add(x.ctypes.data)
    if number % 10 == 0:
      kept.append((x.reshape(4, -1)[1:3], jax.device_put(batch['labels']['semantic'], jax.devices()[0])))
      copies.append([np.array(part) for part in kept[-1]])
  batches.close()
  assert len(places) < 60 / 2
  for parts, of_parts in zip(kept, copies, strict=True):
    assert all(np.array_equal(*pair) for pair in zip(parts, of_parts, strict=True))


def evaluate(split=None, **options):
  options = {'batch_size': 4, 'canvases': 2, 'threads': 4} | options
  return list(pipeline.eval_batches(split or make_split(), **options))


@pytest.mark.parametrize('canvases', [1, 2, 5])
@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_evaluation_reads_every_image_once_and_whole(canvases, hosts):
  split, seen = make_split(), []
  for host in range(hosts):
    for batch in evaluate(split, canvases=canvases, host=host, hosts=hosts):
      images, labels = batch['inputs']['rgb'], batch['labels']['semantic']
      assert len(batch['index']) == 4 // hosts
      for i, number in enumerate(batch['index']):
        height, width = batch['size'][i]
        inside = np.zeros(labels.shape[1:], bool)
        inside[:height, :width] = True
        assert np.all(labels[i][~inside] == IGNORE)
        if number < 0:
          assert (height, width) == (1, 1) and np.all(labels[i] == IGNORE)
          continue
        seen.append(int(number))
        example = split[number]
        assert np.array_equal(images[i, :height, :width], example['inputs']['rgb'])
        assert np.array_equal(labels[i, :height, :width], example['labels']['semantic'])
  assert sorted(seen) == list(range(COUNT))


def shape(batch):
  return batch['labels']['semantic'].shape


@pytest.mark.parametrize('hosts', [2, 4])
def test_all_hosts_have_the_same_number_of_batches_of_each_shape(hosts):
  """Otherwise a host would wait for the others forever."""
  shapes = [[shape(batch) for batch in evaluate(host=host, hosts=hosts)] for host in range(hosts)]
  assert all(found == shapes[0] for found in shapes)


def test_evaluation_has_few_shapes():
  assert len({shape(batch) for batch in evaluate(canvases=2)}) == 2


def test_threads_do_not_change_the_evaluation():
  assert_same(evaluate(), evaluate(threads=9))


def test_fillers_only_complete_the_last_batch_of_a_canvas():
  for batches in (evaluate(canvases=1), evaluate(canvases=3)):
    fillers = collections.Counter()
    for batch in batches:
      fillers[shape(batch)] += np.count_nonzero(batch['index'] < 0)
    assert all(count < 4 for count in fillers.values())


def wrong_label():
  source = blank(4)
  label = np.zeros((10, 10), np.uint8)
  label[2:4, 5] = 9
  source[3] = record(3, np.zeros((10, 10, 3), np.uint8), label)
  return source


@pytest.mark.parametrize('room', [0, 2**30])
def test_a_label_out_of_range_is_reported_from_the_threads_that_read_ahead(room):
  message = 'train image image_3: 2 pixels of the label semantic are 9; expected classes 0 to 7, or 255'
  with pytest.raises(UserError, match=message):
    train(2, split=make_split(wrong_label(), room=room))
  with pytest.raises(UserError, match=message):
    evaluate(make_split(wrong_label(), room=room))


class Pairs:
  """Images of 9x12 pixels with two streams and two heads, in which all values are the index of the image."""

  def __len__(self):
    return 5

  def __getitem__(self, index):
    streams = {'rgb': np.full((9, 12, 3), index, np.uint8), 'depth': np.full((9, 12, 1), index, np.uint8)}
    return {'inputs': streams, 'labels': {h: np.full((9, 12), index, np.uint8) for h in 'ab'}, 'id': f'{index}'}

  def sizes(self):
    return np.full((5, 2), (9, 12))

  def ids(self):
    return [f'{i}' for i in range(5)]


def test_batches_have_all_streams_and_heads_of_the_same_images():
  classes = Classes(tuple('abcde'), ((0, 0, 0),) * 5)
  split = CheckedSplit(Pairs(), 'train', {'rgb': 3, 'depth': 1}, {'a': classes, 'b': classes})
  for batch in [*train(3, split=split, data=settings(**PLAIN)), *evaluate(split, canvases=1)]:
    assert batch['inputs']['rgb'].shape[-1] == 3 and batch['inputs']['depth'].shape[-1] == 1
    rgb, depth, a, b = (flat(batch)[name].reshape(len(batch['size']), -1)[:, 0] for name in ('rgb', 'depth', 'a', 'b'))
    fillers = batch.get('index', np.zeros(len(batch['size']))) < 0
    assert np.array_equal(rgb, depth) and np.array_equal(a, b)
    assert np.array_equal(np.where(fillers, IGNORE, rgb), a)
  assert [np.count_nonzero(batch['index'] < 0) for batch in evaluate(split, canvases=1)] == [0, 3]
