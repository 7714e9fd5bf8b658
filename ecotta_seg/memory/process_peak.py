"""Peak resident memory of the whole process, Python and kernels' workspaces included."""

import resource
import sys
from pathlib import Path

from ..allocator import release_freed_memory

_STATUS = Path('/proc/self/status')
_CLEAR_REFS = Path('/proc/self/clear_refs')
_RESET_PEAK = '5'  # proc(5): writing 5 sets the peak resident size to the present one


def reset_process_peak() -> bool:
    """Starts a new process peak at the present resident size; what is free is given back first.

    Returns:
        Whether that was possible. It needs Linux and a ``/proc`` that may be written to; elsewhere
        the peak stays that of the process's whole life.
    """
    release_freed_memory()
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def process_peak_bytes() -> int:
    """The most resident memory since ``reset_process_peak``, or since the process began.

    Returns:
        Bytes: ``VmHWM`` where there is one, else ``ru_maxrss``.
    """
    found = _status_field('VmHWM')
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def process_current_bytes() -> int:
    """Resident memory now, in bytes; where the system does not tell, the peak."""
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
