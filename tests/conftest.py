"""What holds for all tests."""

import os

# Set before torch is imported. Some tests fork: a child of a process whose OpenMP threads run
# would wait for threads that it does not have. One thread also makes sums come out the same.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')
