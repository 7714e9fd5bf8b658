"""What a predicted frame says: the class of each pixel, and how sure the model is of it."""

import numpy as np
import torch
from mmseg.structures import SegDataSample


def frame_mask(sample: SegDataSample) -> np.ndarray:
    """The class of each pixel.

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
    """The probability of the class of each pixel, as the model gives it.

    Args:
        sample: See ``frame_mask``.

    Returns:
        (H, W) float32 from 0 to 1: the largest softmax probability; of a model with one logit the
        sigmoid of the class that was chosen.
    """
    logits = sample.seg_logits.data.float()
    if logits.shape[0] == 1:
        chosen = sample.pred_sem_seg.data.reshape(logits.shape) > 0
        probability = torch.where(chosen, logits.sigmoid(), 1 - logits.sigmoid())[0]
    else:
        probability = (logits.amax(0) - logits.logsumexp(0)).exp()
    return probability.clamp(0, 1).cpu().numpy()
