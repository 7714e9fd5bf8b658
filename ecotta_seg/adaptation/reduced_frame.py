"""A frame at a reduced size, for what needs no detail."""

import torch.nn.functional as F
from torch import Tensor

_SMALLEST_SIDE = 128


def reduced_frame(inputs: Tensor, metas: list[dict], scale: float) -> tuple[Tensor, list[dict]]:
    """Reduces a frame whose sides stay 128 pixels or more; a smaller one is left as it is.

    Args:
        inputs: (N, 3, H, W), preprocessed.
        metas: Metainfo of the N samples.
        scale: Above 0, at most 1.

    Returns:
        (N, 3, scale * H, scale * W), and metainfo that goes with it.
    """
    if scale == 1 or min(inputs.shape[2:]) * scale < _SMALLEST_SIDE:
        return inputs, metas
    size = [int(side * scale) for side in inputs.shape[2:]]
    inputs = F.interpolate(inputs, size=size, mode='bilinear', align_corners=False)
    shape = dict(img_shape=inputs.shape[2:], pad_shape=inputs.shape[2:])
    return inputs, [{**meta, **shape, 'img_padding_size': [0] * 4} for meta in metas]
