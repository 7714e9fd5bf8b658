"""Old names that this version still reads, with a warning."""

import warnings


class OldNameWarning(Warning):
    """A config, a command or code uses a name that the next version does not read.

    The tools hide the categories that libraries use for their warnings. This warning has its own
    category, so the tools show it.
    """


def warn_old_name(old: str, new: str, where: str = '') -> None:
    """Warns that ``old`` is now called ``new``.

    Args:
        old: The old name.
        new: The current name.
        where: The place of the old name, such as a file, for the message.
    """
    warnings.warn(
        f'{where}{": " if where else ""}`{old}` is now called `{new}`: change the name, because '
        'the next version does not read the old one',
        OldNameWarning,
        stacklevel=3,
    )
