"""Errors as the user sees them."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import ecotta_seg.hooks  # noqa: F401  (registers them)
from ecotta_seg.cli import command_line
from ecotta_seg.cli.command_line import check_work_dir, run_tool
from ecotta_seg.startup import errors
from ecotta_seg.startup.errors import sentence

PLAIN = ['--system-allocator', '--show-warnings']
HERE = str(Path(__file__).parent)


def _raising(error):
    def main(argv):
        raise error

    return main


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """What is raised here is raised by the package."""
    monkeypatch.setattr(errors, '_OURS', (*errors._OURS, HERE))


WORKER = ValueError(
    'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
    f'last):\n  File "{HERE}/x.py", line 1, in f\n    raise ValueError(1)\n'
    'ValueError: the image is broken\n'
)


@pytest.mark.parametrize(('error', 'text'), [
    (ValueError('too small'), 'too small'),
    (WORKER, 'the image is broken'),
    (ValueError('class `A` in a/b.py: wrong size'), 'wrong size'),
    (KeyError('model'), 'unknown or missing key: model'),
    (KeyError('A is not in the hook registry.'), 'A is not in the hook registry.'),
    (ValueError('too big in <ecotta_seg.hooks.x.Hook object at 0x7f14d37a9510>'), 'too big'),
    (PermissionError(13, 'Permission denied', 'a.txt'), 'a.txt: Permission denied'),
    (ValueError('two\nlines'), 'two lines'),
])  # fmt: skip
def test_an_error_is_one_sentence_and_exit_code_2(capsys, error, text):
    assert run_tool(_raising(error), PLAIN) == 2
    assert capsys.readouterr().err == f'error: {text}\n'
    assert sentence(error) == text


def test_the_process_keeps_freed_memory(monkeypatch):
    calls = []
    monkeypatch.setattr(command_line, 'keep_freed_memory', lambda: calls.append('kept'))
    assert run_tool(lambda argv: calls.append('run'), []) == 0
    assert calls == ['kept', 'run']
    calls.clear()
    assert run_tool(lambda argv: calls.append(argv), ['--system-allocator', 'x']) == 0
    assert calls == [['x']]


def test_what_is_changed_for_the_process_is_told_and_can_be_left(monkeypatch, capsys):
    monkeypatch.setattr(command_line, 'keep_freed_memory', lambda: True)

    def main(argv):
        warnings.warn('deprecated', DeprecationWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert run_tool(main, []) == 0
        text = capsys.readouterr().err
        assert text.startswith('note: ') and text.count('\n') == 1
        assert '--show-warnings' in text and '--system-allocator' in text
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert run_tool(main, PLAIN) == 1
    assert 'note:' not in capsys.readouterr().err


def _index(argv):
    return {}['missing']


def _add(argv):
    return 1 + None


def _float(argv):
    return float('x')


def _registry(argv):
    return HOOKS.build(dict(type='NoSuchHook'))


def _option(argv):
    return HOOKS.build(dict(type='GuardHook', warm=3))


def _limit(argv):
    return HOOKS.build(dict(type='FrameCheckHook', mode='x'))


@HOOKS.register_module(force=True)
class FaultyHook(Hook):
    def __init__(self):
        {}['missing']


def _faulty(argv):
    return HOOKS.build(dict(type='FaultyHook'))


@pytest.mark.parametrize(('main', 'code'), [
    (_index, 1), (_add, 1), (_float, 1), (_faulty, 1), (_registry, 2), (_option, 2), (_limit, 2),
])  # fmt: skip
def test_only_what_is_raised_on_purpose_is_a_users_mistake(main, code, capsys):
    assert run_tool(main, PLAIN) == code
    assert ('(unexpected: --traceback' in capsys.readouterr().err) == (code == 1)


def test_the_traceback_is_there_if_asked_for(capsys):
    assert run_tool(_raising(ValueError('x')), ['--traceback']) == 2
    assert 'Traceback' in capsys.readouterr().err


@pytest.mark.parametrize('error', [
    ZeroDivisionError('division by zero'), RuntimeError('a worker\ndied'), MemoryError(),
    AttributeError("no attribute 'x'"), cv2.error('too wide'),
])  # fmt: skip
def test_what_nobody_foresaw_is_a_sentence_with_its_type_and_exit_code_1(capsys, error):
    assert run_tool(_raising(error), PLAIN) == 1
    text = capsys.readouterr().err
    assert text.startswith(f'error: {type(error).__name__}: ') and text.count('\n') == 1
    assert '--traceback' in text
    assert run_tool(_raising(error), ['--traceback']) == 1
    assert 'Traceback' in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_escaped(capsys):
    assert run_tool(_raising(ValueError('a\x1b]0;own\x07.png is cut off')), PLAIN) == 2
    assert capsys.readouterr().err == 'error: a\\x1b]0;own\\x07.png is cut off\n'


def test_success_and_interruption(capsys):
    assert run_tool(lambda argv: None, []) == 0
    assert run_tool(_raising(KeyboardInterrupt()), []) == 130


def test_the_work_dir_is_made_and_left_empty(tmp_path):
    folder = check_work_dir(str(tmp_path / 'a' / 'b'))
    assert folder.is_dir() and not list(folder.iterdir())
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='cannot be written to'):
        check_work_dir(str(tmp_path / 'file' / 'c'))


def test_processes_that_check_the_same_work_dir_do_not_meet(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(check_work_dir, [str(tmp_path / 'run')] * 2000))
    assert len(folders) == 2000 and not list((tmp_path / 'run').iterdir())
