"""A sampler for the rest of a stopped stream."""

from collections.abc import Iterator
from typing import Any


class RestSampler:
    """Samples the same indices as another sampler, without the first ones.

    Args:
        sampler: The sampler of the whole stream.
        skip: Number of indices to skip.
        before_first: Called before the first index is returned.
    """

    def __init__(self, sampler: Any, skip: int, before_first: Any = None) -> None:
        self.sampler = sampler
        self.skip = skip
        self.before_first = before_first

    def __iter__(self) -> Iterator[int]:
        indices = iter(self.sampler)
        for _ in range(self.skip):
            next(indices, None)
        # A loader draws random numbers when it starts. The stopped run drew its own before it saved
        # its state, so the state is restored only now.
        if self.before_first is not None:
            self.before_first()
        yield from indices

    def __len__(self) -> int:
        return max(0, len(self.sampler) - self.skip)
