"""Which classes a model takes for which others, over the frames of the latest round."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from torch import Tensor

OUTSIDE = 'outside the classes'
"""The name of predictions whose index is that of no class."""


class LastRoundConfusion:
    """Sums confusion counts of all frames of a round; a later round starts from zero.

    Memory depends on the number of classes C alone.

    Attributes:
        round: The latest round that a frame was of; 0 before the first frame.
        counts: (C, C + 1) int64 pixels, rows are labels and columns predictions, the last column
            predictions of no class; None before the first frame.
    """

    def __init__(self) -> None:
        self.round = 0
        self.counts: Optional[Tensor] = None

    def add(self, number: int, counts: Optional[Tensor], sign: int = 1) -> None:
        """Adds frames.

        Args:
            number: Their round. Frames of an earlier round than the latest are left out.
            counts: (C, C + 1) int64 pixels; None if nothing is labelled.
            sign: -1 takes the frames out again.
        """
        if counts is None or number < self.round:
            return
        if number > self.round:
            self.round, self.counts = number, torch.zeros_like(counts)
        self.counts += sign * counts

    def document(self, classes: Sequence[str]) -> Optional[dict]:
        """The counts as JSON's types, zeros left out.

        Args:
            classes: C class names.

        Returns:
            ``{'round': int, 'pixels': {LABEL: {PREDICTION: int}}}``, None if nothing was labelled.
            Predictions of no class have the name ``OUTSIDE``.
        """
        if self.counts is None or not self.counts.any():
            return None
        columns = [*classes, OUTSIDE]
        rows = {
            label: {name: count for name, count in zip(columns, row) if count}
            for label, row in zip(classes, self.counts.tolist())
        }
        return {'round': self.round, 'pixels': {label: row for label, row in rows.items() if row}}

    def state_dict(self) -> dict:
        """The round and a copy of the counts."""
        return {'round': self.round, 'counts': None if self.counts is None else self.counts.clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> 'LastRoundConfusion':
        """The confusion that ``state_dict`` described."""
        confusion = cls()
        confusion.add(int(state['round']), state['counts'])
        return confusion


def check_confusion(document: Any, where: str) -> None:
    """Checks a result of ``LastRoundConfusion.document``.

    Args:
        document: The parsed JSON.
        where: The place in the results, for the message.

    Raises:
        ValueError: The document has another form.
    """
    rows = document.get('pixels') if isinstance(document, Mapping) else None
    number = document.get('round') if isinstance(document, Mapping) else None
    whole = isinstance(rows, Mapping) and all(isinstance(row, Mapping) for row in rows.values())
    counts = [count for row in rows.values() for count in row.values()] if whole else []
    if not whole or not all(_is_count(value) for value in (number, *counts)):
        raise ValueError(
            f'results: {where} must be an object with "round" and "pixels", and these counts of '
            'pixels by label and prediction'
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
