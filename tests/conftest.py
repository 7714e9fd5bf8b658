"""What holds for all tests."""

import gc
import os

# Set before torch is imported. Some tests fork: a child of a process whose OpenMP threads run
# would wait for threads that it does not have. One thread also makes sums come out the same.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')

import pytest


def pytest_collection_finish():
    """All modules are there now: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def configs_as_they_are():
    """mmengine has each run's config formatted four times, a quarter of a second each; nobody reads
    it in a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, False))
        yield
