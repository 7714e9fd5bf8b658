"""What a run shows on screen, and that its log file holds the rest."""

import logging

import pytest
from mmengine.logging import print_log

from ecotta_seg.hooks import StreamProgressHook
from ecotta_seg.hooks.quiet_runner import QuietRunner
from tests.tools.conftest import project, run_tool  # noqa: F401


@pytest.fixture
def shown(tmp_path, stream_runner, monkeypatch, capsys):
    """A function that runs a test and gives the text on screen and that of the log file."""

    def run(*hooks):
        monkeypatch.setitem(stream_runner.__globals__, 'Runner', QuietRunner)
        capsys.readouterr()
        runner = stream_runner(list(hooks))
        for handler in runner.logger.handlers:
            handler.setLevel(logging.INFO)
        print_log('somebody else is talkative', 'current')
        print_log('somebody else warns', 'current', logging.WARNING)
        runner.test()
        (log,) = (tmp_path / 'work').glob('*/*.log')
        return capsys.readouterr().out, log.read_text()

    return run


def test_the_rest_is_in_the_log_file(shown):
    screen, log = shown(StreamProgressHook())
    assert 'somebody else warns' in screen and 'somebody else warns' in log
    assert 'talkative' not in screen and 'talkative' in log
    # What this package says, by the logger of a Runner or by print_log.
    assert 'left out of the mean: bus' in screen and 'left out of the mean: bus' in log
    assert '(test)' not in screen and '(test) [16/16]' in log


def test_without_a_bar_the_progress_is_on_screen(shown):
    screen, _ = shown()
    assert '(test) [16/16]' in screen


@pytest.mark.slow
def test_a_run_of_the_tools(project, tmp_path):  # noqa: F811
    command = (
        'test_tta',
        project.config,
        project.checkpoint,
        '--rounds',
        1,
        '--work-dir',
        tmp_path,
    )
    run = run_tool(*command)
    assert run.returncode == 0, run.stderr
    before = run.stdout[: run.stdout.index('mIoU in percent')].splitlines()
    assert len(before) < 8, run.stdout
    (log,) = tmp_path.glob('*/*.log')
    assert str(log) in before[0]
    text = log.read_text()
    for part in ('System environment', 'custom_hooks = [', 'Hooks will be executed', 'Iter(test)'):
        assert part in text and part not in run.stdout
    assert 'Could not import OneDL' not in run.stdout + run.stderr
    run = run_tool(*command, '--show-log')
    assert run.returncode == 0, run.stderr
    assert 'System environment' in run.stdout and 'custom_hooks = [' in run.stdout
    warm = ('warm_up', project.config, project.checkpoint, '--work-dir', tmp_path / 'warm')
    run = run_tool(*warm)
    assert run.returncode == 0, run.stderr
    assert 'System environment' not in run.stdout and 'Iter(train) [4/4]' in run.stdout
    assert 'The warmed-up meta networks are in' in run.stdout
