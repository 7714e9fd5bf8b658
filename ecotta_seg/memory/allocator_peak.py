"""The peak of torch's allocator during a call, compiled code and kernels' buffers included."""

from typing import Any, Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from .peak_meter import measure_peak


def allocator_peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Peak bytes that the allocator holds during the call, above the bytes held before the call.

    On the CPU the number is the running sum of the ``[memory]`` events of torch's profiler. These
    events count what a ``StorageMeter`` cannot see: tensors in compiled code, and the buffers of
    kernels. On CUDA the meter reads the allocator itself.

    Args:
        function: Called once.
        device: Where the tensors are.
    """
    if device.type == 'cuda':
        return measure_peak(function, device)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        function()
    events = run.profiler.kineto_results.events()
    changes = [
        (_start(event), event.nbytes())
        for event in events
        if event.name() == '[memory]' and event.device_type() == DeviceType.CPU
    ]
    current = peak = 0
    for _, change in sorted(changes, key=lambda entry: entry[0]):
        current += change
        peak = max(peak, current)
    return peak


def _start(event: Any) -> int:
    """The time of an event; torch 2.1 has microseconds only."""
    return event.start_ns() if hasattr(event, 'start_ns') else event.start_us()
