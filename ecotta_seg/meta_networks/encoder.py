"""A frozen backbone, divided into parts, with a meta network on each."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Optional

from torch import Tensor, nn

from ..layers.calibrated_features import CalibratedFeatures
from .meta_encoder import MetaEncoder
from .meta_network import MetaNetwork
from .partition import check_split
from .units import EncoderUnits, find_units


@dataclass(frozen=True)
class Part:
    """One part of the encoder: the units from ``start`` (included) to ``stop`` (excluded)."""

    start: int
    stop: int


class AdaptedEncoder(MetaEncoder):
    """Replaces a backbone in a segmentor and returns the same outputs, adapted.

    Args:
        backbone: See base class; an ``EncoderUnits`` must describe this backbone.
        num_parts: K, the number of parts and of meta networks.
        split: Units per part; None for the paper's proportions.
        layer: The class of a meta network.
        **meta_network: Options of this class.

    Raises:
        TypeError: The backbone is of an unknown kind, or an option is unknown.
        ValueError: The split does not add up, or an option has a wrong value.
    """

    kind = 'inserted'

    def __init__(
        self,
        backbone: nn.Module,
        num_parts: int = 4,
        split: Optional[Sequence[int]] = None,
        layer: type[nn.Module] = MetaNetwork,
        **meta_network,
    ) -> None:
        units = find_units(backbone)
        split = check_split(split, num_parts, len(units))
        super().__init__(backbone)
        self.split = split
        self.units: EncoderUnits = units
        self.parts: list[Part] = []
        start = 0
        for size in self.split:
            part = Part(start, start + size)
            shapes = units.shapes[part.start : part.stop]
            self.parts.append(part)
            self.meta_networks.append(
                layer(
                    in_channels=shapes[0].in_channels,
                    out_channels=shapes[-1].out_channels,
                    stride=prod(shape.stride for shape in shapes),
                    **meta_network,
                )
            )
            start = part.stop

    def align_features(self, **options) -> list[CalibratedFeatures]:
        """See base class. An aligner runs after each frozen part, before its meta network."""
        for part in self.parts:
            channels = self.units.shapes[part.stop - 1].out_channels
            self.aligners.append(CalibratedFeatures(channels, **options))
        return list(self.aligners)

    def run_part(self, index: int, x: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        """Runs the frozen units of part ``index``.

        If a stage ends *inside* the part, this method puts the stage's output into ``outputs``. If
        a stage ends together with the part, ``leave_part`` stores its output, after the meta
        network.

        Args:
            index: The part, from 0.
            x: x̃_{k-1}, (N, C, H, W).
            outputs: A dictionary from stage index to output. The method adds the outputs of stages
                that end inside the part.

        Returns:
            x_k, (N, C', H', W'). If there are aligners, the part's aligner has changed this map.
        """
        part = self.parts[index]
        for unit in range(part.start, part.stop):
            x = self.units.run(unit, x)
            if unit + 1 < part.stop:
                x = self._leave_unit(unit, x, outputs)
        return self.aligners[index](x) if self.aligners else x

    def leave_part(self, index: int, x: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        """Ends the stage if one ends with part ``index``; returns the next part's input."""
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
                self.record(frozen, x, meta_network)
            x = self.leave_part(index, x, outputs)
        return self.units.collect([outputs[stage] for stage in sorted(outputs)])
