"""What every encoder with meta networks is: a frozen backbone in its place in a segmentor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from torch import Tensor, nn


class PartOutput(NamedTuple):
    """What one part gave in one forward.

    Attributes:
        frozen: x_k, (N, C, H, W), the frozen part's own output.
        adapted: x̃_k, the same shape, after the meta network.
    """

    frozen: Tensor
    adapted: Tensor


Measure = Callable[[Tensor, Tensor, nn.Module], object]


def _part_output(frozen: Tensor, adapted: Tensor, meta_network: nn.Module) -> PartOutput:
    return PartOutput(frozen, adapted)


class MetaEncoder(nn.Module):
    """Takes a backbone's place in a segmentor; a subclass says where its meta networks sit.

    Args:
        backbone: The backbone to wrap. Its parameters are frozen here (``requires_grad=False``);
            whoever wraps it decides on its norms' mode.

    Attributes:
        kind: How meta networks and parts are connected; adapters of another kind do not fit.
        split: What the meta networks sit on, so that adapters of another split are refused.
        meta_networks: One for each part.
    """

    kind = ''

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.split: tuple[int, ...] = ()
        self.meta_networks = nn.ModuleList()
        self._records: Optional[list] = None
        self._measure: Measure = _part_output
        self._bypassed = False

    def early_modules(self) -> list[nn.Module]:
        """Modules at the beginning of the backbone, whose norms see the weather first; none where
        nobody tells."""
        return []

    @contextmanager
    def recording(self, measure: Optional[Measure] = None) -> Iterator[list]:
        """Inside, each forward appends what ``measure`` gives for each of its K parts to the list.

        Args:
            measure: Takes x_k, x̃_k with its graph, and the meta network. None records the two
                maps as a ``PartOutput``.
        """
        self._records, self._measure = [], measure or _part_output
        try:
            yield self._records
        finally:
            self._records, self._measure = None, _part_output

    def record(self, frozen: Tensor, adapted: Tensor, meta_network: nn.Module) -> None:
        """Appends a part to the list; outside of ``recording`` it does nothing."""
        if self._records is not None:
            self._records.append(self._measure(frozen, adapted, meta_network))

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Inside, the meta networks are left out: the frozen backbone alone."""
        self._bypassed = True
        try:
            yield
        finally:
            self._bypassed = False

    def train(self, mode: bool = True) -> 'MetaEncoder':
        """Sets the meta networks' mode; the frozen backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self
