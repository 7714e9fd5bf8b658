"""The state of every random generator of a process, and a generator that can be copied."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class CopiedGenerator(torch.Generator):
    """A random generator whose copy, in this process or another, draws the same numbers.

    torch 2.1 can neither copy nor pickle its own generators.
    """

    def __deepcopy__(self, memo: dict) -> 'CopiedGenerator':
        copy = type(self)(self.device)
        copy.set_state(self.get_state())
        return copy

    def __reduce__(self) -> tuple:
        return _generator_with, (type(self), str(self.device), self.get_state())


def _generator_with(kind: type, device: str, state: torch.Tensor) -> CopiedGenerator:
    generator = kind(device)
    generator.set_state(state)
    return generator


def random_state() -> dict:
    """Returns the state of Python's, NumPy's and torch's generators, also on each CUDA device."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        'python': random.getstate(),
        'numpy': [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: dict) -> None:
    """Restores a state from :func:`random_state`."""
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.device_count() == len(state['cuda']):
        torch.cuda.set_rng_state_all(state['cuda'])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch within the context; afterwards all generators continue from their old state."""
    before = random_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)
