"""Reads a memory budget, in a module that imports no library."""

import re
from typing import Optional, Union

_UNITS = {
    '': 1, 'B': 1, 'KB': 10**3, 'MB': 10**6, 'GB': 10**9, 'KIB': 2**10, 'MIB': 2**20, 'GIB': 2**30,
}  # fmt: skip


def parse_budget(budget: Union[str, int, float, None], inference_bytes: int) -> Optional[int]:
    """Returns a memory budget in bytes; None if there is no limit.

    Args:
        budget: ``'600MB'``, ``'580MiB'``, a number of bytes, ``'1.25x'`` (times the peak of stock
            inference), or None for no limit.
        inference_bytes: Peak of stock inference on the same frame.

    Raises:
        ValueError: The budget has none of these forms, or is not above 0.
    """
    if budget is None:
        return None
    text = str(budget).strip()
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([a-zA-Z]*)', text)
    unit = match.group(2).upper() if match else None
    if match is None or (unit not in _UNITS and unit != 'X') or float(match.group(1)) <= 0:
        raise ValueError(
            f"expected a memory budget such as '600MB', '580MiB' or '1.25x' (times the peak of "
            f'stock inference), got {budget!r}'
        )
    factor = inference_bytes if unit == 'X' else _UNITS[unit]
    return int(float(match.group(1)) * factor)
