"""Reads the masks of an mmseg sample."""

from typing import Any, Optional

import numpy as np
import torch


def class_mask(sample: Any, key: str = 'pred_sem_seg') -> Optional[np.ndarray]:
    """Copies a sample's mask.

    Args:
        sample: A ``SegDataSample``.
        key: ``'pred_sem_seg'`` or ``'gt_sem_seg'``.

    Returns:
        (H, W) int64 class indices; None if the sample has no such mask.
    """
    if key not in sample:
        return None
    data = getattr(sample, key).data
    return data.reshape(data.shape[-2:]).to('cpu', torch.int64, copy=True).numpy()
