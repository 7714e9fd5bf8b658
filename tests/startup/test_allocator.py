"""What the system has to clear, before and after."""

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from ecotta_seg.startup.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        maps = [torch.ones(2**24) for _ in range(3)]  # 64 MiB each
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first, kept = faults(), keep_freed_memory()
faults()
print(kept, first, faults())
"""

RELEASE = """
import torch
from ecotta_seg.startup.allocator import keep_freed_memory
from ecotta_seg.memory import process_current_bytes, reset_process_peak

keep_freed_memory()
maps = [torch.ones(2**24) for _ in range(4)]
del maps
kept = process_current_bytes()
reset_process_peak()
print(0, kept, process_current_bytes())
"""


def _run(script: str = SCRIPT, **environment) -> tuple[str, int, int]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(('MALLOC_', 'GLIBC_'))}
    environment = {**inherited, 'THP_MEM_ALLOC_ENABLE': '0', **environment}
    done = subprocess.run(
        [sys.executable, '-c', script], env=environment, capture_output=True, text=True, check=True
    )
    kept, *numbers = done.stdout.splitlines()[-1].split()
    return kept, *map(int, numbers)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc')
def test_memory_is_touched_for_the_first_time_once():
    # The kernel may reclaim pages on a busy machine, so the run has three tries.
    for _ in range(3):
        kept, before, after = _run()
        if after < before / 10:
            break
    # 9 times 64 MiB in pages of 2 MiB at most.
    assert kept == 'True' and before > 9 * 2**26 / 2**22
    assert after < before / 10


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc')
def test_a_new_process_peak_leaves_out_what_was_freed_before():
    _, kept, after = _run(RELEASE)
    assert after < kept - 3 * 2**26


@pytest.mark.slow
def test_who_has_set_the_thresholds_is_left_alone():
    assert _run(MALLOC_TRIM_THRESHOLD_='131072')[0] == 'False'
    assert _run(GLIBC_TUNABLES='glibc.malloc.trim_threshold=131072')[0] == 'False'


def test_another_c_library(monkeypatch):
    from ecotta_seg.startup import allocator

    monkeypatch.setattr(allocator.ctypes, 'CDLL', lambda name: object())
    assert allocator.keep_freed_memory() is False
    allocator.release_freed_memory()


def test_an_older_glibc_that_takes_no_large_threshold(monkeypatch):
    from ecotta_seg.startup import allocator

    calls = []

    class Library:
        @staticmethod
        def mallopt(option, value):
            calls.append((option, value))
            return int(option != -3 or value <= 2**25)

    monkeypatch.setattr(allocator.ctypes, 'CDLL', lambda name: Library)
    for name in allocator._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    assert allocator.keep_freed_memory() is True
    # No blocks of the system's own (M_MMAP_MAX), nothing given back (M_TRIM_THRESHOLD).
    assert calls[1:] == [(-4, 0), (-1, -1)]
