"""Makes names from data sets safe to show."""


def printable(name: object) -> str:
    """Returns ``name`` on one line, without control characters for a terminal.

    Line breaks, escape sequences, text-direction marks and undecodable bytes become backslash
    escapes.
    """
    return ''.join(
        character
        if character.isprintable()
        else character.encode('unicode_escape', 'backslashreplace').decode('ascii')
        for character in str(name)
    )
