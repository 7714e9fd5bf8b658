"""Encodes a growing list as text, with one JSON line per entry; encodes only the new entries."""

import json
from collections.abc import Sequence


class JsonLines:
    """Encodes one list repeatedly while entries are added to its end.

    Every saved state contains the stream's history. To save the history as text takes only a copy
    of some bytes per frame. To pickle its numbers one by one would take longer with each frame.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def encode(self, entries: Sequence[dict]) -> str:
        """Returns the text of all entries.

        Args:
            entries: Dicts of JSON types; they begin with the entries of the previous call.

        Raises:
            TypeError: A value is of another type.
        """
        if len(entries) < len(self._lines):
            self._lines.clear()  # Another list.
        self._lines.extend(json.dumps(entry) for entry in entries[len(self._lines) :])
        return '\n'.join(self._lines)


def decode_json_lines(text: str) -> list[dict]:
    """Returns the entries of a text of ``JsonLines.encode``; all numbers are equal bit for bit."""
    return [json.loads(line) for line in text.split('\n')] if text else []
