"""Damage to the bytes of a file, chosen by hypothesis."""

from hypothesis import strategies as st


def damaged(whole: bytes, data, most: int = 3) -> bytes:
    """A copy of ``whole`` with hypothesis' choice of damage, at ``most`` so many times."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, most))):
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        kind = data.draw(st.sampled_from(['cut', 'flip', 'zeros', 'insert', 'remove']))
        if kind == 'cut':
            content = content[:place]
        elif kind == 'flip' and content:
            content[place] ^= data.draw(st.integers(1, 255))
        elif kind == 'zeros':
            content[place : place + 40] = bytes(len(content[place : place + 40]))
        elif kind == 'insert':
            content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            del content[place : place + data.draw(st.integers(1, 40))]
    return bytes(content)
