"""What an adaptation step keeps from its forward to its backward, and what it computes anew."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Callable, NamedTuple, Optional, Union

# Elements that a temporary of the backward may have: 16 MiB in float32, or 4.
_WIDE, _NARROW = 2**22, 2**20
_UNITS = {
    '': 1, 'B': 1, 'KB': 10**3, 'MB': 10**6, 'GB': 10**9, 'KIB': 2**10, 'MIB': 2**20, 'GIB': 2**30,
}  # fmt: skip


@dataclass(frozen=True)
class PartPlan:
    """What is kept of one part; what is not is computed again from the part's input.

    Attributes:
        keep_units: The tape of the frozen units. Bits for a ResNet, the layers' inputs for a MiT.
        keep_middle: What stands between the two halves of each transformer layer.
        keep_output: x_k, the frozen part's output.
        keep_block: The output of the meta network's convolution.
    """

    keep_units: bool = True
    keep_middle: bool = True
    keep_output: bool = True
    keep_block: bool = True


@dataclass(frozen=True)
class Plan:
    """A way to run one adaptation step.

    Attributes:
        parts: One for each part of the encoder.
        workspace: Elements that a temporary of the backward may have.
        update_in_place: Apply each piece of a gradient at once and drop it.
    """

    parts: tuple[PartPlan, ...]
    workspace: int = _WIDE
    update_in_place: bool = False

    def describe(self) -> str:
        """One line for the report."""
        words = []
        for number, part in enumerate(self.parts, start=1):
            kept = [name[5:] for name, value in vars(part).items() if value]
            words.append(f'{number}: {"+".join(kept) or "input alone"}')
        update = ', gradients applied piece by piece' if self.update_in_place else ''
        return f'kept of part {", ".join(words)}{update}'


class Forecast(NamedTuple):
    """What a plan is expected to take.

    Attributes:
        peak_bytes: Above parameters and adapters: activations, gradients, optimizer state.
        operations: Multiply-adds, twice over.
    """

    peak_bytes: int
    operations: int


def fastest_plan(num_parts: int) -> Plan:
    """Everything is kept."""
    return Plan((PartPlan(),) * num_parts)


def leanest_plan(num_parts: int, in_place: bool) -> Plan:
    """Nothing is kept but the parts' inputs."""
    part = PartPlan(False, False, False, False)
    return Plan((part,) * num_parts, _NARROW, in_place)


def plans(num_parts: int, transformer: bool, in_place: bool) -> Iterator[Plan]:
    """Plans worth a look.

    Args:
        num_parts: K.
        transformer: Whether the units are transformer layers: what stands between their halves is
            then one more choice, the meta networks' convolutions (small there) none.
        in_place: Whether the optimizer allows to apply gradients piece by piece.
    """
    if transformer:
        choices = [
            PartPlan(True, True, True, False),
            PartPlan(True, False, True, False),
            PartPlan(True, False, False, False),
            PartPlan(False, False, False, False),
        ]
    else:
        choices = [
            PartPlan(True, True, True, True),
            PartPlan(True, True, True, False),
            PartPlan(True, True, False, True),
            PartPlan(True, True, False, False),
        ]
    for parts in product(choices, repeat=num_parts):
        yield Plan(parts, _WIDE)
        yield Plan(parts, _NARROW)
        if in_place:
            yield Plan(parts, _NARROW, True)


def parse_budget(budget: Union[str, int, float, None], inference_bytes: int) -> Optional[int]:
    """A memory budget in bytes.

    Args:
        budget: ``'600MB'``, ``'580MiB'``, a number of bytes, ``'1.25x'`` (times the peak of stock
            inference), or None for no limit.
        inference_bytes: Peak of stock inference on the same frame.

    Raises:
        ValueError: It is none of these, or not above 0.
    """
    if budget is None:
        return None
    text = str(budget).strip()
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([a-zA-Z]*)', text)
    unit = match.group(2).upper() if match else None
    if match is None or (unit not in _UNITS and unit != 'X') or float(match.group(1)) <= 0:
        raise ValueError(
            f"expected a memory budget such as '600MB', '580MiB' or '1.25x' (times the peak of "
            f'stock inference), got {budget!r}'
        )
    factor = inference_bytes if unit == 'X' else _UNITS[unit]
    return int(float(match.group(1)) * factor)


def choose_plan(
    candidates: Iterable[Plan],
    forecast: Callable[[Plan], Forecast],
    budget_bytes: Optional[int],
    leanest: Plan,
) -> tuple[Plan, Forecast]:
    """The plan with the fewest operations whose peak fits.

    Args:
        candidates: Plans to choose from.
        forecast: What a plan takes.
        budget_bytes: None for no limit.
        leanest: The plan with the smallest peak, for the message.

    Raises:
        ValueError: None fits; the message tells the smallest budget that could be met.
    """
    best = None
    smallest = None
    for plan in candidates:
        found = forecast(plan)
        smallest = found.peak_bytes if smallest is None else min(smallest, found.peak_bytes)
        if budget_bytes is not None and found.peak_bytes > budget_bytes:
            continue
        # Fewer operations first, then the smaller peak, then wider temporaries.
        key = (found.operations, plan.update_in_place, -plan.workspace, found.peak_bytes)
        if best is None or key < best[0]:
            best = (key, plan, found)
    if best is None:
        smallest = min(smallest or 2**63, forecast(leanest).peak_bytes)
        raise ValueError(
            f'a memory budget of {budget_bytes} bytes cannot be met: the smallest that can is '
            f"{smallest} bytes ('{smallest / 2**20:.0f}MiB')"
        )
    return best[1], best[2]
