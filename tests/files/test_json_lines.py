import json
import math

import pytest

from ecotta_seg.files.json_lines import JsonLines, decode_json_lines


def test_entries_come_back_as_they_were():
    entries = [
        {'number': 0.1 + 0.2, 'tiny': 5e-324, 'count': 3, 'on': True, 'none': None},
        {'text': 'a\nb\u2028c\udcff"北', 'nothing': math.inf},
        {},
    ]
    assert decode_json_lines(JsonLines().encode(entries)) == entries
    assert decode_json_lines(JsonLines().encode([])) == []


def test_only_what_is_new_is_encoded(monkeypatch):
    lines, entries, encoded = JsonLines(), [], []
    dumps = json.dumps
    monkeypatch.setattr(json, 'dumps', lambda entry: encoded.append(entry) or dumps(entry))
    for number in range(4):
        entries.append({'number': number})
        assert decode_json_lines(lines.encode(entries)) == entries
    assert encoded == entries
    # A shorter list is another one.
    assert decode_json_lines(lines.encode([{'other': 1}])) == [{'other': 1}]


def test_what_json_lacks_is_refused():
    with pytest.raises(TypeError):
        JsonLines().encode([{'x': object()}])
