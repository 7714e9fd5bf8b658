"""What the system has to clear, before and after."""

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from ecotta_seg.allocator import keep_freed_memory

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


def _run(**environment) -> tuple[str, int, int]:
    # Huge pages would need a few hundred faults only.
    environment = dict(os.environ, THP_MEM_ALLOC_ENABLE='0', **environment)
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    kept, *numbers = done.stdout.splitlines()[-1].split()
    return kept, *map(int, numbers)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc')
def test_memory_is_touched_for_the_first_time_once():
    kept, before, after = _run()
    # 9 times 64 MiB in pages of at most 64 KiB.
    assert kept == 'True' and before > 9 * 2**26 / 2**16
    assert after < before / 20


def test_who_has_set_the_thresholds_is_left_alone():
    assert _run(MALLOC_TRIM_THRESHOLD_='131072')[0] == 'False'
    assert _run(GLIBC_TUNABLES='glibc.malloc.trim_threshold=131072')[0] == 'False'


def test_another_c_library(monkeypatch):
    from ecotta_seg import allocator

    monkeypatch.setattr(allocator.ctypes, 'CDLL', lambda name: object())
    assert allocator.keep_freed_memory() is False
