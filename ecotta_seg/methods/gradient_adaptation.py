"""The base class of methods that take one optimizer step per frame."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Union

import mmengine.optim  # noqa: F401  (registers torch's optimizers)
import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from ..inference.windows import forward_windows
from ..memory.budget.recompute_plan import RecomputePlanner
from ..memory.lean import plain_autograd
from ..memory.lean.recompute import recomputing
from ..resume.saved_state import check_optimizer_state, expect_keys, tell_weight_decay
from .base import AdaptationMethod
from .layer_weights import LayerWeights
from .step_parts import PeriodicReset, StepPart


def _copied(value):
    """Deep-copies nested dicts and lists of tensors, such as an optimizer's state dict."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value


class GradientAdaptation(AdaptationMethod):
    """A method that takes one optimizer step per frame; the loss depends on the frame's prediction.

    The same optimizer serves the whole stream and does not know when a condition ends.

    Args:
        segmentor: See base class. A subclass sets ``requires_grad`` before it calls ``start``.
        optimizer: A config of a torch optimizer, e.g. ``dict(type='SGD', lr=5e-4, momentum=0.9)``.

    Attributes:
        parts: Optional parts of the step (``StepPart``), by the name of the option that adds the
            part.
        layer_weights: The ``LayerWeights`` of LAW, or None, see ``use_layer_weights``. The method
            calls their ``see(logits, share)`` for each window before ``learn``, and their
            ``weigh(optimizer)`` before each optimizer step. With layer weights the optimizer has
            one group for each parameter.
        planner: Plans steps for a memory budget; None without a budget.
        planned: The ``PlannedStep`` of the latest frame; None without a budget.
        lean: Whether steps run under ``LeanAutograd``, which saves memory. False is for
            comparisons.

    Raises:
        TypeError: ``optimizer`` is not a dictionary.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        if not isinstance(optimizer, dict):
            raise TypeError(
                'expected the config of a torch optimizer, e.g. '
                f"dict(type='SGD', lr=5e-4, momentum=0.9), got {optimizer!r}"
            )
        super().__init__(segmentor)
        self.optimizer_config = dict(optimizer)
        self.parts: dict[str, StepPart] = {}
        self.layer_weights: Optional[LayerWeights] = None
        self.planner = self.planned = None
        self.lean = True

    def start(self) -> None:
        """Builds the optimizer and stores the state that ``reset`` restores."""
        parameters = self.adaptable_parameters()
        self._initial = {name: p.detach().clone() for name, p in parameters.items()}
        self.optimizer = self.build_optimizer(list(parameters.values()))

    def learned_beside(self) -> dict[str, dict[str, Tensor]]:
        """Learned tensors that are neither parameters nor buffers, by prefix and then by name."""
        return {}

    def learned_tensors(self) -> dict[str, Tensor]:
        """See base class; includes ``learned_beside``."""
        tensors = super().learned_tensors()
        for prefix, beside in self.learned_beside().items():
            tensors.update({f'{prefix}.{name}': tensor for name, tensor in beside.items()})
        return tensors

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        """Also moves the initial parameters, ``learned_beside`` and the optimizer's state."""
        super()._apply(fn, recurse)
        for tensors in (self._initial, *self.learned_beside().values()):
            tensors.update({name: fn(tensor) for name, tensor in tensors.items()})
        if self.optimizer.state:
            # Loading a state dict moves the state to the parameters' device.
            self.optimizer.load_state_dict(self.optimizer.state_dict())
        for part in self.parts.values():
            part.to(next(self.parameters()).device)
        return self

    @torch.no_grad()
    def set_reset_point(self) -> None:
        """See base class."""
        for name, parameter in self.adaptable_parameters().items():
            self._initial[name].copy_(parameter)

    def use_reset_every(self, frames: int) -> None:
        """See base class."""
        self.parts['reset_every'] = PeriodicReset(frames)

    def use_layer_weights(self, exponent: float = 1.0) -> None:
        """See base class.

        Raises:
            ValueError: ``exponent`` is not above 0, or the method has a memory budget.
        """
        self._refuse_budget('layer-wise learning weights')
        parameters = list(self.adaptable_parameters().values())
        self.layer_weights = self.parts['layer_weights'] = LayerWeights(parameters, exponent)
        self.optimizer = self.build_optimizer(parameters)
        self.layer_weights.rates = [group['lr'] for group in self.optimizer.param_groups]

    def build_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Builds a new optimizer from the config.

        Raises:
            ValueError: The config does not fit.
        """
        name = self.optimizer_config.get('type')
        if self.layer_weights is not None:
            parameters = [dict(params=[parameter]) for parameter in parameters]
        try:
            optimizer = OPTIMIZERS.build(dict(self.optimizer_config, params=parameters))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'the optimizer {name!r} could not be built from {self.optimizer_config}: '
                f'{str(error).splitlines()[-1]}; expected a torch optimizer and its options, e.g. '
                "dict(type='SGD', lr=5e-4, momentum=0.9)"
            ) from None
        tell_weight_decay(optimizer)
        return optimizer

    @abstractmethod
    def learn(self, logits: Tensor, share: float) -> None:
        """Accumulates the gradients of one window and records the losses in ``last_step``.

        Args:
            logits: (N, classes, h, w) with graph, without padding.
            share: Weight of the window; the shares of a frame sum to 1.
        """

    def show(self, logits: Tensor, share: float) -> None:
        """Passes one window's logits to the layer weights, if any, and to ``learn``."""
        if self.layer_weights is not None:
            self.layer_weights.see(logits, share)
        self.learn(logits, share)

    def begin_frame(self) -> None:
        """See base class. Calls ``begin_frame`` of each part."""
        for part in self.parts.values():
            part.begin_frame(self)

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. The proposed update consists of the gradients of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.within_budget(inputs, metas), torch.enable_grad():
            self.learned_from = forward_windows(self.segmentor, inputs, metas, self.show)
        return self.learned_from

    def discard(self) -> None:
        """See base class. Also frees the gradients."""
        super().discard()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def has_budget(self) -> bool:
        """Whether steps have to keep a memory budget."""
        return self.planner is not None and self.planner.budget is not None

    def _refuse_budget(self, other: str) -> None:
        if self.has_budget:
            raise ValueError(
                'a memory_budget is planned for one view a frame, in the precision of the '
                'parameters, without layer-wise learning weights: leave out memory_budget or '
                f'{other}'
            )

    def use_views(self, number: int) -> None:
        """See base class.

        Raises:
            ValueError: There is a memory budget and more than one view; see also base class.
        """
        super().use_views(number)
        if number > 1:
            self._refuse_budget(f'{number} views')

    def use_autocast(self, name: Optional[str]) -> None:
        """See base class.

        Raises:
            ValueError: There is a memory budget; see also base class.
        """
        if name is not None:
            self._refuse_budget(f'autocast={name!r}')
        super().use_autocast(name)

    def use_memory_budget(self, budget: Union[str, int, float]) -> None:
        """See base class. A step recomputes as many modules of the model as the budget needs."""
        self.planner = RecomputePlanner(self, budget)
        for other, there in (
            (f'{self.views} views', self.views > 1),
            (f'autocast={self.autocast!r}', self.autocast is not None),
            ('layer-wise learning weights', self.layer_weights is not None),
        ):
            if there:
                self._refuse_budget(other)

    @contextmanager
    def within_budget(self, inputs: Tensor, metas: list[dict]) -> Iterator[None]:
        """Context manager in which a step on these frames keeps the memory budget, if there is one.

        Raises:
            BudgetError: No plan meets the budget.
        """
        modules = []
        if isinstance(self.planner, RecomputePlanner):
            self.planned = self.planner.plan_for(inputs, metas)
            modules = [self.segmentor.get_submodule(n) for n in self.planned.plan.modules]
        with plain_autograd(not self.lean), recomputing(modules):
            yield

    def update(self) -> None:
        """See base class. Takes the optimizer step if there are gradients."""
        if any(p.grad is not None for p in self.adaptable_parameters().values()):
            if self.layer_weights is not None:
                self.layer_weights.weigh(self.optimizer)
            moves = self.moves()
            self.optimizer.step()
            self.after_update()
            self.last_step.updated = moves

    def moves(self) -> bool:
        """Whether the next optimizer step changes a parameter.

        If all gradients and all momenta of earlier frames are 0, no parameter changes.
        """
        groups = [group for group in self.optimizer.param_groups if group['lr'] != 0]
        for parameter in (p for group in groups for p in group['params']):
            state = self.optimizer.state.get(parameter, {}).values()
            momenta = [t for t in state if isinstance(t, Tensor) and t.shape == parameter.shape]
            for tensor in (parameter.grad, *momenta):
                if tensor is not None and bool(tensor.any()):
                    return True
        return False

    def after_update(self) -> None:
        """Called right after each parameter update."""

    def optimizer_state(self) -> dict:
        """See base class."""
        return dict(self.optimizer.state)

    def method_state(self) -> dict:
        """See base class; includes the optimizer's momenta and the parts."""
        state = {**super().method_state(), 'optimizer': _copied(self.optimizer.state_dict())}
        if self.parts:
            state['parts'] = {name: part.state_dict() for name, part in self.parts.items()}
        return state

    def state_keys(self) -> set[str]:
        """See base class."""
        return super().state_keys() | {'optimizer'} | ({'parts'} if self.parts else set())

    def check_method_state(self, state: dict) -> None:
        """See base class."""
        super().check_method_state(state)
        check_optimizer_state(self.optimizer.state_dict(), state['optimizer'])
        if self.parts:
            expect_keys(state['parts'], self.parts, "'parts'")
        for name, part in self.parts.items():
            part.check_state(state['parts'][name], name)

    def take_method_state(self, state: dict) -> None:
        """See base class."""
        super().take_method_state(state)
        # torch keeps the given tensors without a copy: copy them, so that a state can be loaded
        # twice.
        self.optimizer.load_state_dict(_copied(state['optimizer']))
        for name, part in self.parts.items():
            part.load_state_dict(state['parts'][name])

    @contextmanager
    def using(self, tensors: dict[str, Tensor]) -> Iterator[None]:
        """Context manager in which ``tensors`` replace the adaptable parameters, without a copy."""
        parameters = self.adaptable_parameters()
        learned = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = tensors[name]
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = learned[name]

    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """See base class."""
        with self.using(self._initial):
            return self.predict(inputs, metas)

    def reset(self) -> None:
        """See base class. Restores the initial parameters and clears the optimizer's momenta."""
        parameters = self.adaptable_parameters()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self._initial[name])
        self.optimizer = self.build_optimizer(list(parameters.values()))
        for part in self.parts.values():
            part.forget()
