"""The peak memory of a piece of code, on a CPU or on CUDA."""

from typing import Callable, Optional, Union

import torch

from .storage_meter import StorageMeter


class PeakMeter:
    """Context manager that measures the peak tensor memory inside, above the memory at entry.

    Args:
        device: The device of the computation. ``cpu`` is measured with ``StorageMeter`` (exact and
            repeatable), ``cuda`` with torch's allocator (which also sees kernels' workspaces).

    Attributes:
        peak_bytes: Bytes; 0 before the context has ended.

    Raises:
        ValueError: The device is neither a CPU nor CUDA, or torch finds no CUDA device.
    """

    def __init__(self, device: Union[str, torch.device]) -> None:
        self._device = torch.device(device)
        if self._device.type not in ('cpu', 'cuda'):
            raise ValueError(f'expected a cpu or cuda device to measure on, got {str(device)!r}')
        if self._device.type == 'cuda' and not torch.cuda.is_available():
            raise ValueError('cannot measure on cuda: torch finds no CUDA device; use device="cpu"')
        self._storages: Optional[StorageMeter] = None
        self._before = self.peak_bytes = 0

    def __enter__(self) -> 'PeakMeter':
        if self._device.type == 'cpu':
            self._storages = StorageMeter(device='cpu')
            self._storages.__enter__()
        else:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *error) -> None:
        if self._storages is not None:
            self._storages.__exit__(*error)
            self.peak_bytes, self._storages = self._storages.peak_bytes, None
        else:
            torch.cuda.synchronize(self._device)
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device) - self._before


def measure_peak(function: Callable[[], object], device: Union[str, torch.device]) -> int:
    """Peak tensor memory of one call in bytes, see ``PeakMeter``.

    Args:
        function: Called once, without arguments; its result is dropped.
        device: See ``PeakMeter``.

    Raises:
        ValueError: See ``PeakMeter``.
    """
    with PeakMeter(device) as meter:
        function()
    return meter.peak_bytes


def meter_name(device: Union[str, torch.device]) -> str:
    """The report's name of the meter that ``measure_peak`` uses on a device."""
    return 'cuda allocator' if torch.device(device).type == 'cuda' else 'storage'
