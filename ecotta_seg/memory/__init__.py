"""Exact measurement of the memory of an adaptation."""

from .kept_copies import reachable_tensors
from .peak_meter import PeakMeter, measure_peak, meter_name
from .process_peak import process_current_bytes, process_peak_bytes, reset_process_peak
from .report import (
    MIB,
    MemoryReport,
    StandingMemory,
    module_tensors,
    optimizer_tensors,
    standing_memory,
    storage_bytes,
)
from .storage_meter import LiveTensor, StorageMeter

__all__ = [
    'MIB',
    'LiveTensor',
    'MemoryReport',
    'PeakMeter',
    'StandingMemory',
    'StorageMeter',
    'measure_peak',
    'meter_name',
    'module_tensors',
    'optimizer_tensors',
    'process_current_bytes',
    'process_peak_bytes',
    'reachable_tensors',
    'reset_process_peak',
    'standing_memory',
    'storage_bytes',
]
