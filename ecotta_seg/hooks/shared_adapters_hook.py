"""Shares one set of adapters in a fleet: processes average their adapters regularly."""

from typing import Any

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..distributed import average_tensors
from ..methods.frame_life import Turn


@HOOKS.register_module()
class SharedAdaptersHook(Hook):
    """Averages the adapters of processes that adapt on their own frames.

    After every ``every`` batches the hook averages the adaptable parameters over the process group.
    All processes then have bit-identical parameters. Each process keeps its own momenta. If a
    process has non-finite parameters, it gets the mean of the other processes. A process that has
    no frames left takes part in the exchanges with weight 0 until the others are done. Without this
    hook each process adapts alone.

    Args:
        every: Number of batches of each process between two exchanges.

    Raises:
        ValueError: ``every`` is below 1.
    """

    priority = Turn.SHOW
    shares_adapters = True

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f'SharedAdaptersHook: every must be at least 1, got {every}')
        self.every = every
        self._batches = 0

    def before_test(self, runner: Any) -> None:
        """Computes the number of exchanges from the largest number of batches of a process."""
        self._total = self._batches + len(runner.test_dataloader)
        longest = max(all_gather_object(self._total))
        self._exchanges = longest // self.every if get_world_size() > 1 else 0

    def before_test_epoch(self, runner: Any) -> None:
        """If the process has no frames left, takes part in the remaining exchanges."""
        if self._batches >= self._total:
            self._finish(runner)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Exchanges the adapters if an exchange is due."""
        self._batches += 1
        if self._exchanges and self._batches % self.every == 0:
            self._exchange(runner, 1.0)
        if self._batches == self._total:
            self._finish(runner)

    def _finish(self, runner: Any) -> None:
        for _ in range(self._batches // self.every, self._exchanges):
            self._exchange(runner, 0.0)

    @staticmethod
    def _exchange(runner: Any, weight: float) -> None:
        tensors = [p.data for p in runner.model.adaptable_parameters().values()]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            weight = 0.0
        average_tensors(tensors, weight)

    def after_test(self, runner: Any) -> None:
        """Resets the counter for another test."""
        self._batches = 0

    def state_dict(self) -> dict:
        """Returns the number of batches that this process has done."""
        return {'batches': self._batches}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._batches = int(state['batches'])
