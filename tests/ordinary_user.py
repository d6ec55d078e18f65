"""File permissions apply to tests that run as root, too: root's privilege to ignore them is taken away for a while."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

_OVERRIDES = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, linux/capability.h
_VERSION, _DROP_FROM_BOUNDS = 0x20080522, 24  # _LINUX_CAPABILITY_VERSION_3; PR_CAPBSET_DROP of linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
  _fields_ = (('version', ctypes.c_uint32), ('process', ctypes.c_int))


class _Sets(ctypes.Structure):
  _fields_ = tuple((f'{name}{part}', ctypes.c_uint32) for part in (0, 1) for name in ('effective', 'permitted', 'heir'))


def _current() -> _Sets:
  sets = _Sets()
  assert _LIBC.capget(ctypes.byref(_Header(_VERSION, 0)), ctypes.byref(sets)) == 0
  return sets


@contextlib.contextmanager
def without_root() -> Iterator[None]:
  """A context in which this thread may read and write only what the permissions of files allow."""
  if sys.platform != 'linux':
    pytest.skip('permissions of root are changed on Linux only')
  before, changed = _current(), _current()
  changed.effective0 &= ~_OVERRIDES
  assert _LIBC.capset(ctypes.byref(_Header(_VERSION, 0)), ctypes.byref(changed)) == 0
  try:
    yield
  finally:
    assert _LIBC.capset(ctypes.byref(_Header(_VERSION, 0)), ctypes.byref(before)) == 0


def command(*words: str) -> list[str]:
  """The same for a whole program: a command that runs `words`, without forking this process with its threads."""
  return [sys.executable, __file__, *words]


if __name__ == '__main__':
  if os.geteuid() == 0:
    for capability in (1, 2):
      assert _LIBC.prctl(_DROP_FROM_BOUNDS, capability, 0, 0, 0) == 0
  os.execvp(sys.argv[1], sys.argv[1:])
