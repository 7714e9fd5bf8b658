"""Whether a file that torch wrote is whole: torch's own reader passes over the checksums in it."""

import zipfile
from pathlib import Path
from typing import Optional, Union


def damaged_entry(path: Union[str, Path]) -> Optional[str]:
    """The first entry of a zip archive whose checksum is wrong.

    Args:
        path: Of a file from ``torch.save``; the format before zip archives (torch 1.5) has no
            checksums and passes.

    Returns:
        Its name, or None where there is nothing wrong with it.

    Raises:
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is an archive whose list of entries is damaged.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()
