"""Guards the adaptation in a Runner's test and reports the guard's events."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..guard.guard import UpdateGuard
from ..methods.frame_life import Turn
from .run_record import RunRecord


@HOOKS.register_module()
class GuardHook(Hook):
    """Checks each step with an ``UpdateGuard``.

    ``EcoTTAHook`` writes each event to the log and to ``ecotta_seg/events`` in the message hub, as
    ``{'event': 'skip' | 'rollback' | 'reset', 'stream_index', 'reason'}``. ``results.json`` and the
    plot of the stream show these events.

    Args:
        **limits: Arguments of ``UpdateGuard``.
    """

    priority = Turn.GUARD

    def __init__(self, **limits: Any) -> None:
        self.limits = limits
        UpdateGuard(**limits)  # Wrong limits raise before anything is built.

    def before_test(self, runner: Any) -> None:
        """Gives the model a new guard, if the model is an adaptation method."""
        if hasattr(runner.model, 'guard'):
            runner.model.guard = UpdateGuard(**self.limits)


def add_event(runner: Any, event: dict) -> None:
    """Writes an event to the log and to the message hub.

    Args:
        runner: The Runner.
        event: A dict with ``event`` (the kind), ``stream_index``, ``reason`` and optional further
            fields.
    """
    events = RunRecord(runner).events
    events.append(event)
    RunRecord(runner).events = events
    runner.logger.warning(
        f'frame {event.get("stream_index")}: {event["event"]}, {event.get("reason", "")}'
    )
