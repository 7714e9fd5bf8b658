"""Tent: entropy minimisation over the affine parameters of the norms (Wang et al., ICLR 2021)."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .adaptive_batch_norm import AdaptiveBatchNorm2d, replace_batch_norms
from .base import GradientAdaptation
from .losses import pixel_entropy
from .registry import ADAPTATION_METHODS


@ADAPTATION_METHODS.register_module(name='tent')
class Tent(GradientAdaptation):
    """Frame statistics in every BatchNorm; scale and shift of all norms follow the entropy.

    Wang et al., arXiv 2006.10726, Section 3. On a model without BatchNorm (SegFormer) the affine
    parameters of its LayerNorms are updated, as is usual in ports to transformers.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        super().__init__(segmentor.requires_grad_(False), optimizer)
        replace_batch_norms(segmentor, 'frame', through_statistics=True)
        norms = (AdaptiveBatchNorm2d, _BatchNorm, nn.LayerNorm, nn.GroupNorm)
        for module in segmentor.modules():
            if isinstance(module, norms) and module.weight is not None:
                module.requires_grad_(True)
        # The auxiliary head takes no part in prediction.
        if getattr(segmentor, 'auxiliary_head', None) is not None:
            segmentor.auxiliary_head.requires_grad_(False)
        self.start()

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class: mean entropy over all pixels (arXiv 2006.10726, Eq. 1)."""
        loss = pixel_entropy(logits).mean()
        (share * loss).backward()
        record = self.last_step
        record.loss = record.entropy = float(loss.detach())
        record.confident_fraction = 1.0
