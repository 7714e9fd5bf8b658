"""The record of a run: all that its hooks measure and report."""

from typing import Any, Optional


class _Entry:
    """An attribute whose value is in mmengine's message hub, as ``'ecotta_seg/<name>'``."""

    def __init__(self, absent: Optional[type] = None) -> None:
        self.absent = absent

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, record: Optional['RunRecord'], owner: Optional[type] = None) -> Any:
        if record is None:
            return self
        value = record.hub.get_info(f'ecotta_seg/{self.name}', None)
        return self.absent() if value is None and self.absent else value

    def __set__(self, record: 'RunRecord', value: Any) -> None:
        record.hub.update_info(f'ecotta_seg/{self.name}', value)


class RunRecord:
    """The measurements and facts of a run, as attributes.

    The hooks write the attributes, and ``ResultsHook`` writes them to ``results.json``. The values
    are in the message hub of the Runner under ``'ecotta_seg/<attribute>'``, so other programs can
    read them without this class. An attribute that no hook has written is None; some are an empty
    list, an empty dict or 0 instead. To change a list or a dict, assign the changed value.

    Args:
        runner: The Runner.

    Attributes:
        method: Name of the method.
        views: Number of views of each prediction.
        resumed_at: Number of frames that were finished before the run resumed; 0 if the run did
            not resume.
        history: One dict for each frame, see ``StreamPlotHook``.
        events: One dict for each event, see ``add_event``.
        rounds, mean_mIoU, confusion: Scores of the method, see ``PerConditionIoU``.
        source, source_confusion: Scores of the source.
        source_seconds: Median seconds that the source takes for a frame.
        references: Scores of the other references by name.
        clear: Scores on the clear day.
        estimate: One dict for each round, see ``LabelFreeHook``.
        memory: Dict of the memory in bytes, see ``MemoryReport``.
        seconds_per_frame: Dict of the seconds per frame, see ``MemoryHook``.
        extra: Dict of further keys for the top level of ``results.json``.
    """

    method = _Entry()
    views = _Entry()
    resumed_at = _Entry(int)
    history = _Entry()
    events = _Entry(list)
    rounds = _Entry(list)
    mean_mIoU = _Entry()
    confusion = _Entry()
    source = _Entry()
    source_confusion = _Entry()
    source_seconds = _Entry()
    references = _Entry()
    clear = _Entry()
    estimate = _Entry(list)
    memory = _Entry()
    seconds_per_frame = _Entry()
    extra = _Entry(dict)

    # A misspelt name is an error, not a new attribute.
    __slots__ = ('hub',)

    def __init__(self, runner: Any) -> None:
        self.hub = runner.message_hub
