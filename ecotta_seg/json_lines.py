"""A list that grows, as text of a JSON line an entry; only what is new is encoded."""

import json
from collections.abc import Sequence


class JsonLines:
    """Encodes one list again and again while entries are added to its end.

    A stream's history is saved with every state. As text it costs a state a copy of some bytes a
    frame, where pickling its numbers one by one would cost more with each frame that was seen.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def encode(self, entries: Sequence[dict]) -> str:
        """The text of all entries.

        Args:
            entries: Dicts of JSON's types; the first ones as in the call before.

        Raises:
            TypeError: A value is of another type.
        """
        if len(entries) < len(self._lines):
            self._lines.clear()  # Another list.
        self._lines.extend(json.dumps(entry) for entry in entries[len(self._lines) :])
        return '\n'.join(self._lines)


def decode_json_lines(text: str) -> list[dict]:
    """The entries of ``JsonLines.encode``: numbers bit for bit, text character for character."""
    return [json.loads(line) for line in text.split('\n')] if text else []
