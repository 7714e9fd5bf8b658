"""A frozen backbone, divided into parts, with a meta network on each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Optional

from torch import Tensor, nn

from .meta_network import MetaNetwork
from .partition import check_split
from .units import EncoderUnits, find_units


class PartOutput(NamedTuple):
    """What one part gave in one forward.

    Attributes:
        frozen: x_k, (N, C, H, W), the frozen part's own output.
        adapted: x̃_k, the same shape, after the meta network.
    """

    frozen: Tensor
    adapted: Tensor


@dataclass(frozen=True)
class Part:
    """Units ``start`` (included) to ``stop`` (excluded) of the encoder."""

    start: int
    stop: int


class AdaptedEncoder(nn.Module):
    """Takes a backbone's place in a segmentor and gives the same outputs, adapted.

    Args:
        backbone: The backbone to wrap. Its parameters are frozen here (``requires_grad=False``);
            whoever wraps it decides on its norms' mode.
        num_parts: K.
        split: Units per part; None for the paper's proportions.
        **meta_network: Options of ``MetaNetwork``.

    Raises:
        TypeError: The backbone is of an unknown kind, or an option is unknown.
        ValueError: The split does not add up, or an option has a wrong value.

    Attributes:
        kind: How meta networks and parts are connected; adapters of another kind do not fit.
    """

    kind = 'inserted'

    def __init__(
        self,
        backbone: nn.Module,
        num_parts: int = 4,
        split: Optional[Sequence[int]] = None,
        **meta_network,
    ) -> None:
        super().__init__()
        units = find_units(backbone)
        self.split = check_split(split, num_parts, len(units))
        self.backbone = backbone.requires_grad_(False)
        self.units: EncoderUnits = units
        self.meta_networks = nn.ModuleList()
        self.parts: list[Part] = []
        start = 0
        for size in self.split:
            part = Part(start, start + size)
            shapes = units.shapes[part.start : part.stop]
            self.parts.append(part)
            self.meta_networks.append(
                MetaNetwork(
                    in_channels=shapes[0].in_channels,
                    out_channels=shapes[-1].out_channels,
                    stride=prod(shape.stride for shape in shapes),
                    **meta_network,
                )
            )
            start = part.stop
        self._records: Optional[list[PartOutput]] = None
        self._bypassed = False

    @contextmanager
    def recording(self) -> Iterator[list[PartOutput]]:
        """Inside, each forward appends its K ``PartOutput``s, with their graph, to the list."""
        self._records = []
        try:
            yield self._records
        finally:
            self._records = None

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Inside, the meta networks are left out: the frozen backbone alone."""
        self._bypassed = True
        try:
            yield
        finally:
            self._bypassed = False

    def run_part(self, index: int, x: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        """Runs the frozen units of part ``index``.

        Stage ends *inside* the part are dealt with here and their outputs put into ``outputs``;
        one at the part's own end is left to ``leave_part``, after the meta network.

        Args:
            index: The part, from 0.
            x: x̃_{k-1}, (N, C, H, W).
            outputs: Filled with the stage outputs met on the way, by stage index.

        Returns:
            x_k, (N, C', H', W').
        """
        part = self.parts[index]
        for unit in range(part.start, part.stop):
            x = self.units.run(unit, x)
            if unit + 1 < part.stop:
                x = self._leave_unit(unit, x, outputs)
        return x

    def leave_part(self, index: int, x: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        """Deals with a stage that ends where part ``index`` ends; gives the next part's input."""
        return self._leave_unit(self.parts[index].stop - 1, x, outputs)

    def _leave_unit(self, unit: int, x: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        shape = self.units.shapes[unit]
        if shape.ends_stage:
            x = self.units.leave_stage(shape.stage, x)
            if shape.stage in self.units.out_stages:
                outputs[shape.stage] = x
        return x

    def forward(self, image: Tensor):
        """Encodes frames.

        Args:
            image: (N, 3, H, W) float, normalised as the segmentor's data preprocessor does.

        Returns:
            The stage outputs, packed as the wrapped backbone packs them.
        """
        outputs: dict[int, Tensor] = {}
        x = self.units.stem(image)
        for index, meta_network in enumerate(self.meta_networks):
            part_input = x
            x = self.run_part(index, part_input, outputs)
            if not self._bypassed:
                frozen = x
                x = meta_network(frozen, part_input)
                if self._records is not None:
                    self._records.append(PartOutput(frozen, x))
            x = self.leave_part(index, x, outputs)
        return self.units.collect([outputs[stage] for stage in sorted(outputs)])

    def train(self, mode: bool = True) -> 'AdaptedEncoder':
        """Sets the meta networks' mode; the frozen backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def attach_meta_networks(
    segmentor: nn.Module, encoder: type[AdaptedEncoder] = AdaptedEncoder, **options
) -> AdaptedEncoder:
    """Puts an ``AdaptedEncoder`` in the place of ``segmentor.backbone``.

    Args:
        segmentor: An mmseg ``EncoderDecoder``. All its own parameters are frozen.
        encoder: ``AdaptedEncoder``, or ``LadderEncoder`` for meta networks beside the backbone.
        **options: See there.

    Returns:
        The encoder, now ``segmentor.backbone``; its ``meta_networks`` are what is trained.

    Raises:
        TypeError: The segmentor's backbone is of an unknown kind, or an option is unknown.
        ValueError: Meta networks are attached already, or an option has a wrong value.
    """
    if isinstance(segmentor.backbone, AdaptedEncoder):
        raise ValueError(
            'the segmentor has meta networks already: attach them once, to the source model'
        )
    segmentor.requires_grad_(False)
    segmentor.backbone = encoder(segmentor.backbone, **options)
    return segmentor.backbone
