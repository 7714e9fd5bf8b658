"""Faults of a frame, of its prediction, and of tensors."""

from typing import Optional

import torch
from torch import Tensor

from ..datasets.checks.frame_check import noise_fault
from ..layers.prediction_statistics import largest_share


def fault_of_prediction(logits: Tensor, max_class_share: float) -> Optional[str]:
    """Returns the reason not to learn from a prediction, or None.

    Args:
        logits: (N, classes, H, W), without padding.
        max_class_share: Maximum share of a frame that one class may cover, 0 to 1.
    """
    if not all_finite([logits]):
        return 'the prediction is not finite'
    share = largest_share(logits)
    if share > max_class_share:
        return f'one class covers {share:.0%} of the frame'
    return None


def noise_in(frames: Tensor) -> Optional[str]:
    """Describes the first of (N, C, H, W) frames that is noise; None if no frame is noise."""
    if min(frames.shape[2:]) < 2:
        return None
    return next((fault for fault in map(noise_fault, frames) if fault), None)


def all_finite(tensors) -> bool:
    """Whether all elements are finite. One nan or inf makes a tensor's sum nan or inf."""
    sums = [tensor.detach().sum(dtype=torch.float64).cpu() for tensor in tensors]
    return not sums or bool(torch.stack(sums).isfinite().all())


def tensor_bytes(value) -> int:
    """Bytes of all tensors in nested dictionaries, lists and tuples."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(tensor_bytes, value)) if isinstance(value, (list, tuple)) else 0
