"""Makes the random numbers that a network draws in its forward pass the same for each frame."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fixed_draws(device: torch.device) -> Iterator[None]:
    """Context manager that seeds torch's generators at entry and restores their state at exit.

    SegNeXt's head (``LightHamHead``) draws new bases in each forward pass. Without a fixed seed,
    the prediction of the source model is not reproducible, and a model with meta networks that
    change nothing does not give the same prediction as the source model.

    Args:
        device: The network's device. Its generator is seeded, and the CPU's as well.
    """
    cuda = device.type == 'cuda'
    with torch.random.fork_rng([device] if cuda else []):
        # torch.manual_seed would seed all devices.
        torch.default_generator.manual_seed(0)
        if cuda:
            torch.cuda.manual_seed(0)
        yield
