"""Class and confidence of each pixel of a predicted frame."""

import numpy as np
import torch
from mmseg.structures import SegDataSample


def frame_mask(sample: SegDataSample) -> np.ndarray:
    """Returns the class of each pixel.

    Args:
        sample: From ``AdaptiveSegmentor.step`` or ``predict``.

    Returns:
        (H, W) uint8 class indices.

    Raises:
        ValueError: The model has more than 255 classes.
    """
    ids = sample.pred_sem_seg.data
    if sample.seg_logits.data.shape[0] > 255:
        raise ValueError(
            f'masks of 8 bits hold up to 255 classes, but the model has '
            f'{sample.seg_logits.data.shape[0]}'
        )
    return ids.reshape(ids.shape[-2:]).to('cpu', torch.uint8).numpy()


def frame_confidence(sample: SegDataSample) -> np.ndarray:
    """Returns the model's probability for the predicted class of each pixel.

    Args:
        sample: See ``frame_mask``.

    Returns:
        (H, W) float32 from 0 to 1: the largest softmax probability. For a model with one logit,
        the sigmoid probability of the predicted class.
    """
    logits = sample.seg_logits.data.float()
    if logits.shape[0] == 1:
        chosen = sample.pred_sem_seg.data.reshape(logits.shape) > 0
        probability = torch.where(chosen, logits.sigmoid(), 1 - logits.sigmoid())[0]
    else:
        probability = (logits.amax(0) - logits.logsumexp(0)).exp()
    return probability.clamp(0, 1).cpu().numpy()
