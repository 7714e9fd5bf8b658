"""``report.html``: the report of a run as one self-contained page."""

from pathlib import Path
from typing import Optional, Union

from .contents import report_values
from .page import write_page
from .plots import stream_plots
from .work_dir import read_work_dir

REPORT_FILE = 'report.html'


def write_report(folder: Union[str, Path], path: Optional[Union[str, Path]] = None) -> Path:
    """Writes the report of a run from the files in its work dir.

    If the run has not ended, the report shows its newest saved state.

    Args:
        folder: The work dir.
        path: The file to write; None for ``report.html`` in the work dir.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist or holds no run.
        ValueError: A file in the work dir is damaged.
        OSError: The page cannot be written; an older page stays unchanged.
    """
    run = read_work_dir(folder)
    values = report_values(run)
    plots = stream_plots(run.document, run.history)
    return write_page(path or Path(folder) / REPORT_FILE, 'report.html', plots=plots, **values)
