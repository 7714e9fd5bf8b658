"""The record of one step, and the clock that measures it."""

import time
from dataclasses import dataclass
from math import nan
from typing import Optional

import torch
from torch import nn


@dataclass
class StepRecord:
    """The record of one adaptation step. A number that the method does not compute is NaN.

    Attributes:
        loss: The whole loss.
        entropy: Mean entropy of the pixels in the loss, in nats.
        regularisation: Sum of the regularising terms, not yet multiplied by their weight.
        confident_fraction: Share of the pixels that the loss covers, 0 to 1.
        updated: Whether the step changed parameters.
        own_reset: The reason if the method reset itself (without a guard), else None.
        estimated_mIoU: Running mIoU of the adapted prediction in percent, estimated without labels;
            None without an estimate.
        source_estimated_mIoU: The same for the source's prediction.
        source_given: Whether the step returned the source's prediction instead of the adapted one.
        seconds: Wall-clock time of the whole step, preprocessing and prediction included.
    """

    loss: float = nan
    entropy: float = nan
    regularisation: float = nan
    confident_fraction: float = nan
    updated: bool = False
    own_reset: Optional[str] = None
    estimated_mIoU: Optional[float] = None
    source_estimated_mIoU: Optional[float] = None
    source_given: bool = False
    seconds: float = nan


def device_time(model: nn.Module) -> float:
    """Reads the clock in seconds after the model's device has finished all queued work."""
    device = next(model.parameters()).device
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()
