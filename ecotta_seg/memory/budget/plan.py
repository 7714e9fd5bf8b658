"""Plans of an adaptation step: which tensors are kept for the backward, and which recomputed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Callable, Optional

# Maximum elements of a group of channels in the backward: 64, 16 or 8 MiB in float32.
_WIDE, _MIDDLE, _NARROW = 2**24, 2**22, 2**21


@dataclass(frozen=True)
class PartPlan:
    """Selects the tensors that are kept for one part; the others are recomputed from its input.

    Attributes:
        keep_units: Whether to keep the tape of the frozen units (a ResNet's ReLU bits, the inputs
            of a MiT's layers).
        keep_middle: Whether to keep the tokens between the two halves of each transformer layer.
        keep_output: Whether to keep x_k, the frozen part's output.
        keep_block: Whether to keep the output of the meta network's convolution.
    """

    keep_units: bool = True
    keep_middle: bool = True
    keep_output: bool = True
    keep_block: bool = True


@dataclass(frozen=True)
class Plan:
    """A way to run one adaptation step.

    Attributes:
        parts: One ``PartPlan`` for each part of the encoder.
        workspace: Maximum elements of a temporary of the backward.
        share_scratch: Whether one convolution after the other uses the same temporaries.
        update_in_place: Whether the optimizer applies each piece of a gradient during the backward
            pass, so that the piece can be freed at once.
    """

    parts: tuple[PartPlan, ...]
    workspace: int = _WIDE
    share_scratch: bool = True
    update_in_place: bool = False

    def describe(self) -> str:
        """One line for the report."""
        words = []
        for number, part in enumerate(self.parts, start=1):
            kept = [name[5:] for name, value in vars(part).items() if value]
            words.append(f'{number}: {"+".join(kept) or "input alone"}')
        update = ', gradients applied piece by piece' if self.update_in_place else ''
        return f'kept of part {", ".join(words)}{update}'


# A part, from 0, and an attribute of its ``PartPlan``.
Drop = tuple[int, str]


def fastest_plan(num_parts: int) -> Plan:
    """The plan that keeps everything."""
    return Plan((PartPlan(),) * num_parts)


def leanest_plan(num_parts: int, in_place: bool) -> Plan:
    """The plan that keeps only the parts' inputs."""
    part = PartPlan(False, False, False, False)
    return Plan((part,) * num_parts, _NARROW, False, in_place)


class BudgetError(ValueError):
    """No plan fits a memory budget.

    Args:
        budget_bytes: The requested budget.
        smallest_bytes: The smallest budget that can be met.
    """

    def __init__(self, budget_bytes: int, smallest_bytes: int) -> None:
        super().__init__(
            f'a memory budget of {budget_bytes} bytes cannot be met: the smallest that can is '
            f"{smallest_bytes} bytes (memory_budget='{-(-smallest_bytes // 2**20)}MiB')"
        )
        self.budget_bytes, self.smallest_bytes = budget_bytes, smallest_bytes


def smallest_plan(
    peak: Callable[[Plan], int], cost: Mapping[Drop, int], num_parts: int, in_place: bool
) -> Plan:
    """The plan with the lowest peak, usually with all drops. Arguments as in ``choose_plan``."""
    narrow = replace(fastest_plan(num_parts), workspace=_NARROW, share_scratch=False)
    lean = _without(narrow, cost)
    plans = [lean, replace(lean, update_in_place=True)] if in_place else [lean]
    # If peaks are equal, ``min`` takes the first plan.
    return min([fastest_plan(num_parts), *plans], key=peak)


def choose_plan(
    peak: Callable[[Plan], int],
    cost: Mapping[Drop, int],
    num_parts: int,
    budget_bytes: int,
    in_place: bool,
) -> Plan:
    """A plan with few operations whose peak fits the budget.

    The search uses small temporaries and drops the tensors that are cheapest to recompute, until
    the peak fits. If some dropped tensors still fit, they are kept again, the most expensive first.
    Then the temporaries are made larger as far as they fit. Gradients are applied during the
    backward pass only if no other plan fits.

    Args:
        peak: Returns the peak of a plan in bytes.
        cost: The possible drops, and the operations to recompute each.
        num_parts: K.
        budget_bytes: The maximum of the peak.
        in_place: Whether the optimizer can apply gradients piece by piece.

    Raises:
        BudgetError: No plan fits; the message states the smallest budget that can be met.
    """
    whole = fastest_plan(num_parts)
    if peak(whole) <= budget_bytes:
        return whole
    drops = sorted(cost, key=lambda drop: (cost[drop], drop))
    for update in (False, True) if in_place else (False,):
        narrow = replace(whole, workspace=_NARROW, share_scratch=False, update_in_place=update)
        dropped = _fewest_drops(peak, narrow, drops, budget_bytes)
        if dropped is None:
            continue
        plan = _without(narrow, dropped)
        for workspace, share in ((_WIDE, True), (_WIDE, False), (_MIDDLE, False)):
            wider = replace(plan, workspace=workspace, share_scratch=share)
            if peak(wider) <= budget_bytes:
                return wider
        return plan
    raise BudgetError(budget_bytes, peak(smallest_plan(peak, cost, num_parts, in_place)))


def _without(plan: Plan, drops: Iterable[Drop]) -> Plan:
    parts = list(plan.parts)
    for part, name in drops:
        parts[part] = replace(parts[part], **{name: False})
    return replace(plan, parts=tuple(parts))


def _fewest_drops(peak, mode: Plan, drops: list[Drop], budget_bytes: int) -> Optional[list[Drop]]:
    """Drops with which the peak fits, each necessary; None if all drops do not suffice."""

    def fits(some: list[Drop]) -> bool:
        return peak(_without(mode, some)) <= budget_bytes

    if not fits(drops):
        return None
    # More drops never raise the peak, so bisection finds the fewest cheapest drops that fit.
    low, high = 0, len(drops)
    while low < high:
        middle = (low + high) // 2
        if fits(drops[:middle]):
            high = middle
        else:
            low = middle + 1
    dropped = drops[:low]
    for drop in reversed(drops[:low]):
        fewer = [other for other in dropped if other != drop]
        if fits(fewer):
            dropped = fewer
    return dropped
