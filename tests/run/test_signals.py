"""A first signal is remembered until the loop can act, a second one ends the process."""

import os
import signal

import pytest

from fcn_jax.run.signals import EXIT_CODES, SUPERSEDED, Stop

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_remembered_and_said(number):
  said = []
  with Stop(said.append) as stop:
    assert stop.signal is None
    signal.raise_signal(number)
    assert stop.signal is number
  assert len(said) == 1 and said[0].startswith(number.name)


@pytest.mark.parametrize('number', SIGNALS)
def test_a_second_signal_ends_the_process_with_its_exit_code(number, monkeypatch):
  codes = []
  monkeypatch.setattr(os, '_exit', codes.append)
  with Stop(lambda text: None):
    signal.raise_signal(signal.SIGTERM)
    assert codes == []
    signal.raise_signal(number)
  assert codes == [EXIT_CODES[number]]


def test_signals_do_what_they_did_before_when_it_is_over():
  before = [signal.getsignal(number) for number in SIGNALS]
  with pytest.raises(ZeroDivisionError), Stop(print):
    assert [signal.getsignal(number) for number in SIGNALS] != before
    raise ZeroDivisionError
  assert [signal.getsignal(number) for number in SIGNALS] == before


def test_exit_codes_are_those_that_schedulers_and_shells_know():
  assert EXIT_CODES == {signal.SIGTERM: 75, signal.SIGINT: 130, SUPERSEDED: 75}
