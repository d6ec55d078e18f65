"""A first signal is recorded until the loop can act, a second one ends the process."""

import logging
import os
import signal

import pytest

from fcn_jax.run.signals import EXIT_CODES, SUPERSEDED, StopSignals

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_recorded_and_logged(number, caplog):
  caplog.set_level(logging.INFO, 'fcn_jax')
  with StopSignals() as stop:
    assert stop.signal is None
    signal.raise_signal(number)
    assert stop.signal is number
  assert len(caplog.messages) == 1 and caplog.messages[0].startswith(f'{number.name}: stopping')


@pytest.mark.parametrize('number', SIGNALS)
def test_a_second_signal_ends_the_process_with_its_exit_code(number, monkeypatch):
  codes = []
  monkeypatch.setattr(os, '_exit', codes.append)
  with StopSignals():
    signal.raise_signal(signal.SIGTERM)
    assert codes == []
    signal.raise_signal(number)
  assert codes == [EXIT_CODES[number]]


def test_the_previous_handlers_are_restored():
  before = [signal.getsignal(number) for number in SIGNALS]
  with pytest.raises(ZeroDivisionError), StopSignals():
    assert [signal.getsignal(number) for number in SIGNALS] != before
    raise ZeroDivisionError
  assert [signal.getsignal(number) for number in SIGNALS] == before


def test_exit_codes_are_those_that_schedulers_and_shells_expect():
  assert EXIT_CODES == {signal.SIGTERM: 75, signal.SIGINT: 130, SUPERSEDED: 75}
