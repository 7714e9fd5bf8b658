"""Checks a saved state before a method loads it, so that a wrong state changes nothing."""

from collections.abc import Collection
from typing import Any

from torch.optim import Adam, AdamW, Optimizer

# Options for how an optimizer computes; they differ between versions of torch.
_SWITCHES = frozenset(
    ('foreach', 'fused', 'capturable', 'differentiable', 'maximize', 'decoupled_weight_decay')
)


def misfit(reason: str) -> ValueError:
    """Returns the error for a saved state that does not fit the method."""
    return ValueError(
        f'the saved state does not fit this method: {reason}; continue with the config and '
        'checkpoint that it was saved with'
    )


def expect_keys(found: Any, expected: Collection[str], what: str) -> None:
    """Refuses anything but a dictionary with exactly these keys.

    Raises:
        ValueError: A key is missing or unknown; the message has the key.
    """
    if not isinstance(found, dict):
        raise misfit(f'{what} should be a dictionary and is {type(found).__name__}')
    wrong = sorted(set(expected) ^ found.keys(), key=str)
    if wrong:
        raise misfit(f'{what} has {"an unknown" if wrong[0] in found else "no"} {wrong[0]!r}')


def tell_weight_decay(optimizer: Optimizer) -> None:
    """Marks the groups of an Adam or AdamW with the kind of weight decay.

    Releases of torch after 2.1 set this option themselves. In torch 2.1 no step reads the option.

    Args:
        optimizer: Any optimizer; the groups of an Adam or AdamW get the option if they lack it.
    """
    if isinstance(optimizer, (Adam, AdamW)):
        for group in optimizer.param_groups:
            group.setdefault('decoupled_weight_decay', isinstance(optimizer, AdamW))


def check_optimizer_state(own: dict, saved: Any) -> None:
    """Refuses the state of an optimizer of another kind or with other groups.

    A state does not contain its optimizer's name, so the names of its options identify the kind.

    Args:
        own: The current ``state_dict`` of the optimizer; the values in it are not compared.
        saved: The state to load.

    Raises:
        ValueError: The state does not fit.
    """
    expect_keys(saved, own, "the optimizer's state")
    groups = saved['param_groups']
    whole = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    if not isinstance(saved['state'], dict) or not whole:
        raise misfit("the optimizer's state is damaged")
    sizes = []
    for state in (own, saved):
        sizes.append([len(group.get('params', ())) for group in state['param_groups']])
    if sizes[0] != sizes[1]:
        raise misfit(
            f'the optimizer has {len(sizes[0])} groups of {sum(sizes[0])} parameters in all, the '
            f'state {len(sizes[1])} of {sum(sizes[1])}, or they are divided differently'
        )
    for left, right in zip(own['param_groups'], saved['param_groups']):
        expect_keys(
            {name: value for name, value in right.items() if name not in _SWITCHES},
            left.keys() - _SWITCHES,
            'a group of another optimizer',
        )
        # The only option that differs between Adam and AdamW.
        decoupled = [group.get('decoupled_weight_decay') for group in (left, right)]
        if None not in decoupled and decoupled[0] != decoupled[1]:
            raise misfit("the optimizer's weight decay has another kind, as with Adam and AdamW")
