"""Makes models that classify masks (MaskFormer, Mask2Former) return logits."""

import torch
from torch import Tensor, nn


class _MaskClassification:
    """A mixin for a segmentor whose head gives scores s: its logits become ln s.

    A head that classifies masks gives each class of a pixel a score from 0: a sum of mask
    probabilities, weighted by class probabilities. The softmax of such scores is never close to
    one-hot, so an entropy loss finds no confident pixel. The softmax of ln s is s / Σ s. The masks
    come from the resized scores, as in mmseg. With sliding windows, overlapping windows are
    averaged as logits, not as scores.
    """

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """(N, 3, H, W) to (N, classes, H, W), at most about 0."""
        return _logits(super().encode_decode(inputs, batch_img_metas))

    def postprocess_result(self, seg_logits: Tensor, data_samples=None) -> list:
        """Calls mmseg's method with the scores; ``seg_logits`` of the results are logits."""
        samples = super().postprocess_result(seg_logits.exp(), data_samples)
        for sample in samples:
            sample.seg_logits.data = _logits(sample.seg_logits.data)
        return samples


def _logits(scores: Tensor) -> Tensor:
    """ln of scores from 0; a score of 0 becomes a finite number."""
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()


def with_logits_of_scores(segmentor: nn.Module) -> nn.Module:
    """Makes a segmentor whose head classifies masks return logits; leaves any other unchanged.

    mmdet's heads of this kind have a ``cls_embed`` for the classes and a ``mask_embed`` for the
    masks of their queries.

    Args:
        segmentor: An mmseg segmentor; changed in place.

    Returns:
        The same object.
    """
    head = getattr(segmentor, 'decode_head', None)
    parts = (getattr(head, name, None) for name in ('cls_embed', 'mask_embed'))
    if not all(isinstance(part, nn.Module) for part in parts):
        return segmentor
    kind = type(segmentor)
    if not issubclass(kind, _MaskClassification):
        name = f'MaskClassification{kind.__name__}'
        segmentor.__class__ = type(name, (_MaskClassification, kind), {})
    return segmentor
