"""Saves and loads the whole state of an adaptive segmentor: all that its next step depends on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..resume.random_state import random_state, set_random_state
from ..resume.run_identity import differences
from ..resume.saved_state import expect_keys, misfit

_KIND = 'adaptive segmentor'
_KEYS = (
    'kind', 'identity', 'method', 'start', 'guard', 'estimate', 'compute', 'watch', 'random',
    'frames', 'updates', 'events', 'lag', 'adapting',
)  # fmt: skip


def gather_state(segmentor: Any) -> dict:
    """Collects all that the next step depends on, as plain tensors, numbers and texts.

    Args:
        segmentor: An ``AdaptiveSegmentor`` between two steps.

    Returns:
        A dictionary for ``write_state``.
    """
    method = segmentor.method
    guard, estimate, checker = method.guard, method.estimate, segmentor.frame_checker
    budget = method.compute_budget
    return {
        'kind': _KIND,
        'identity': dict(segmentor.identity),
        'method': method.method_state(),
        'start': _start_of(method),
        'guard': None if guard is None else guard.state_dict(),
        'estimate': None if estimate is None else estimate.state_dict(),
        'compute': None if budget is None else budget.state_dict(),
        'watch': None if checker is None else checker.state_dict(),
        'random': random_state(),
        'frames': segmentor.frames,
        'updates': segmentor.updates,
        'events': [dict(event) for event in segmentor.events],
        'lag': segmentor.lag,
        'adapting': segmentor.adapting,
    }


def check_state(segmentor: Any, state: dict, allow: Sequence[str] = ()) -> None:
    """Checks whether a state fits a segmentor, without changing the segmentor.

    Args:
        segmentor: An ``AdaptiveSegmentor``.
        state: From ``gather_state``.
        allow: Beginnings of the names of the identity's entries that may differ.

    Raises:
        ValueError: The state does not fit.
    """
    if state.get('kind') != _KIND:
        raise ValueError(
            'expected the state of an adaptive segmentor, as AdaptiveSegmentor.save writes it, '
            'got a state of another kind'
        )
    expect_keys(state, _KEYS, 'the state')
    if segmentor.identity and state['identity']:
        different = differences(state['identity'], segmentor.identity, allow)
        if different:
            raise ValueError(
                f'the state belongs to another segmentor: {"; ".join(different)}. Build the '
                'segmentor with the options of the saved one, or name the permitted differences '
                'in `allow`'
            )
    method = segmentor.method
    method.check_method_state(state['method'])
    start, parameters = state['start'], method.adaptable_parameters()
    expect_keys(start, parameters, 'its start')
    for name, parameter in parameters.items():
        if not isinstance(start[name], Tensor) or start[name].shape != parameter.shape:
            raise misfit(f'the start of {name} has another shape')
    for key, part, there in (
        ('guard', 'guard', method.guard),
        ('estimate', 'estimate', method.estimate),
        ('compute', 'compute budget', method.compute_budget),
        ('watch', 'frame checker', segmentor.frame_checker),
    ):
        if (state[key] is None) != (there is None):
            raise misfit(f'one of the two has no {part}')
        if there is not None:
            expect_keys(state[key], there.state_dict(), f'its {part}')


@torch.no_grad()
def take_state(segmentor: Any, state: dict) -> None:
    """Loads a state that ``check_state`` has accepted.

    The random generators of Python, NumPy and torch in this process also continue from the state.
    """
    method = segmentor.method
    if method.estimate is not None:
        method.estimate.load_state_dict(state['estimate'])
    for name, parameter in method.adaptable_parameters().items():
        parameter.copy_(state['start'][name])
    method.set_reset_point()
    method.load_method_state(state['method'])
    if method.compute_budget is not None:
        method.compute_budget.load_state_dict(state['compute'])
    if method.guard is not None:
        method.guard.load_state_dict(state['guard'])
    if segmentor.frame_checker is not None:
        segmentor.frame_checker.load_state_dict(state['watch'])
    segmentor.frames, segmentor.updates = int(state['frames']), int(state['updates'])
    segmentor.events = [dict(event) for event in state['events']]
    segmentor.lag, segmentor.adapting = float(state['lag']), bool(state['adapting'])
    set_random_state(state['random'])


@torch.no_grad()
def _start_of(method: Any) -> dict:
    """The parameters that ``reset`` restores, by name; the method does not change."""
    now = method.method_state()
    try:
        method.reset()
        parameters = method.adaptable_parameters()
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}
    finally:
        method.load_method_state(now)
