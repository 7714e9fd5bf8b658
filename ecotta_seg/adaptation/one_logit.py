"""Models with one logit a pixel (``out_channels=1``), seen as models of two classes."""

import torch
from torch import Tensor, nn


class _OneLogit:
    """Goes before the class of a segmentor with one logit z: its logits are 0 and z.

    The softmax of (0, z) is the sigmoid of z and its complement. Entropies, averages over views
    and labels are so those of the two classes. The masks follow the head's own threshold.
    """

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """(N, 3, H, W) to (N, 2, H, W)."""
        logit = super().encode_decode(inputs, batch_img_metas)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)

    def postprocess_result(self, seg_logits: Tensor, data_samples=None) -> list:
        """mmseg's own, of the difference of the two (N, 2, H, W) logits."""
        return super().postprocess_result(seg_logits[:, 1:] - seg_logits[:, :1], data_samples)


def with_two_logits(segmentor: nn.Module) -> nn.Module:
    """Gives a segmentor with one logit two; any other is left as it is.

    Labels that a method makes of its predictions are the likelier class, whatever the threshold.

    Args:
        segmentor: An mmseg segmentor; changed in place.

    Returns:
        The same object.

    Raises:
        ValueError: The one output is no class: its decode head has no threshold.
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
