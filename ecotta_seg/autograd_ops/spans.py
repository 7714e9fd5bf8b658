"""Work in pieces, and what of it a run without data can leave out."""

import torch


def spans(total: int, size: int, device: torch.device) -> list[slice]:
    """0 to ``total`` in pieces of ``size``, the last perhaps shorter.

    On torch's ``meta`` device the first two are given: there a step is run for the memory that it
    takes. The second piece takes what the first one took and what was left of the first one, and so
    does each piece after it.
    """
    size = max(1, size)
    stop = min(2 * size, total) if device.type == 'meta' else total
    return [slice(start, min(start + size, total)) for start in range(0, stop, size)]
