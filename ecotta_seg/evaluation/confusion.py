"""Confusion counts between classes over the frames of the latest round."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from torch import Tensor

OUTSIDE = 'outside the classes'
"""Name of predictions with an index outside the classes."""


class LastRoundConfusion:
    """Sums confusion counts of all frames of a round; a later round starts from zero.

    Memory depends only on the number of classes C.

    Attributes:
        round: The latest round of any frame; 0 before the first frame.
        counts: (C, C + 1) int64 pixels. Rows are labels and columns are predictions; the last
            column counts predictions of no class. None before the first frame.
    """

    def __init__(self) -> None:
        self.round = 0
        self.counts: Optional[Tensor] = None

    def add(self, number: int, counts: Optional[Tensor], sign: int = 1) -> None:
        """Adds the counts of one or several frames.

        Args:
            number: Round of the frames. Frames of a round before the latest one are ignored.
            counts: (C, C + 1) int64 pixels; None if no pixel is labelled.
            sign: -1 removes the frames again.
        """
        if counts is None or number < self.round:
            return
        if number > self.round:
            self.round, self.counts = number, torch.zeros_like(counts)
        self.counts += sign * counts

    def document(self, classes: Sequence[str]) -> Optional[dict]:
        """Returns the counts as JSON types, without zeros.

        Args:
            classes: C class names.

        Returns:
            ``{'round': int, 'pixels': {LABEL: {PREDICTION: int}}}``; None without labelled pixels.
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
        """Returns the round and a copy of the counts."""
        return {'round': self.round, 'counts': None if self.counts is None else self.counts.clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> 'LastRoundConfusion':
        """Builds the confusion from a result of ``state_dict``."""
        confusion = cls()
        confusion.add(int(state['round']), state['counts'])
        return confusion


def check_confusion(document: Any, where: str) -> None:
    """Checks a result of ``LastRoundConfusion.document``.

    Args:
        document: The parsed JSON.
        where: Position in the results, for the message.

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
