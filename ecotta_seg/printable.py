"""Names from data sets, made safe to show."""


def printable(name: object) -> str:
    """``name`` on one line, without characters that a terminal would obey.

    Line breaks, escape sequences, text-direction marks and bytes that are no text become
    backslash escapes.
    """
    return ''.join(
        character
        if character.isprintable()
        else character.encode('unicode_escape', 'backslashreplace').decode('ascii')
        for character in str(name)
    )
