"""EcoTTA's loss on meta networks that stand beside the frozen backbone: light in memory."""

from torch import nn

from .ecotta import MetaNetworkAdaptation
from .registry import ADAPTATION_METHODS


@ADAPTATION_METHODS.register_module(name='ladder')
class LadderAdaptation(MetaNetworkAdaptation):
    """``MetaNetworkAdaptation`` on a ``LadderEncoder``.

    The frozen backbone runs without a graph: what is kept for backward are the rungs' and the
    decode head's activations. Any other method on meta networks can be put on a ladder likewise,
    with ``meta_networks=dict(ladder=True)``. On a backbone that nobody has described meta networks
    sit on its outputs, ladder or not (see ``OutputEncoder``).

    Args:
        segmentor: The source model.
        meta_networks: Options of ``LadderEncoder`` and ``MetaNetwork``.
        **options: See base class.

    Raises:
        ValueError: ``ladder=False`` among the options; see also base class.
    """

    def __init__(self, segmentor: nn.Module, meta_networks: dict, **options) -> None:
        if not meta_networks.get('ladder', True):
            raise ValueError(
                "the method 'ladder' has its meta networks on a ladder: leave ladder=False out, or "
                "choose 'ecotta'"
            )
        super().__init__(segmentor, meta_networks={**meta_networks, 'ladder': True}, **options)
