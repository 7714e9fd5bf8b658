"""Where a data set of driving scenes has its files, as one description for each data set."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Optional


@dataclass(frozen=True)
class DrivingLayout:
    """The folders and file names of a data set.

    Words in braces are filled in: ``{split}``, ``{condition}`` (by ``conditions``) and
    ``{frame}``, which is the part that an image and its label have in common, subfolders
    included. ``*`` matches any characters of a file name.

    Attributes:
        images: Folder of the images below the root.
        image: Name of an image below ``images``.
        labels: Names of a label below the root; the first one that exists is taken.
        variable: The environment variable that holds the root in this project's configs.
        splits: The names of the splits.
        labelled: The splits that have labels; others are predicted and not scored.
        conditions: The text that replaces ``{condition}``, by the name of the condition.
        more_conditions: Names for several conditions at once.
        frame_list: A text file below the root that names the images of a split, one a line.
        label_map: Train ids by the ids in the labels; None if the labels hold train ids.
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
        """A pattern with its words in braces filled in."""
        # Not str.format: the path of a root may have braces of its own.
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
