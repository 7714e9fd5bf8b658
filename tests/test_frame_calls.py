"""A frame is adapted in few calls and few changes of file."""

from tests.frame_calls import PACKAGE, FrameCalls, count, usual

# Each of the 33 norms of the demo's model takes part in two forwards: the gate's and the step's.
MOST_CALLS, MOST_CHANGES = 1650, 1080


def test_a_usual_frame_of_ecotta_plus_stays_below_the_bound(tmp_path):
    calls = usual(count('ecotta_plus', str(tmp_path)))
    assert 500 < calls.calls <= MOST_CALLS
    assert 100 < calls.changes <= MOST_CHANGES


class _Frame:
    def __init__(self, path, name):
        self.f_code = type('Code', (), dict(co_filename=path, co_name=name, co_qualname=name))


def test_calls_and_changes_are_counted():
    calls = FrameCalls()
    paths = ['a.py', 'a.py', 'b.py', 'a.py']
    for path in paths:
        calls(_Frame(f'{PACKAGE}/{path}', 'f'), 'call', None)
    calls(_Frame(f'{PACKAGE}/a.py', 'f'), 'return', None)
    calls(_Frame('/elsewhere/c.py', 'f'), 'call', None)
    assert (calls.calls, calls.changes, calls.files) == (4, 3, 2)
    assert calls.functions == {'a.py f': 3, 'b.py f': 1}
