"""Dividing a machine among runs."""

import functools

import machines
import pytest

from fcn_jax.sweep import local, slots

GPUS = [f'nvidia{i}' for i in range(5)]


@pytest.fixture
def machine_with(monkeypatch, tmp_path):
  """A function that makes this a machine of four cores; see `machines.pretend`."""
  return functools.partial(machines.pretend, monkeypatch, tmp_path, cores=(2, 3, 5, 7))


def gpus_and_memory(count) -> list[tuple[str, str | None]]:
  envs = [slot.env for slot in slots.slots(count)]
  return [(env['CUDA_VISIBLE_DEVICES'], env.get('XLA_PYTHON_CLIENT_MEM_FRACTION')) for env in envs]


def test_without_accelerators_there_is_one_slot_per_core(machine_with):
  machine_with()
  assert [slot.cores for slot in slots.slots(None)] == [(2,), (3,), (5,), (7,)]
  assert [slot.cores for slot in slots.slots(2)] == [(2, 3), (5, 7)]
  assert [slot.cores for slot in slots.slots(3)] == [(2,), (3,), (5, 7)]
  assert [slot.cores for slot in slots.slots(5)] == [(2,), (2,), (3,), (5,), (7,)]
  assert all(slot.env == {} for slot in slots.slots(None))


def test_the_quota_of_a_container_limits_the_slots_and_their_threads(machine_with):
  machine_with(quota=['300000 100000'])
  three = [slots.Slot((), {'OMP_NUM_THREADS': '1', 'NPROC': '1'})] * 3
  assert slots.slots(None) == three and slots.slots(5) == [*three, *three[:2]]
  assert slots.slots(1) == [slots.Slot((), {'OMP_NUM_THREADS': '3', 'NPROC': '3'})]


def test_each_slot_has_its_own_gpus(machine_with):
  machine_with(devices=GPUS[:5], CUDA_VISIBLE_DEVICES='1,3,4')
  assert gpus_and_memory(None) == [('1', None), ('3', None), ('4', None)]
  assert gpus_and_memory(2) == [('1,4', None), ('3', None)]
  machine_with(devices=GPUS[:2])
  assert gpus_and_memory(None) == [('0', None), ('1', None)]
  machine_with(devices=GPUS[:5], CUDA_VISIBLE_DEVICES='')
  assert slots.slots(2)[0].env == {}


def test_runs_on_the_same_gpu_divide_its_memory(machine_with):
  machine_with(devices=GPUS[:2])
  assert gpus_and_memory(3) == [('0', '0.450'), ('1', None), ('0', '0.450')]
  assert gpus_and_memory(4) == [('0', '0.450'), ('1', '0.450')] * 2
  assert local.Local(5).describe() == (
    '5 at a time on this machine; runs on the same GPU use 30% or 45% of its memory each'
  )
  assert local.Local(2).describe() == '2 at a time on this machine'
  for variable in ('XLA_PYTHON_CLIENT_MEM_FRACTION', 'XLA_CLIENT_MEM_FRACTION'):  # set by the user
    machine_with(devices=GPUS[:2], **{variable: '0.2'})
    assert gpus_and_memory(4) == [('0', None), ('1', None)] * 2


def test_each_slot_has_its_own_tpu_chips(machine_with):
  machine_with(devices=[f'accel{i}' for i in range(4)])
  assert [slot.env['TPU_VISIBLE_CHIPS'] for slot in slots.slots(None)] == ['0', '1', '2', '3']
  assert slots.slots(2)[1].env == {
    'TPU_VISIBLE_CHIPS': '1,3',
    'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,2,1',
    'TPU_PROCESS_BOUNDS': '1,1,1',
  }
