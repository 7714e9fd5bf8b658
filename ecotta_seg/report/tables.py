"""Tables of a page, whose cells have a text and a kind (gain, loss or shade)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

NOTHING = '–'


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: The text in the cell.
        kind: ``'gain'``, ``'loss'``, ``'shade0'`` to ``'shade10'``, or empty.
    """

    text: str
    kind: str = ''


@dataclass
class Table:
    """A table with a head for its columns and a name for each row.

    Attributes:
        title: The caption.
        head: A text for each column, including the column of names.
        rows: The name and the cells of each row.
        strong: Indices of the rows that are shown bold.
        matrix: Whether the page shows narrow columns with upright names.
    """

    title: str
    head: Sequence[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    strong: set[int] = field(default_factory=set)
    matrix: bool = False

    def add(self, name: str, cells: Sequence[Cell], strong: bool = False) -> None:
        """Adds a row."""
        if strong:
            self.strong.add(len(self.rows))
        self.rows.append((name, list(cells)))


def percent(value: Optional[float], than: Optional[float] = None) -> Cell:
    """A percentage with two decimals, marked as a gain or a loss if there is a ``than``."""
    if value is None:
        return Cell(NOTHING)
    return Cell(f'{value:.2f}', '' if than is None else _kind(value - than))


def points(value: Optional[float], than: Optional[float]) -> Cell:
    """A difference in percentage points with its sign."""
    if value is None or than is None:
        return Cell(NOTHING)
    return Cell(f'{value - than:+.2f}', _kind(value - than))


def number(value: Optional[float], digits: int, unit: str = '') -> Cell:
    """A number with ``digits`` decimals, followed by the unit."""
    return Cell(NOTHING if value is None else f'{value:.{digits}f}{unit}')


def shade(share: Optional[float]) -> Cell:
    """A share of a row (0 to 1) in whole percent; the background is darker for a larger share."""
    if share is None:
        return Cell(NOTHING)
    return Cell(f'{100 * share:.0f}', f'shade{round(10 * share)}')


def _kind(difference: float) -> str:
    # A difference that is shown as +0.00 is neither a gain nor a loss.
    return 'gain' if difference >= 0.005 else 'loss' if difference <= -0.005 else ''
