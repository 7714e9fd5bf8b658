"""tools/test_tta.py on files that are missing, broken or of other sizes."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tools.conftest import error_of, results_of, run_tool


def _copy_of_data(project, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(project.data, data)
    options = [
        f'{name}.dataset.dataset.data_root={data}'
        for name in ('test_dataloader', 'forgetting_dataloader')
    ]
    return data, ['--cfg-options', *options]


def _frame(data, kind):
    folder = data / ('leftImg8bit' if kind == 'image' else 'gtFine') / 'test'
    return sorted(folder.rglob('*.png'))[1]


def _break(data, how):
    image, label = _frame(data, 'image'), _frame(data, 'label')
    if how == 'no frames':
        shutil.rmtree(image.parent)
        image.parent.mkdir()
    elif how == 'image without label':
        label.unlink()
    elif how == 'no label at all':
        shutil.rmtree(data / 'gtFine' / 'test')
    elif how == 'label of another size':
        cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[:, :50])
    elif how == 'unknown ids':
        cv2.imwrite(str(label), np.full((48, 96), 33, np.uint8))
    elif how == 'truncated image':
        content = image.read_bytes()
        image.write_bytes(content[: len(content) // 2])
    else:
        image.write_bytes(b'')


@pytest.mark.slow
@pytest.mark.parametrize(('how', 'says', 'workers'), [
    ('no frames', 'image folder', 0),
    ('no label at all', 'labelTrainIds', 0),
    ('label of another size', '50', 0),
    ('unknown ids', '33', 1),
    ('truncated image', 'leftImg8bit', 1),
    ('empty image', 'leftImg8bit', 0),
])  # fmt: skip
def test_broken_data_is_one_sentence(project, tmp_path, how, says, workers):
    data, options = _copy_of_data(project, tmp_path)
    _break(data, how)
    results = tmp_path / 'work' / 'results.json'
    results.parent.mkdir()
    results.write_text('earlier')
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', results.parent, *options,
        f'test_dataloader.num_workers={workers}',
    )  # fmt: skip
    assert says in error_of(run)
    assert results.read_text() == 'earlier'


@pytest.mark.slow
def test_labels_that_are_missing_in_part_cost_scores_alone(project, tmp_path):
    data, options = _copy_of_data(project, tmp_path)
    _break(data, 'image without label')
    command = ('test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'work')
    run = run_tool(*command, '--strict', *options)
    assert 'has no label' in error_of(run)
    run = run_tool(*command, *options)
    assert run.returncode == 0, run.stderr
    assert '1 of 3 images of fog have no label' in run.stdout + run.stderr
    fog = results_of(tmp_path / 'work')['rounds'][0]['conditions']['fog']
    assert fog['frames'] == 2 and fog['mIoU'] is not None


@pytest.mark.slow
def test_strict_stops_at_a_bad_frame_and_tolerant_goes_on_from_there(project, tmp_path):
    data, options = _copy_of_data(project, tmp_path)
    _break(data, 'truncated image')
    image = _frame(data, 'image')
    # The clear day is read from elsewhere: what scores the source has to be whole.
    options.append(f'forgetting_dataloader.dataset.dataset.data_root={project.data}')
    command = ('test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'work')
    run = run_tool(*command, '--strict', *options)
    assert image.name in error_of(run)
    assert not (tmp_path / 'work' / 'results.json').exists()
    run = run_tool(*command, '--resume', *options)
    assert run.returncode == 0, run.stderr
    events = results_of(tmp_path / 'work')['events']
    assert {Path(event['path']).name for event in events} == {image.name}
    assert {event['event'] for event in events} == {'bad_frame'}
