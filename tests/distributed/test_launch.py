"""The end of a group of processes."""

import importlib.util
import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

_spec = importlib.util.spec_from_file_location(
    'processes', Path(__file__).with_name('processes.py')
)
processes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(processes)
MINUTE = timedelta(minutes=1)


def groups_in_turn(folder, number):
    # On one core a group's threads are the most likely to be late.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    from ecotta_seg.distributed import end_launch

    for index in range(number):
        dist.init_process_group('gloo', init_method=f'file://{folder}/{index}', timeout=MINUTE,
                                rank=int(os.environ['RANK']), world_size=2)  # fmt: skip
        found = [None, None]
        dist.all_gather_object(found, {'rank': dist.get_rank()})
        end_launch()
        assert not dist.is_initialized()


@pytest.mark.slow
def test_a_group_ends_on_every_rank(tmp_path):
    processes.in_two(groups_in_turn, tmp_path, tmp_path, 8)
