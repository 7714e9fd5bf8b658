"""Trains meta networks beside the frozen backbone with EcoTTA's loss; needs little memory."""

from torch import nn

from ..registry import ADAPTATION_METHODS
from .ecotta import EcoTTA


@ADAPTATION_METHODS.register_module(name='ladder')
class LadderAdaptation(EcoTTA):
    """``EcoTTA`` on a ``LadderEncoder``.

    The frozen backbone runs without a graph: only the activations of the rungs and the decode head
    are kept for backward. Any other method with meta networks can use a ladder, too, with
    ``meta_networks=dict(ladder=True)``. On a backbone without a description the meta networks are
    on its outputs, with or without a ladder (see ``OutputEncoder``).

    Args:
        segmentor: The source model.
        meta_networks: Options of ``LadderEncoder`` and ``MetaNetwork``.
        **options: See base class.

    Raises:
        ValueError: ``ladder=False`` is among the options; see also base class.
    """

    def __init__(self, segmentor: nn.Module, meta_networks: dict, **options) -> None:
        if isinstance(meta_networks, dict) and not meta_networks.get('ladder', True):
            raise ValueError(
                "the method 'ladder' has its meta networks on a ladder: leave ladder=False out, or "
                "choose 'ecotta'"
            )
        if isinstance(meta_networks, dict):
            meta_networks = {**meta_networks, 'ladder': True}
        super().__init__(segmentor, meta_networks=meta_networks, **options)
