"""Work in pieces, and what of it a run without data can leave out."""

import torch


def spans(total: int, size: int, device: torch.device) -> list[slice]:
    """0 to ``total`` in pieces of ``size``, the last perhaps shorter.

    On torch's ``meta`` device only the first is given: there a step is run for the memory that it
    takes, and each piece would take what the first one took.
    """
    size = max(1, size)
    stop = min(size, total) if device.type == 'meta' else total
    return [slice(start, min(start + size, total)) for start in range(0, stop, size)]
