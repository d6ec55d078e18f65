"""Dividing a machine among runs."""

import os

import pytest

from fcn_jax import machine
from fcn_jax.sweep import slots


@pytest.fixture
def bare(monkeypatch):
  """A machine of four cores without accelerators."""
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {2, 3, 5, 7})
  monkeypatch.setattr(machine.glob, 'glob', lambda _: [])
  for name in ('CUDA_VISIBLE_DEVICES', 'TPU_VISIBLE_CHIPS'):
    monkeypatch.delenv(name, raising=False)
  return monkeypatch


def test_without_accelerators_there_is_one_slot_per_core(bare):
  assert [slot.cores for slot in slots.slots(None)] == [(2,), (3,), (5,), (7,)]
  assert [slot.cores for slot in slots.slots(2)] == [(2, 3), (5, 7)]
  assert [slot.cores for slot in slots.slots(3)] == [(2,), (3,), (5, 7)]
  assert [slot.cores for slot in slots.slots(5)] == [(2,), (2,), (3,), (5,), (7,)]
  assert all(slot.env == {} for slot in slots.slots(None))


def test_each_slot_has_its_own_gpus(bare):
  bare.setenv('CUDA_VISIBLE_DEVICES', '1,3,4')
  assert [slot.env['CUDA_VISIBLE_DEVICES'] for slot in slots.slots(None)] == ['1', '3', '4']
  assert [slot.env['CUDA_VISIBLE_DEVICES'] for slot in slots.slots(2)] == ['1,4', '3']
  assert [slot.env['CUDA_VISIBLE_DEVICES'] for slot in slots.slots(4)] == ['1', '3', '4', '1']
  bare.setenv('CUDA_VISIBLE_DEVICES', '')
  assert slots.slots(2)[0].env == {}


def test_gpus_are_found_without_cuda_visible_devices(bare):
  bare.setattr(machine.glob, 'glob', lambda pattern: ['/dev/nvidia1', '/dev/nvidia0'] if 'nvidia' in pattern else [])
  assert [slot.env for slot in slots.slots(None)] == [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]


def test_each_slot_has_its_own_tpu_chips(bare):
  bare.setattr(machine.glob, 'glob', lambda pattern: [f'/dev/accel{i}' for i in range(4)] if 'accel' in pattern else [])
  assert [slot.env['TPU_VISIBLE_CHIPS'] for slot in slots.slots(None)] == ['0', '1', '2', '3']
  assert slots.slots(2)[1].env == {
    'TPU_VISIBLE_CHIPS': '1,3',
    'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,2,1',
    'TPU_PROCESS_BOUNDS': '1,1,1',
  }
