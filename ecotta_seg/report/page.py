"""Renders templates to pages. Every value is escaped; a page loads nothing from outside."""

from functools import cache
from pathlib import Path
from typing import Any, Union

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..files.atomic_io import atomic_write_text
from ..names.printable import printable

_TEMPLATES = Path(__file__).parent / 'templates'


def write_page(path: Union[str, Path], template: str, **values: Any) -> Path:
    """Writes a page atomically.

    Args:
        path: The file.
        template: Name of a file in ``templates``.
        **values: The variables of the template.

    Returns:
        The path.

    Raises:
        OSError: The page cannot be written.
    """
    atomic_write_text(path, _environment().get_template(template).render(values))
    return Path(path)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names from data sets may contain control characters or invalid text; both are escaped.
        finalize=lambda value: _shown(value) if type(value) is str else value,
    )
    return environment


def _shown(text: str) -> str:
    return '\n'.join(printable(line) for line in text.split('\n'))
