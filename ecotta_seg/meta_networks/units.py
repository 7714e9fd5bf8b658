"""Describes a backbone for the meta networks: its residual units, in order.

A backbone is described, not forked: an ``EncoderUnits`` calls the backbone's *own* modules in
sequence. A new backbone needs one new file with a subclass and a
``@register_units(BackboneClass)`` line.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from torch import Tensor, nn

from ..memory.frozen_graph.operator import AutogradOperator, FrozenOperator


@dataclass(frozen=True)
class UnitShape:
    """The geometry of one unit: a residual block or a transformer layer.

    Attributes:
        in_channels: Channels of the feature map that enters the unit.
        out_channels: Channels of the feature map that leaves it.
        stride: Spatial stride; the unit maps height H to ceil(H / stride), width likewise.
        stage: Index of the backbone stage that the unit belongs to.
        ends_stage: Whether the unit is the last of its stage.
    """

    in_channels: int
    out_channels: int
    stride: int
    stage: int
    ends_stage: bool


class EncoderUnits(ABC):
    """A backbone as a stem, a sequence of units, and an operation at the end of each stage.

    ``stem``, then ``run`` for every unit in order, with ``leave_stage`` after the last unit of each
    stage, gives the same result as ``backbone.forward``, bit for bit. All feature maps are
    (N, C, H, W).

    Args:
        backbone: The mmseg backbone. This class keeps a reference and never copies or changes it.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.shapes: Sequence[UnitShape] = tuple(self.describe())

    def __len__(self) -> int:
        return len(self.shapes)

    @abstractmethod
    def describe(self) -> list[UnitShape]:
        """The geometry of each unit, first to last."""

    @abstractmethod
    def stem(self, image: Tensor) -> Tensor:
        """Turns the (N, 3, H, W) image into the input of unit 0."""

    @abstractmethod
    def run(self, index: int, x: Tensor) -> Tensor:
        """Runs unit ``index`` on its (N, C_in, H, W) input; returns (N, C_out, H', W')."""

    def leave_stage(self, stage: int, x: Tensor) -> Tensor:
        """The backbone's operation on (N, C, H, W) features at the end of a stage.

        The result is both the stage's output (if the backbone returns it) and the input of the
        next unit.
        """
        return x

    def operator(self, index: int) -> FrozenOperator:
        """Returns unit ``index`` as an operator of the memory engine, bit for bit equal to ``run``.

        The base class uses plain autograd; a subclass that knows its unit's modules can return
        an operator that needs less memory.
        """
        return AutogradOperator(lambda x: self.run(index, x), f'block {index + 1}')

    def stage_operator(self, stage: int) -> Optional[FrozenOperator]:
        """``leave_stage`` as an operator; None if it does nothing."""
        if type(self).leave_stage is EncoderUnits.leave_stage:
            return None
        return AutogradOperator(lambda x: self.leave_stage(stage, x), f'end of stage {stage + 1}')

    @property
    def out_stages(self) -> tuple[int, ...]:
        """The stages whose outputs the backbone returns."""
        return tuple(self.backbone.out_indices)

    def collect(self, outputs: list[Tensor]):
        """Packs the stage outputs as ``backbone.forward`` does."""
        return tuple(outputs)


_UNITS: dict[type, type[EncoderUnits]] = {}


def register_units(backbone_class: type) -> Callable[[type], type]:
    """Class decorator: the decorated ``EncoderUnits`` describes ``backbone_class``."""

    def register(units_class: type) -> type:
        _UNITS[backbone_class] = units_class
        return units_class

    return register


def is_described(backbone: nn.Module) -> bool:
    """Whether ``find_units`` finds a description of a backbone."""
    return _units_class(backbone) is not None


def _units_class(backbone: nn.Module) -> Optional[type[EncoderUnits]]:
    for backbone_class, units_class in _UNITS.items():
        if (
            isinstance(backbone, backbone_class)
            and type(backbone).forward is backbone_class.forward
        ):
            return units_class
    return None


def find_units(backbone: nn.Module) -> EncoderUnits:
    """Finds the description of a backbone.

    A subclass of a known backbone is accepted only if it inherits ``forward``. If the subclass
    overrides ``forward``, the description could be wrong.

    Raises:
        TypeError: No description fits the backbone.
    """
    units_class = _units_class(backbone)
    if units_class is not None:
        return units_class(backbone)
    known = ', '.join(sorted(cls.__name__ for cls in _UNITS))
    raise TypeError(
        f'meta networks cannot be attached to a {type(backbone).__name__}: known backbones are '
        f'{known} and subclasses that keep their forward; describe a new one with an EncoderUnits '
        'subclass and @register_units'
    )
