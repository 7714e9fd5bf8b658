"""Full fine-tuning by entropy: a bound for comparison, not a method to deploy."""

from torch import nn

from ..methods.tent import Tent


class FullFineTuning(Tent):
    """Tent's loss and statistics (arXiv 2006.10726, Eq. 1), but all parameters are trained.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        super().__init__(segmentor, optimizer)
        segmentor.requires_grad_(True)
        if getattr(segmentor, 'auxiliary_head', None) is not None:
            # The auxiliary head does not affect the prediction.
            segmentor.auxiliary_head.requires_grad_(False)
        self.start()
