"""A method around another one: the inner method adapts, the outer one controls the inner one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Union

from torch import Tensor, nn

from ..layers.calibration import CalibratedOnFrames
from ..resume.saved_state import expect_keys, misfit
from .base import AdaptationMethod
from .build import build_method
from .gradient_adaptation import GradientAdaptation


class WrappedAdaptation(AdaptationMethod):
    """Delegates to an inner method with gradients, or to a wrapper around such a method.

    Args:
        segmentor: The source model.
        method: Config of the inner method, as for ``build_method``.

    Raises:
        ValueError: The inner method does not learn by gradients; see also ``build_method``.
    """

    def __init__(self, segmentor: nn.Module, method: dict) -> None:
        super().__init__(segmentor)
        self.inner = build_method(method, segmentor)
        if not isinstance(self.inner, (GradientAdaptation, WrappedAdaptation)):
            raise ValueError(
                f'expected an inner method that learns by gradients, such as tent or ecotta, got '
                f'{method.get("type")!r}'
            )
        self.views, self.autocast = self.inner.views, self.inner.autocast
        # The estimate belongs to the outer method, because the outer method is run.
        self.estimate, self.inner.estimate = self.inner.estimate, None

    @property
    def optimizer(self):
        """The inner method's optimizer."""
        return self.inner.optimizer

    @property
    def encoder(self):
        """The inner method's ``MetaEncoder``; None if it has no meta networks."""
        return getattr(self.inner, 'encoder', None)

    @property
    def engine(self):
        """The inner method's ``MemoryEngine``; None if it has none."""
        return getattr(self.inner, 'engine', None)

    @property
    def planned(self):
        """The inner method's ``PlannedStep``; None before its first frame, or without an engine."""
        return getattr(self.inner, 'planned', None)

    def use_layer_weights(self, layer_weights) -> None:
        """See ``GradientAdaptation``: for the innermost method."""
        self.inner.use_layer_weights(layer_weights)

    def use_autocast(self, name: Optional[str]) -> None:
        """See base class: for the inner method; None keeps the inner method's own option."""
        if name is not None:
            self.inner.use_autocast(name)
            self.autocast = name

    def use_memory_budget(self, budget: Union[str, int, float]) -> None:
        """See base class: for the inner method."""
        self.inner.use_memory_budget(budget)

    def use_views(self, number: int) -> None:
        """See base class: the inner method must support the views."""
        self.inner.use_views(number)
        self.views = number

    def prepare(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        return self.inner.prepare(inputs, metas)

    @property
    def uses_clear_frames(self) -> bool:
        """See base class."""
        return self.inner.uses_clear_frames

    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """See base class."""
        self.inner.calibrate(frames)

    @property
    def calibrated_part(self) -> CalibratedOnFrames:
        """See base class."""
        return self.inner.calibrated_part

    def begin_frame(self) -> None:
        """See base class."""
        self.inner.last_step = self.last_step
        self.inner.begin_frame()

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        logits = self.inner.propose(inputs, metas)
        self.learned_from = self.inner.learned_from
        return logits

    def update(self) -> None:
        """See base class."""
        self.inner.update()

    def discard(self) -> None:
        """See base class."""
        super().discard()
        self.inner.discard()

    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        return self.inner.predict(inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        return self.inner.predict_frame(inputs, metas)

    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """See base class."""
        return self.inner.predict_reference(inputs, metas)

    def fallbacks(self) -> list[str]:
        """See base class."""
        return self.inner.fallbacks()

    def other_views(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """See base class."""
        self.inner.views = self.views
        return self.inner.other_views(inputs, metas)

    def with_views(self, logits: Tensor, others: Tensor) -> Tensor:
        """See base class."""
        return self.inner.with_views(logits, others)

    @contextmanager
    def adaptation_disabled(self) -> Iterator[None]:
        """See base class."""
        with super().adaptation_disabled(), self.inner.adaptation_disabled():
            yield

    def set_reset_point(self) -> None:
        """See base class."""
        self.inner.set_reset_point()

    def adaptable_parameters(self) -> dict[str, nn.Parameter]:
        """See base class."""
        return self.inner.adaptable_parameters()

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class."""
        return self.inner.adapter_parameters()

    def optimizer_state(self) -> dict:
        """See base class."""
        return self.inner.optimizer_state()

    def learned_tensors(self) -> dict[str, Tensor]:
        """See base class: the inner method's; a subclass adds its own."""
        return self.inner.learned_tensors()

    def method_state(self) -> dict:
        """See base class: the inner method's, and the outer one's under ``'outer'``.

        If the inner method wraps another one, the inner ``'outer'`` is stored there as ``'inner'``.
        """
        state, outer = self.inner.method_state(), self.outer_state()
        if 'outer' in state:
            outer['inner'] = state['outer']
        return {**state, 'outer': outer}

    def state_keys(self) -> set[str]:
        """See base class."""
        return self.inner.state_keys() | {'outer'}

    def check_method_state(self, state: dict) -> None:
        """See base class."""
        expect_keys(state, self.state_keys(), 'the state')
        own = self.outer_state()
        nested = isinstance(self.inner, WrappedAdaptation)
        expect_keys(state['outer'], own.keys() | ({'inner'} if nested else set()), "'outer'")
        inner, outer = self._parted(state)
        for name, value in own.items():
            saved = outer[name]
            same = type(saved) is type(value) and (
                not isinstance(value, Tensor) or saved.shape == value.shape
            )
            if not same:
                raise misfit(f'{name!r} has another kind or shape')
        self.inner.check_method_state(inner)

    def take_method_state(self, state: dict) -> None:
        """See base class."""
        inner, outer = self._parted(state)
        self.inner.take_method_state(inner)
        self.load_outer_state(outer)

    def _parted(self, state: dict) -> tuple[dict, dict]:
        """Splits a state into the inner method's state and the outer method's own."""
        state, outer = dict(state), dict(state['outer'])
        del state['outer']
        if isinstance(self.inner, WrappedAdaptation):
            state['outer'] = outer.pop('inner')
        return state, outer

    def outer_state(self) -> dict[str, Any]:
        """The outer method's own state: copies of tensors, numbers, strings."""
        return {}

    def load_outer_state(self, state: dict[str, Any]) -> None:
        """Restores a state from ``outer_state``."""

    def reset(self) -> None:
        """See base class."""
        self.inner.reset()
