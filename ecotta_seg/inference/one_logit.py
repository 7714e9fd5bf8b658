"""Makes models with one logit per pixel (``out_channels=1``) two-class models."""

import torch
from torch import Tensor, nn


class _OneLogit:
    """A mixin for a segmentor with one logit z: its logits become 0 and z.

    With σ for the sigmoid, the softmax of (0, z) is (1 - σ(z), σ(z)). So entropies, averages over
    views and pseudo-labels are correct for two classes. The predicted masks use the head's
    threshold.
    """

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """(N, 3, H, W) to (N, 2, H, W)."""
        logit = super().encode_decode(inputs, batch_img_metas)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)

    def postprocess_result(self, seg_logits: Tensor, data_samples=None) -> list:
        """Calls mmseg's method with z, the difference of the two (N, 2, H, W) logits."""
        return super().postprocess_result(seg_logits[:, 1:] - seg_logits[:, :1], data_samples)


def with_two_logits(segmentor: nn.Module) -> nn.Module:
    """Makes a segmentor with one logit return two; leaves any other segmentor unchanged.

    A method's pseudo-labels are the likelier class, whatever the threshold.

    Args:
        segmentor: An mmseg segmentor; changed in place.

    Returns:
        The same object.

    Raises:
        ValueError: The decode head has one output but no threshold, so this output is not a class.
    """
    if getattr(segmentor, 'out_channels', None) != 1:
        return segmentor
    if getattr(getattr(segmentor, 'decode_head', None), 'threshold', None) is None:
        raise ValueError(
            f'expected a model that predicts classes, but the one output of this '
            f'{type(segmentor).__name__} has no threshold (a depth, maybe): use a segmentor'
        )
    kind = type(segmentor)
    segmentor.__class__ = type(f'OneLogit{kind.__name__}', (_OneLogit, kind), {})
    segmentor.out_channels = 2
    return segmentor
