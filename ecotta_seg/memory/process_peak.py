"""Peak resident memory of the whole process, including Python and kernels' workspaces."""

import resource
import sys
from pathlib import Path

from ..startup.allocator import release_freed_memory

_STATUS = Path('/proc/self/status')
_CLEAR_REFS = Path('/proc/self/clear_refs')
_RESET_PEAK = '5'  # proc(5): writing 5 sets the peak resident size to the present one


def reset_process_peak() -> bool:
    """Returns free memory to the system, then resets the process peak to the resident size.

    Returns:
        Whether the reset succeeded. It needs Linux and a writable ``/proc``; without them, the
        peak covers the whole life of the process.
    """
    release_freed_memory()
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def process_peak_bytes() -> int:
    """Peak resident memory since ``reset_process_peak``, or since the process began.

    Returns:
        Bytes: ``VmHWM`` if available, else ``ru_maxrss``.
    """
    found = _status_field('VmHWM')
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def process_current_bytes() -> int:
    """Resident memory now, in bytes. If the system does not report it, the peak is returned."""
    found = _status_field('VmRSS')
    return process_peak_bytes() if found is None else found


def _status_field(name: str):
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) * 1024  # the file counts in kB
    return None
