"""Cityscapes' classes that CamVid has: labels and predictions are kept to them.

A network of 19 outputs that was trained on CamVid has never seen the other classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS, TRANSFORMS
from torch import Tensor

CAMVID = (0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 18)


@TRANSFORMS.register_module()
class KeepClasses(BaseTransform):
    """Sets the labels of all other classes to 255, which is ignored.

    Args:
        classes: Train ids that stay.
    """

    def __init__(self, classes: Sequence[int] = CAMVID) -> None:
        self.table = np.full(256, 255, np.uint8)
        self.table[list(classes)] = list(classes)

    def transform(self, results: dict) -> dict:
        """Changes ``gt_seg_map`` (H, W) uint8; a frame without a label stays as it is."""
        if 'gt_seg_map' in results:
            results['gt_seg_map'] = self.table[results['gt_seg_map']]
        return results


@MODELS.register_module()
class TrainedClassesSegmentor(EncoderDecoder):
    """``EncoderDecoder`` whose predictions are of the trained classes alone.

    Logits stay as they are until a prediction is made of them, so methods learn from what the
    network says. Each method predicts by ``postprocess_result``, as the source does.

    Args:
        trained_classes: Outputs that were trained.
        **options: Of ``EncoderDecoder``.
    """

    def __init__(self, trained_classes: Sequence[int] = CAMVID, **options) -> None:
        super().__init__(**options)
        untrained = torch.ones(self.out_channels, dtype=torch.bool)
        untrained[list(trained_classes)] = False
        self.register_buffer('untrained', untrained, persistent=False)

    def postprocess_result(self, seg_logits: Tensor, data_samples=None) -> list:
        """Logits (N, classes, H, W) to predicted samples."""
        # Not -inf: a resize multiplies by zero.
        least = torch.finfo(seg_logits.dtype).min / 2
        others = self.untrained.view(1, -1, 1, 1)
        return super().postprocess_result(seg_logits.masked_fill(others, least), data_samples)
