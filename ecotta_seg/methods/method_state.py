"""Saves and restores the state of a method: tensors, counters and other values."""

import torch
from torch import Tensor

from ..resume.saved_state import expect_keys, misfit


class MethodState:
    """A mixin for adaptation methods; with it, a method saves and restores its state."""

    def learned_tensors(self) -> dict[str, Tensor]:
        """All tensors that adaptation changes in place, by name; the tensors are not copies.

        These are the adaptable parameters and all buffers. A method that changes other tensors (a
        teacher's weights) adds them. ``method_state`` saves exactly these tensors.
        """
        tensors = {f'parameter.{name}': p for name, p in self.adaptable_parameters().items()}
        tensors.update({f'buffer.{name}': b for name, b in self.named_buffers()})
        return tensors

    def method_state(self) -> dict:
        """Returns copies of all state that later steps depend on: plain tensors, numbers, strings.

        ``torch.load`` can read a file of this state with ``weights_only=True``. A method with state
        beyond its tensors (counters, generators) adds a key of its own here and in ``state_keys``,
        ``check_method_state`` and ``take_method_state``.
        """
        return {'tensors': {k: t.detach().clone() for k, t in self.learned_tensors().items()}}

    def load_method_state(self, state: dict) -> None:
        """Restores a state from ``method_state``, bit for bit.

        Raises:
            ValueError: The state is of another method or model. Nothing has changed then.
        """
        self.check_method_state(state)
        self.take_method_state(state)

    def state_keys(self) -> set[str]:
        """The keys of ``method_state``."""
        return {'tensors'}

    def check_method_state(self, state: dict) -> None:
        """Checks whether a state fits, without changing anything.

        Raises:
            ValueError: The state is of another method or model.
        """
        if isinstance(state, dict) and 'outer' in state:
            raise misfit(
                'an earlier version of ecotta_seg saved it, in which `rdumb` and `law` were '
                'methods around another method'
            )
        expect_keys(state, self.state_keys(), 'the state')
        tensors, saved = self.learned_tensors(), state['tensors']
        expect_keys(saved, tensors, 'its tensors')
        for name, tensor in tensors.items():
            if not isinstance(saved[name], Tensor) or saved[name].shape != tensor.shape:
                raise misfit(f'{name} has another shape')

    @torch.no_grad()
    def take_method_state(self, state: dict) -> None:
        """Restores a state that ``check_method_state`` has accepted."""
        for name, tensor in self.learned_tensors().items():
            tensor.copy_(state['tensors'][name])
