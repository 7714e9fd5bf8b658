"""Signals that wait for the end of a frame, with real signals."""

import os
import signal
import threading

import pytest

from ecotta_seg.resume.stop_signals import StopSignals


@pytest.fixture
def before():
    """The program's own handlers, which must be back at the end."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    found = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)
    assert found == handlers


@pytest.mark.parametrize(
    ('number', 'name', 'error'),
    [(signal.SIGTERM, 'SIGTERM', SystemExit), (signal.SIGINT, 'SIGINT', KeyboardInterrupt)],
)
def test_the_first_waits_and_the_second_stops(before, number, name, error):
    signals = StopSignals(waiting=lambda: True)
    signals.catch()
    os.kill(os.getpid(), number)
    assert signals.noted == number and signals.name == name
    with pytest.raises(error):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ('number', 'error'), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_what_was_noted_is_done_later(before, number, error):
    signals = StopSignals(waiting=lambda: True)
    signals.catch()
    os.kill(os.getpid(), number)
    with pytest.raises(error) as raised:
        signals.stop()
    if error is SystemExit:
        assert raised.value.code == 128 + signal.SIGTERM


def test_outside_a_stream_none_waits(before):
    signals = StopSignals(waiting=lambda: False)
    signals.catch()
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)


def test_another_thread_leaves_signals_to_the_program(before):
    signals = StopSignals(waiting=lambda: True)
    thread = threading.Thread(target=signals.catch)
    thread.start()
    thread.join()
    signals.restore()
