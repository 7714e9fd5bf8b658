"""The record of a run against mmengine's message hub."""

from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from ecotta_seg.hooks.run_record import RunRecord


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(message_hub=MessageHub.get_instance(str(tmp_path)))


def test_what_a_hook_writes_is_in_the_hub_and_in_each_record(runner):
    RunRecord(runner).events = [{'event': 'reset'}]
    RunRecord(runner).resumed_at = 3
    assert runner.message_hub.get_info('ecotta_seg/events') == [{'event': 'reset'}]
    runner.message_hub.update_info('ecotta_seg/resumed_at', 4)
    record = RunRecord(runner)
    assert record.events == [{'event': 'reset'}] and record.resumed_at == 4


def test_what_nobody_has_written_is_empty_and_not_shared(runner):
    record = RunRecord(runner)
    assert record.method is None and record.source is None and record.history is None
    assert record.resumed_at == 0 and record.events == [] and record.extra == {}
    record.extra['key'] = 1
    assert record.extra == {} and RunRecord(runner).extra == {}


def test_a_misspelt_name_is_an_error(runner):
    with pytest.raises(AttributeError):
        RunRecord(runner).event = []
    with pytest.raises(AttributeError):
        RunRecord(runner).event  # noqa: B018
