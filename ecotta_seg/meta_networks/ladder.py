"""Meta networks beside a frozen backbone, so that no gradient passes through the frozen blocks."""

from collections import Counter
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from .encoder import AdaptedEncoder
from .units import find_units

MERGES = ('sum', 'confidence')


class Confidence(nn.Module):
    """Weighted mean of two (N, C, H, W) maps, by a softmax of two confidences per pixel.

    Args:
        channels: C. The parameters that give the confidences start at 0, so that at first the
            result is the plain mean of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, frozen: Tensor, side: Tensor) -> Tensor:
        """Computes frozen + c (side - frozen). Two equal maps give this map, bit for bit."""
        away = side - frozen
        # The softmax of two numbers is the sigmoid of their difference.
        share = torch.sigmoid((away * self.weight.view(-1, 1, 1)).sum(dim=1, keepdim=True))
        return frozen + share * away


class LadderEncoder(AdaptedEncoder):
    """An ``AdaptedEncoder`` whose meta networks form a side network, one rung per part.

    In ``AdaptedEncoder``, part k reads the output of part k - 1 and its meta network. A gradient
    for meta network k - 1 therefore passes through the frozen part k, whose activations must be
    kept. Here the frozen backbone runs alone, without a graph, and only the side network reads
    the side network's output:

        x_k = f_k(x_{k-1})                                   frozen, detached
        x̃_k = x_k + norm(x_k) + gain * conv_block(x̃_{k-1})   a rung (``start='identity'``)

    The stage outputs come from x̃, so a decode head sees adapted features. If a stage ends *inside*
    a part, its output is the frozen one; the default is one part per stage. In a MiT, the frozen
    LayerNorm that ends a stage also runs on the side network's map, with a graph; the frozen blocks
    do not.

    The idea comes from LST (arXiv 2206.06522), UniPT (2308.14316) and SHERL (2407.07523), whose
    side networks read the frozen features of a whole network. The rungs are EcoTTA's meta networks
    (2303.01904), so saved adapters, the regulariser and the warm-up are the same. The drawback:
    frozen parts never see adapted features, except in open parts.

    With ``merge='confidence'`` each rung also reads the frozen features, as UniPT's layers do. Both
    inputs are merged for each pixel by a softmax of their confidences (UniPT's aggregation), which
    are w x̃_{k-1} and w x_{k-1}, with one number of w per channel. UniPT merges the features of all
    layers into one vector; here each rung merges two maps, because a decode head reads all stages.

    ``open_parts`` is SHERL's idea that gradients pass through the last few frozen layers only. The
    frozen blocks of an open part read the side network's output, with a graph, as in an
    ``AdaptedEncoder``. If all parts are open, the outputs equal those of an ``AdaptedEncoder``.
    SHERL merges the early layers with a penalty on redundancy; here the rungs merge them.

    Args:
        backbone, num_parts, **meta_network: See ``AdaptedEncoder``.
        split: Units per part. None takes the backbone's stages if their number is ``num_parts``,
            else the paper's proportions.
        merge: 'sum', where a rung reads the side network alone, or 'confidence'.
        open_parts: Number of open parts, from 0. Gradients pass through the blocks of the last
            ``open_parts`` parts.

    Raises:
        ValueError: ``merge`` is unknown, or ``open_parts`` is out of range; see also base class.
    """

    kind = 'ladder'

    def __init__(
        self,
        backbone: nn.Module,
        num_parts: int = 4,
        split: Optional[Sequence[int]] = None,
        merge: str = 'sum',
        open_parts: int = 0,
        **meta_network,
    ) -> None:
        if merge not in MERGES:
            raise ValueError(f'expected merge to be one of {MERGES}, got {merge!r}')
        if split is None:
            stages = Counter(shape.stage for shape in find_units(backbone).shapes)
            if len(stages) == num_parts:
                split = [stages[stage] for stage in sorted(stages)]
        super().__init__(backbone, num_parts, split, **meta_network)
        if not isinstance(open_parts, int) or not 0 <= open_parts <= len(self.parts):
            raise ValueError(
                f'expected open_parts from 0 to {len(self.parts)}, the number of parts, got '
                f'{open_parts!r}'
            )
        self.closed_parts = len(self.parts) - open_parts
        if merge == 'confidence':
            # The first rung needs no merge, because its two inputs are the same. From the second
            # open part on, the frozen backbone no longer runs alone, so there is only one map.
            for index in range(1, min(len(self.parts), self.closed_parts + 1)):
                channels = self.units.shapes[self.parts[index].start].in_channels
                self.meta_networks[index].confidence = Confidence(channels)

    def forward(self, image: Tensor):
        """See base class."""
        outputs: dict[int, Tensor] = {}
        with torch.no_grad():
            trunk = self.units.stem(image)
        side = trunk
        for index, meta_network in enumerate(self.meta_networks):
            confidence = getattr(meta_network, 'confidence', None)
            if confidence is not None and not self._bypassed:
                side = confidence(trunk, side)
            if index >= self.closed_parts and not self._bypassed:
                frozen = self.run_part(index, side, outputs)
            else:
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
