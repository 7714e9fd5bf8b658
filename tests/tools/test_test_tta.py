"""tools/test_tta.py end to end, its interface file, and every error that a user can make."""

import csv
import json
import os
import signal
import subprocess
import time

import cv2
import numpy as np
import pytest
import torch

from tests.tools.conftest import (
    ROOT,
    error_of,
    results_of,
    run_tool,
    started_tool,
    wait_for_a_state,
)

DEMO_CHECKPOINT = ROOT / 'data' / 'checkpoints' / 'demo_source.pth'


@pytest.fixture(scope='module')
def finished(project, tmp_path_factory):
    """A run of two rounds with pictures."""
    folder = tmp_path_factory.mktemp('run')
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', folder, '--seed', 3,
        '--show-dir', folder / 'pictures', '--device', 'cpu',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run, folder


def test_results_json_is_the_interface(finished):
    run, folder = finished
    document = json.loads((folder / 'results.json').read_text())
    assert document['schema'] == 1 and document['method'] == 'ecotta'
    assert document['conditions'] == ['fog', 'night']
    assert [entry['round'] for entry in document['rounds']] == [1, 2]
    for entry in [*document['rounds'], document['source']]:
        means = [entry['conditions'][name]['mIoU'] for name in ('fog', 'night')]
        assert entry['mIoU'] == pytest.approx(np.mean(means))
        for scores in entry['conditions'].values():
            assert scores['frames'] == 3 and 0 <= scores['aAcc'] <= 100
            assert len(scores['IoU']) == 19
    means = [entry['mIoU'] for entry in document['rounds']]
    assert document['mean_mIoU'] == pytest.approx(np.mean(means))
    assert all(document['clear'][key] >= 0 for key in ('source', 'before', 'after'))
    memory = document['memory']
    assert memory['adaptation_peak_bytes'] > memory['inference_peak_bytes'] > 0
    assert memory['parameters_bytes'] > memory['adapters_bytes'] > 0
    assert memory['gradients_bytes'] > 0 and memory['optimizer_bytes'] > 0
    assert document['seconds_per_frame']['adaptation'] > 0
    assert document['seconds_per_frame']['inference'] > 0
    assert document['events'] == []
    rows = list(csv.DictReader((folder / 'results.csv').open()))
    assert {row['condition'] for row in rows} >= {'fog', 'night'}
    assert 'mIoU in percent' in run.stdout and 'Traceback' not in run.stderr


def test_pictures_are_written_and_can_be_read(finished):
    _, folder = finished
    pictures = sorted((folder / 'pictures').rglob('*.png'))
    assert {picture.parent.name for picture in pictures} == {'fog', 'night'}
    assert all(cv2.imread(str(picture)).shape[1] > 4 * 96 for picture in pictures)
    assert cv2.imread(str(folder / 'stream.png')) is not None


@pytest.mark.slow
def test_the_same_seed_gives_the_sameresults_of(project, finished, tmp_path):
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path, '--seed', 3
    )
    assert run.returncode == 0, run.stderr
    first, second = results_of(finished[1]), results_of(tmp_path)
    for key in ('rounds', 'source', 'clear', 'mean_mIoU'):
        assert first[key] == second[key]


def _measured(part):
    if not isinstance(part, dict):
        return part
    return {k: _measured(v) for k, v in part.items() if 'estimated' not in k and 'given' not in k}


METHODS = sorted(path.stem for path in (ROOT / 'configs/_base_/adaptation').glob('*.py'))


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_methods_and_rounds_are_chosen_on_the_command_line(project, finished, tmp_path, method):
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path,
        '--method', method, '--rounds', 1,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = results_of(tmp_path)
    assert document['method'] == method and len(document['rounds']) == 1
    # Without what was estimated, which not every method has.
    assert _measured(document['source']) == _measured(results_of(finished[1])['source'])
    if method == 'source':
        source = document['source']['conditions']
        assert document['rounds'][0]['conditions'] == source
        assert document['clear']['after'] == document['clear']['source']
    elif method != 'becotta':  # Without a warm-up, and at its rate of 6e-7, it stays the source.
        assert document['rounds'][0]['conditions'] != document['source']['conditions']


@pytest.mark.slow
def test_a_stream_its_seed_and_views_are_chosen_on_the_command_line(project, finished, tmp_path):
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path, '--rounds', 1,
        '--method', 'tent', '--stream', 'mixed', '--stream-seed', 2, '--views', 2,
        '--cfg-options', 'adaptation.optimizer.lr=0.01',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = results_of(tmp_path)
    assert document['views'] == 2 and results_of(finished[1])['views'] == 1
    assert [document['rounds'][0]['conditions'][c]['frames'] for c in ('fog', 'night')] == [3, 3]
    assert document['source'] != results_of(finished[1])['source']
    conditions = [row['condition'] for row in csv.DictReader((tmp_path / 'history.csv').open())]
    assert sorted(conditions) == ['fog'] * 3 + ['night'] * 3 != conditions
    (config,) = tmp_path.glob('*.py')
    assert "lr=0.01, type='Adam'" in config.read_text()


