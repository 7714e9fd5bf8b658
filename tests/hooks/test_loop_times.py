"""What a loop adds to the time of the steps in it."""

import pytest

from ecotta_seg.hooks.loop_times import LoopTimes


def test_time_beside_the_steps_is_summed_over_frames_that_count():
    clock = iter([10.0, 11.0, 13.0, 100.0, 101.5]).__next__
    times = LoopTimes(clock)
    assert times.overhead_seconds is None and times.overhead_share is None
    times.end_of_frame(0.9)  # Nobody knows when it began.
    times.end_of_frame(0.8)  # 1 s, 0.2 s beside it.
    times.end_of_frame(1.2, frames=2)  # 2 s, 0.8 s beside it.
    times.end_of_frame(None)  # 87 s that do not count.
    times.end_of_frame(1.0)  # 1.5 s, 0.5 s beside it.
    assert times.overhead_seconds == pytest.approx((0.2 + 0.8 + 0.5) / 4)
    assert times.overhead_share == pytest.approx(1.5 / 3.0)


def test_a_pause_is_not_counted():
    first = LoopTimes(iter([0.0, 1.0]).__next__)
    first.end_of_frame(0.5)
    first.end_of_frame(0.5)
    second = LoopTimes(iter([500.0, 502.0]).__next__)
    second.load_state_dict(first.state_dict())
    second.end_of_frame(1.0)
    second.end_of_frame(1.0)
    assert second.overhead_seconds == pytest.approx((0.5 + 1.0) / 2)
