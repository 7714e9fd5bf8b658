"""Makes a segmentor predict masks with the class ids of a data set."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn


def number_of_classes(segmentor: nn.Module) -> Optional[int]:
    """Returns the number of classes that an mmseg segmentor predicts; None if unknown."""
    outputs = getattr(segmentor, 'out_channels', None)
    return 2 if outputs == 1 else outputs


class _MatchedClasses:
    """Mixin for a segmentor's class, whose masks then have the ids of a data set."""

    def postprocess_result(self, seg_logits: Tensor, data_samples=None) -> list:
        """Calls mmseg's method and maps ``pred_sem_seg`` to the data set's ids.

        The logits keep the model's order of classes.
        """
        samples = super().postprocess_result(seg_logits, data_samples)
        for sample in samples:
            mask = sample.pred_sem_seg.data
            table = torch.tensor(self.class_table, device=mask.device)
            sample.pred_sem_seg.data = table[mask.long()].to(mask.dtype)
        return samples


def with_matched_classes(segmentor: nn.Module, table: Sequence[int]) -> None:
    """Makes a segmentor predict masks with a data set's ids.

    Args:
        segmentor: Changed in place.
        table: The data set's id for each class of the model, see ``match_classes``.
    """
    segmentor.class_table = list(table)
    kind = type(segmentor)
    if not issubclass(kind, _MatchedClasses):
        segmentor.__class__ = type(f'Matched{kind.__name__}', (_MatchedClasses, kind), {})