@pytest.mark.slow
def test_a_signal_to_all_processes_saves_and_the_workers_do_not_die_of_it(project, tmp_path):
    work = tmp_path / 'work'
    command = ['test_tta', project.config, project.checkpoint, '--work-dir', work, '--cfg-options']
    options = ['test_dataloader.num_workers=1', 'test_dataloader.dataset.rounds=200']
    options += ['custom_hooks.4.interval=2', 'custom_hooks.4.max_share=None']
    with started_tool(
        *command,
        *options,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for_a_state(work, 200)
        # What systemd, Slurm and `kill -- -PGID` do.
        os.killpg(process.pid, signal.SIGTERM)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, text
    assert 'Traceback' not in text and 'continue with --resume' in text
    states = sorted(work.glob('state/*.pth'))
    assert 1 <= len(states) <= 2
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.slow
def test_workers_that_are_kept_end_with_the_run(project, tmp_path):
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'work',
        '--rounds', 1, '--cfg-options', 'test_dataloader.num_workers=2',
        'test_dataloader.persistent_workers=True', 'forgetting_dataloader.num_workers=1',
        'forgetting_dataloader.persistent_workers=True',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(('options', 'says'), [
    (['--cfg-options', 'adaptation.entropy_treshold=1'], "did you mean 'entropy_threshold'"),
    (['--cfg-options', 'test_dataloder.batch_size=1'], "has no 'test_dataloder'"),
    (['--cfg-options', 'adaptation.meta_networks=4'], 'expected meta_networks to be a dictionary'),
    (['--method', 'ecota'], 'expected one of'),
    (['--views', '15'], 'from 1 to 14'),
    (['--adapters', 'none.pth'], 'none.pth does not exist'),
    (
        ['--adapters', ROOT / 'data/checkpoints/demo_adapters.pth', '--method', 'tent'],
        'goes with a method that has meta networks',
    ),
])  # fmt: skip
def test_wrong_settings_are_one_sentence(project, tmp_path, options, says):
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'w', *options
    )
    assert says in error_of(run)
    assert not (tmp_path / 'w' / 'results.json').exists()


def test_a_first_run_needs_no_clear_day_and_few_frames(project, tmp_path):
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path,
        '--conditions', 'night', '--frames', 2, '--rounds', 1,
        '--cfg-options', 'forgetting_dataloader.dataset.dataset.data_root=not/here',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr.count('not/here does not exist') == 1
    document = results_of(tmp_path)
    assert document['conditions'] == ['night'] and document['clear']['source'] is None
    assert document['seconds_per_frame'] is not None
    with open(tmp_path / 'history.csv') as history:
        assert len(history.read().splitlines()) == 1 + 2


def test_no_rounds(project, tmp_path):
    run = run_tool('test_tta', project.config, project.checkpoint, '--rounds', 0)
    assert run.returncode == 2 and 'expected a whole number from 1' in run.stderr
    assert 'Traceback' not in run.stderr


def test_missing_and_misshapen_configs(project, tmp_path):
    run = run_tool('test_tta', tmp_path / 'none.py', project.checkpoint)
    assert 'none.py does not exist' in error_of(run)
    (tmp_path / 'bad.py').write_text('model = dict(')
    run = run_tool('test_tta', tmp_path / 'bad.py', project.checkpoint)
    assert 'bad.py cannot be read' in error_of(run)
    (tmp_path / 'typo.py').write_text(f"_base_ = ['{project.config}']\nadaptatoin = dict(lr=1)\n")
    run = run_tool('test_tta', tmp_path / 'typo.py', project.checkpoint)
    assert "did you mean 'adaptation'" in error_of(run)


def test_a_work_dir_that_cannot_be_written(project, tmp_path):
    (tmp_path / 'file').touch()
    for folder in (tmp_path / 'file' / 'work', tmp_path / 'file'):
        run = run_tool('test_tta', project.config, project.checkpoint, '--work-dir', folder)
        assert 'choose another --work-dir' in error_of(run)


class Hostile:
    """Runs code when it is unpickled without restriction."""

    def __reduce__(self):
        return os.system, ('touch code_ran',)


@pytest.mark.slow
def test_wrong_checkpoints(project, tmp_path):
    def say(path):
        work = tmp_path / 'w'
        run = run_tool('test_tta', project.config, path, '--work-dir', work, cwd=tmp_path)
        return error_of(run)

    assert 'does not exist' in say(tmp_path / 'none.pth')
    whole = project.checkpoint.read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[: len(whole) // 2])
    assert 'damaged or not a checkpoint' in say(tmp_path / 'cut.pth')
    assert 'is not one of this model' in say(DEMO_CHECKPOINT)
    state = torch.load(project.checkpoint)
    torch.save({**state, 'extra': Hostile()}, tmp_path / 'evil.pth')
    assert 'could run code' in say(tmp_path / 'evil.pth')
    assert not (tmp_path / 'code_ran').exists()


@pytest.mark.slow
def test_a_memory_budget_on_the_command_line(project, finished, tmp_path):
    arguments = ['test_tta', project.config, project.checkpoint, '--work-dir', tmp_path]
    fastest = results_of(finished[1])['memory']
    assert fastest['budget_bytes'] is None and fastest['plan'].startswith('kept of part 1')
    run = run_tool(*arguments, '--rounds', 1, '--memory-budget', '20x')
    assert run.returncode == 0, run.stderr
    memory = results_of(tmp_path)['memory']
    assert memory['budget_bytes'] == 20 * memory['predicted_inference_peak_bytes']
    assert memory['predicted_peak_bytes'] <= memory['budget_bytes']
    assert '  predicted' in run.stdout and 'Memory plan: ' in run.stdout
    message = error_of(run_tool(*arguments, '--memory-budget', '1kB'))
    assert '1000 bytes cannot be met: the smallest that can is' in message
    message = error_of(run_tool(*arguments, '--memory-budget', '1.0x', '--method', 'source'))
    assert 'expected a method that learns by gradients' in message
    message = error_of(run_tool(*arguments, '--memory-budget', 'much'))
    assert "got 'much'" in message
