"""Full fine-tuning by entropy: a bound to compare with, not a method that anyone should deploy."""

from torch import nn

from ..adaptation.tent import Tent


class FullFineTuning(Tent):
    """Tent's loss and statistics (arXiv 2006.10726, Eq. 1), with every parameter learned.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        super().__init__(segmentor, optimizer)
        segmentor.requires_grad_(True)
        if getattr(segmentor, 'auxiliary_head', None) is not None:
            # It takes no part in prediction.
            segmentor.auxiliary_head.requires_grad_(False)
        self.start()
