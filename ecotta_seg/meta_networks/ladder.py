"""Meta networks beside a frozen backbone, not inside: no gradient passes through its blocks."""

from collections import Counter
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from .encoder import AdaptedEncoder
from .units import find_units


class LadderEncoder(AdaptedEncoder):
    """An ``AdaptedEncoder`` whose meta networks form a side network, one rung per part.

    In ``AdaptedEncoder``, part k reads the output of part k - 1 and its meta network. A gradient
    for meta network k - 1 therefore passes through the frozen part k, whose activations must be
    kept. Here the frozen backbone runs alone, without a graph, and only the side network reads
    the side network's output:

        x_k = f_k(x_{k-1})                                   frozen, detached
        x̃_k = x_k + norm(x_k) + gain * conv_block(x̃_{k-1})   a rung (``start='identity'``)

    The stage outputs come from x̃, so a decode head sees adapted features. If a stage ends *inside*
    a part, its output is the frozen one; the default is one part per stage. In a MiT, the side
    network also passes the frozen LayerNorm that ends a stage, with a graph, but no block.

    After LST (arXiv 2206.06522), UniPT (2308.14316) and SHERL (2407.07523), whose side networks
    read the frozen features of a whole network. The rungs are EcoTTA's meta networks (2303.01904),
    so saved adapters, the regulariser and the warm-up are the same. The drawback: frozen parts
    never see adapted features.

    Args:
        backbone, num_parts, **meta_network: See ``AdaptedEncoder``.
        split: Units per part. None takes the backbone's stages if their number is ``num_parts``,
            else the paper's proportions.
    """

    kind = 'ladder'

    def __init__(
        self,
        backbone: nn.Module,
        num_parts: int = 4,
        split: Optional[Sequence[int]] = None,
        **meta_network,
    ) -> None:
        if split is None:
            stages = Counter(shape.stage for shape in find_units(backbone).shapes)
            if len(stages) == num_parts:
                split = [stages[stage] for stage in sorted(stages)]
        super().__init__(backbone, num_parts, split, **meta_network)

    def forward(self, image: Tensor):
        """See base class."""
        outputs: dict[int, Tensor] = {}
        with torch.no_grad():
            trunk = self.units.stem(image)
        side = trunk
        for index, meta_network in enumerate(self.meta_networks):
            with torch.no_grad():
                frozen = self.run_part(index, trunk, outputs)
                trunk = self.leave_part(index, frozen, outputs)
            if self._bypassed:
                continue
            side = meta_network(frozen, side)
            self.record(frozen, side, meta_network)
            # If a stage ends here, its adapted output replaces the frozen one.
            side = self.leave_part(index, side, outputs)
        return self.units.collect([outputs[stage] for stage in sorted(outputs)])
