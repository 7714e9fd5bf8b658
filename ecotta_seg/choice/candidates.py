"""The candidates of the search: methods, each with values of its most important setting."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from ..benchmark.runs import MethodSpec
from ..config.method import with_method

# The learning rates in the search, as multiples of the rate in the method's preset.
_FACTORS = (1 / 30, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
METHODS = (
    *('batch_norm_statistics', 'batch_norm_blend', 'batch_norm_calibrated', 'tent', 'eata', 'sar'),
    *('rdumb', 'ecotta', 'ecotta_plus'),
)
"""Those that are tried by default: all but the ones that take several times as long."""


@dataclass(frozen=True)
class Choices:
    """A method, and the values of its setting that the search may try.

    Attributes:
        name: A file in ``configs/_base_/adaptation`` without its ``.py``.
        key: Name of the setting below ``adaptation``, such as 'optimizer.lr'; None if no setting is
            searched.
        values: The values to try, in ascending order; (None,) without a setting.
        preset: Index in ``values`` of the value that the method's preset has.
    """

    name: str
    key: Optional[str] = None
    values: tuple[Optional[float], ...] = (None,)
    preset: int = 0


@dataclass(frozen=True)
class Candidate:
    """A method with one value of its setting.

    Attributes:
        name, key: See ``Choices``.
        value: Value of the setting; None if no setting is searched.
    """

    name: str
    key: Optional[str] = None
    value: Optional[float] = None

    def __str__(self) -> str:
        return self.name + (f', {self.key} {self.value:g}' if self.key else '')

    @property
    def method(self) -> MethodSpec:
        """The candidate as a method of the benchmark."""
        if self.key is None:
            return MethodSpec(self.name, self.name)
        option = f'{self.key}={self.value:g}'
        return MethodSpec(f'{self.name}:{option}', self.name, (option,))


def candidate_methods(cfg: Config, names: Sequence[str], configs: Path) -> list[Choices]:
    """Returns the methods with the values to try for the model of a config.

    Args:
        cfg: Config of the model.
        names: Names of the methods.
        configs: The folder ``configs``.

    Raises:
        ValueError: A method is unknown or named twice.
    """
    if len(set(names)) != len(names):
        raise ValueError(f'expected each of --methods once, got {" ".join(names)}')
    return [_choices(name, adaptation_of(cfg, name, configs)) for name in names]


def adaptation_of(cfg: Config, name: str, configs: Path) -> dict[str, Any]:
    """The options of the method that ``--method NAME`` would set for the model of a config."""
    own = deepcopy(cfg)
    with_method(own, name, configs)
    return own.adaptation.to_dict()


def _choices(name: str, adaptation: Mapping) -> Choices:
    if name == 'batch_norm_blend':
        preset = adaptation.get('weight', 0.5)
        values = tuple(sorted({*_WEIGHTS, preset}))
        return Choices(name, 'weight', values, values.index(preset))
    rate = (adaptation.get('optimizer') or {}).get('lr')
    if not rate:
        return Choices(name)
    values = tuple(float(f'{rate * factor:.3g}') for factor in _FACTORS)
    return Choices(name, 'optimizer.lr', values, _FACTORS.index(1.0))
