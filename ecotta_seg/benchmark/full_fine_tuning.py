"""Full fine-tuning by entropy: a bound for the comparison, not a method for deployment."""

from torch import nn

from ..methods.teacher import train_all
from ..methods.tent import Tent


class FullFineTuning(Tent):
    """Tent's loss and statistics (arXiv 2006.10726, Eq. 1), but all parameters are trained.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        super().__init__(segmentor, optimizer)
        train_all(segmentor)
        self.start()
