"""Random numbers that a network draws in its forward, the same for each frame."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fixed_draws(device: torch.device) -> Iterator[None]:
    """Inside, torch's generators start from one seed; afterwards they continue where they were.

    SegNeXt's head (``LightHamHead``) draws new bases in each forward. Without a seed of its own,
    the source's prediction is not reproducible, and meta networks that change nothing do not give
    the source's prediction.

    Args:
        device: Of the network; its generator is seeded with that of the CPU.
    """
    cuda = device.type == 'cuda'
    with torch.random.fork_rng([device] if cuda else []):
        # torch.manual_seed would seed all devices.
        torch.default_generator.manual_seed(0)
        if cuda:
            torch.cuda.manual_seed(0)
        yield
