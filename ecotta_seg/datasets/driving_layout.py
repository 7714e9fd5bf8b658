"""Describes the folders and file names of driving data sets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Optional


@dataclass(frozen=True)
class DrivingLayout:
    """The folders and file names of a data set.

    Words in braces are replaced: ``{split}`` by the split, ``{condition}`` by the text in
    ``conditions``, and ``{frame}`` by the common part of the names of an image and its label,
    including subfolders. ``*`` matches any characters of a file name.

    Attributes:
        images: Folder of the images below the root.
        image: Name of an image below ``images``.
        labels: Names of a label below the root; the first existing one is used.
        variable: The environment variable for the root in this project's configs.
        splits: The names of the splits.
        labelled: The splits with labels; others are predicted but not scored.
        conditions: For each name of a condition, the text that replaces ``{condition}``.
        more_conditions: The same for names that cover several conditions at once.
        frame_list: A text file below the root with the images of a split, one per line.
        label_map: Maps the ids in the labels to train ids; None if the labels hold train ids.
            Files named ``*_labelIds.png`` hold Cityscapes' 34 ids in any data set.
    """

    images: str
    image: str
    labels: tuple[str, ...]
    variable: str
    splits: tuple[str, ...]
    labelled: tuple[str, ...]
    conditions: Mapping[str, str] = field(default_factory=dict)
    more_conditions: Mapping[str, str] = field(default_factory=dict)
    frame_list: Optional[str] = None
    label_map: Optional[Mapping[int, int]] = None

    def condition_text(self, condition: Optional[str]) -> str:
        """The text that replaces ``{condition}``."""
        return {**self.conditions, **self.more_conditions}.get(condition, condition or '')

    def fill(self, text: str, split: str, condition: Optional[str], frame: str = '{frame}') -> str:
        """Replaces the words in braces in a pattern."""
        # Not str.format: the path of a root may contain braces.
        text = text.replace('{split}', split).replace('{frame}', frame)
        return text.replace('{condition}', self.condition_text(condition))

    def frame_of(self, name: str, condition: Optional[str]) -> Optional[str]:
        """The ``{frame}`` in an image's name below ``images``; None for a file of another kind."""
        found = _expression(self.fill(self.image, '', condition)).fullmatch(name)
        return found['frame'] if found else None


@lru_cache(maxsize=64)
def _expression(pattern: str) -> re.Pattern:
    parts = {re.escape('{frame}'): '(?P<frame>.+)', re.escape('*'): '[^/]*'}
    text = re.escape(pattern)
    for part, expression in parts.items():
        text = text.replace(part, expression)
    return re.compile(text)
