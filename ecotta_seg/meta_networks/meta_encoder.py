"""Base class of the encoders with meta networks, which replace a segmentor's backbone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from torch import Tensor, nn

from ..layers.calibrated_features import CalibratedFeatures


class PartOutput(NamedTuple):
    """The outputs of one part in one forward pass.

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
    """Replaces a backbone in a segmentor; a subclass places the meta networks.

    Args:
        backbone: The backbone to wrap. The constructor freezes the backbone's parameters
            (``requires_grad=False``). The caller chooses the statistics by which the backbone's
            norms normalise.

    Attributes:
        kind: Name of the way in which meta networks and parts are connected. An adapter file of
            another kind is refused.
        split: The places of the meta networks. An adapter file with another split is refused.
        meta_networks: One per part.
        aligners: One per part, see ``align_features``; empty without them.
    """

    kind = ''

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.split: tuple[int, ...] = ()
        self.meta_networks = nn.ModuleList()
        self.aligners = nn.ModuleList()
        self._records: Optional[list] = None
        self._measure: Measure = _part_output
        self._bypassed = False

    def align_features(self, **options) -> list[CalibratedFeatures]:
        """Adds an aligner to each part, if the encoder knows the parts of its backbone.

        Args:
            **options: Options of ``CalibratedFeatures``.

        Returns:
            The aligners; an empty list if the encoder cannot add layers inside its backbone.
        """
        return []

    @contextmanager
    def recording(self, measure: Optional[Measure] = None) -> Iterator[list]:
        """Context manager that yields a list; each forward pass appends one result per part.

        Args:
            measure: Computes the result of a part from x_k, x̃_k (with its graph) and the meta
                network. None appends the two maps as a ``PartOutput``.
        """
        self._records, self._measure = [], measure or _part_output
        try:
            yield self._records
        finally:
            self._records, self._measure = None, _part_output

    def record(self, frozen: Tensor, adapted: Tensor, meta_network: nn.Module) -> None:
        """Appends the result of one part to the list; outside of ``recording`` it does nothing."""
        if self._records is not None:
            self._records.append(self._measure(frozen, adapted, meta_network))

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Context manager in which the frozen backbone runs without the meta networks."""
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
