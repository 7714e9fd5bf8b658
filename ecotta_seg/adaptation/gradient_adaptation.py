"""What methods share that take an optimizer step a frame."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Union

import mmengine.optim  # noqa: F401  (registers torch's optimizers)
import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from ..lean import plain_autograd
from ..lean.recompute import recomputing
from .base import AdaptationMethod
from .recompute_plan import RecomputePlanner
from .saved_state import check_optimizer_state, tell_weight_decay
from .windows import forward_windows


def _copied(value):
    """A deep copy of nested dicts and lists of tensors, as an optimizer's state dict is."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value


class GradientAdaptation(AdaptationMethod):
    """A method that takes one optimizer step a frame, on a loss of its own prediction.

    The optimizer lives through the whole stream: it is never told where a condition ends.

    Args:
        segmentor: See base class; the subclass has set ``requires_grad`` before ``start`` is
            called.
        optimizer: A config of a torch optimizer, e.g. ``dict(type='SGD', lr=5e-4, momentum=0.9)``.

    Attributes:
        watcher: Has ``see(logits, share)``, called with each window's logits, graph and all,
            before they are learned from, ``weigh(optimizer)``, called before each step of the
            optimizer, which then has a group for each parameter, and ``forget()``, called when
            the method is reset. Layer-wise learning weights sit here, see ``watch_by``. None for
            no watcher.
        planner: Plans steps for a memory budget; None without a budget.
        planned: The ``PlannedStep`` of the latest frame; None without a budget.
        lean: Whether steps run under ``LeanAutograd``. False is for comparisons.

    Raises:
        TypeError: ``optimizer`` is no dictionary.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        if not isinstance(optimizer, dict):
            raise TypeError(
                'expected the config of a torch optimizer, e.g. '
                f"dict(type='SGD', lr=5e-4, momentum=0.9), got {optimizer!r}"
            )
        super().__init__(segmentor)
        self.optimizer_config = dict(optimizer)
        self.watcher = None
        self.planner = self.planned = None
        self.lean = True

    def start(self) -> None:
        """Makes the optimizer and remembers the state that ``reset`` goes back to."""
        parameters = self.adaptable_parameters()
        self._initial = {name: p.detach().clone() for name, p in parameters.items()}
        self.optimizer = self.build_optimizer(list(parameters.values()))

    def learned_beside(self) -> dict[str, dict[str, Tensor]]:
        """What is learned beside parameters and buffers: by a prefix, then by name."""
        return {}

    def learned_tensors(self) -> dict[str, Tensor]:
        """See base class: what is learned beside parameters and buffers with them."""
        tensors = super().learned_tensors()
        for prefix, beside in self.learned_beside().items():
            tensors.update({f'{prefix}.{name}': tensor for name, tensor in beside.items()})
        return tensors

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        """Moves (``to``, ``cuda``) what is no parameter or buffer as well: the start, what is
        learned beside, the optimizer's state."""
        super()._apply(fn, recurse)
        for tensors in (self._initial, *self.learned_beside().values()):
            tensors.update({name: fn(tensor) for name, tensor in tensors.items()})
        if self.optimizer.state:
            # Torch puts a state where the parameters are when it takes one over.
            self.optimizer.load_state_dict(self.optimizer.state_dict())
        return self

    @torch.no_grad()
    def start_from_here(self) -> None:
        """See base class."""
        for name, parameter in self.adaptable_parameters().items():
            self._initial[name].copy_(parameter)

    def watch_by(self, watcher) -> None:
        """Sets the watcher; after ``start``, before the first frame.

        Raises:
            ValueError: There is one already, or the method cannot be watched.
        """
        if self.watcher is not None:
            raise ValueError(
                'expected one law around a method, got one around another, and both would set '
                'the same learning rates: leave out one of them'
            )
        self._refuse_budget('layer-wise learning weights')
        self.watcher = watcher
        self.optimizer = self.build_optimizer(list(self.adaptable_parameters().values()))

    def build_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """A new optimizer as the config describes it.

        Raises:
            ValueError: It cannot be built.
        """
        name = self.optimizer_config.get('type')
        if self.watcher is not None:
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
        """Accumulates gradients from one window and notes losses in ``last_step``.

        Args:
            logits: (N, classes, h, w) with graph, without the padding.
            share: Weight of the window; the shares of a frame sum to 1.
        """

    def show(self, logits: Tensor, share: float) -> None:
        """Shows one window's logits to the watcher, where there is one, and learns from them."""
        if self.watcher is not None:
            self.watcher.see(logits, share)
        self.learn(logits, share)

    def adapt(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.within_budget(inputs, metas):
            with torch.enable_grad():
                logits = forward_windows(self.segmentor, inputs, metas, self.show)
            if self.gate is None or self.gate(logits):
                self.update()
        self.optimizer.zero_grad(set_to_none=True)
        return logits

    @property
    def has_budget(self) -> bool:
        """Whether steps have to keep a memory budget."""
        return self.planner is not None and self.planner.budget is not None

    def _refuse_budget(self, other: str) -> None:
        if self.has_budget:
            raise ValueError(
                'a memory_budget is planned for one view a frame, in the precision of the '
                f'parameters, without layer-wise learning weights: leave out one of it and {other}'
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
        """See base class: modules of the model are recomputed until a step fits."""
        self.planner = RecomputePlanner(self, budget)
        for other, there in (
            (f'{self.views} views', self.views > 1),
            (f'autocast={self.autocast!r}', self.autocast is not None),
            ('layer-wise learning weights', self.watcher is not None),
        ):
            if there:
                self._refuse_budget(other)

    @contextmanager
    def within_budget(self, inputs: Tensor, metas: list[dict]) -> Iterator[None]:
        """Inside, a step on these frames keeps the memory budget; without a budget nothing is done.

        Raises:
            BudgetError: The budget cannot be met.
        """
        modules = []
        if isinstance(self.planner, RecomputePlanner):
            self.planned = self.planner.plan_for(inputs, metas)
            modules = [self.segmentor.get_submodule(n) for n in self.planned.plan.modules]
        with plain_autograd(not self.lean), recomputing(modules):
            yield

    def update(self) -> None:
        """Takes the optimizer step if there are gradients, and lets go of them."""
        if any(p.grad is not None for p in self.adaptable_parameters().values()):
            if self.watcher is not None:
                self.watcher.weigh(self.optimizer)
            moves = self.moves()
            self.optimizer.step()
            self.after_update()
            self.last_step.updated = moves
        self.optimizer.zero_grad(set_to_none=True)

    def moves(self) -> bool:
        """Whether the coming step of the optimizer changes a parameter.

        Gradients of 0 change none, if there is no momentum of earlier frames either.
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
        """Called when the parameters have just been changed."""

    def optimizer_state(self) -> dict:
        """See base class."""
        return dict(self.optimizer.state)

    def method_state(self) -> dict:
        """See base class: the optimizer's momenta with it."""
        return {**super().method_state(), 'optimizer': _copied(self.optimizer.state_dict())}

    def state_keys(self) -> set[str]:
        """See base class."""
        return super().state_keys() | {'optimizer'}

    def check_method_state(self, state: dict) -> None:
        """See base class."""
        super().check_method_state(state)
        check_optimizer_state(self.optimizer.state_dict(), state['optimizer'])

    def take_method_state(self, state: dict) -> None:
        """See base class."""
        super().take_method_state(state)
        # torch takes the tensors themselves: a copy, so that a state can be gone back to twice.
        self.optimizer.load_state_dict(_copied(state['optimizer']))

    @contextmanager
    def using(self, tensors: dict[str, Tensor]) -> Iterator[None]:
        """Inside, the adaptable parameters are those of ``tensors``: exchanged, not copied."""
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
        """See base class: parameters as at the start, the optimizer forgets its momenta."""
        parameters = self.adaptable_parameters()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self._initial[name])
        self.optimizer = self.build_optimizer(list(parameters.values()))
        if self.watcher is not None:
            self.watcher.forget()
