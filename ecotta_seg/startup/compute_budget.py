"""Reads a compute budget, in a module that imports no library."""

import re
from typing import Union


def parse_compute_budget(budget: Union[str, int, float]) -> float:
    """Returns a compute budget as a multiple of stock inference's floating-point operations.

    Args:
        budget: A text such as ``'1.5x'``, or a number.

    Raises:
        ValueError: The budget has another form, or is not above 0.
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*[xX]?', str(budget).strip())
    if match is None or float(match.group(1)) <= 0:
        raise ValueError(
            "expected a compute budget such as '1.5x' (times the floating-point operations of "
            f'stock inference), got {budget!r}'
        )
    return float(match.group(1))
