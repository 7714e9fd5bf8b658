"""Pooling of cells by attention, for meta networks on a coarser grid."""

import torch.nn.functional as F
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """The weighted mean of each cell of a map; the weights are a softmax of the pixels' scores.

    The layer follows self-attentive pooling (arXiv 2209.07659), which computes the scores by
    self-attention over all patches of the map. Here a 1x1 convolution computes the scores, because
    self-attention over a frame would keep more activations than the coarser grid saves.

    Args:
        channels: C.
        factor: Side of a cell in pixels, from 2. All scores are 0 at first, so the layer starts as
            a plain mean.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.score = nn.Conv2d(channels, 1, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / factor), ceil(W / factor)).

        If a cell reaches over the lower or the right edge, only its pixels inside the map count.
        """
        factor = self.factor
        height, width = x.shape[2:]
        sides = (0, -width % factor, 0, -height % factor)
        scores = self.score(x)
        if any(sides):
            x, scores = F.pad(x, sides), F.pad(scores, sides, value=float('-inf'))
        grid = (scores.shape[2] // factor, factor, scores.shape[3] // factor, factor)
        cells = scores.view(len(x), *grid).permute(0, 1, 3, 2, 4).flatten(3)
        weights = cells.softmax(dim=3).unflatten(3, (factor, factor)).permute(0, 1, 3, 2, 4)
        weighed = x.reshape(len(x), -1, *grid) * weights.unsqueeze(1)
        return weighed.sum(dim=(3, 5))
