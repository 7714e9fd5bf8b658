"""A growing list as text, one JSON line per entry; only new entries are encoded."""

import json
from collections.abc import Sequence


class JsonLines:
    """Encodes one list repeatedly while entries are added to its end.

    Every saved state contains the stream's history. As text, the history needs only a copy of some
    bytes per frame. Pickling its numbers one by one would take longer with each frame.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def encode(self, entries: Sequence[dict]) -> str:
        """The text of all entries.

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
    """The entries that ``JsonLines.encode`` encoded, exactly: numbers bit for bit."""
    return [json.loads(line) for line in text.split('\n')] if text else []
