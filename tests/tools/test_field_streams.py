"""tools/test_tta.py on a data set of the field, and on a folder of pictures without labels."""

import json

import numpy as np
import pytest

from ecotta_seg.cli.console import load_tool
from tests.datasets.driving_files import muses
from tests.tools.conftest import ROOT, error_of, run_tool

MODEL = """
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    decode_head=dict(in_channels=32, channels=8, c1_in_channels=4, c1_channels=4),
)
loader = dict(num_workers=0, persistent_workers=False)
test_dataloader = loader
"""


def _config(path, name, more=''):
    """A config as a user would write it: our data set, another model."""
    bases = ['models/deeplabv3plus_demo', f'datasets/{name}', 'adaptation/ecotta']
    bases = [f'{ROOT}/configs/_base_/{base}.py' for base in [*bases, 'runtime/adaptation']]
    path.write_text(f'_base_ = {bases!r}\n{MODEL}{more}')
    return path


@pytest.mark.slow
def test_a_folder_of_pictures_is_predicted_and_not_scored(project, tmp_path):
    frames = project.data / 'leftImg8bit/test'
    config = _config(tmp_path / 'config.py', 'frame_folder')
    arguments = (config, project.checkpoint, '--work-dir', tmp_path / 'run', '--device', 'cpu')
    run = run_tool(
        'test_tta', *arguments, '--show-dir', tmp_path / 'pictures',
        FRAMES_ROOT=str(frames),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / 'run/results.json').read_text())
    scores = document['rounds'][0]['conditions']['frames']
    assert (scores['frames'], scores['frames_without_label']) == (0, 3)
    assert scores['mIoU'] is None and document['mean_mIoU'] is None
    assert set(document['clear'].values()) == {None}
    assert '3 frames without a label were predicted but not scored' in run.stdout
    assert document['events'] == [] and list((tmp_path / 'pictures/frames').iterdir())
    run = run_tool('test_tta', *arguments, FRAMES_ROOT=str(tmp_path / 'none'))
    assert 'FRAMES_ROOT' in error_of(run)


@pytest.mark.slow
def test_a_data_set_of_the_field_is_scored(project, tmp_path):
    muses(tmp_path / 'muses')
    more = 'forgetting_dataloader = None\ntest_dataloader.update(dataset=dict(dataset=dict()))\n'
    config = _config(tmp_path / 'config.py', 'muses_stream', more)
    run = run_tool(
        *('test_tta', config, project.checkpoint, '--work-dir', tmp_path / 'run'),
        *('--device', 'cpu', '--rounds', 1, '--method', 'source'),
        *('--cfg-options', 'test_dataloader.dataset.conditions=(fog_day,snow_night)'),
        MUSES_ROOT=str(tmp_path / 'muses'),
    )
    assert run.returncode == 0, run.stderr
    rounds = json.loads((tmp_path / 'run/results.json').read_text())['rounds']
    assert list(rounds[0]['conditions']) == ['fog_day', 'snow_night']
    for scores in rounds[0]['conditions'].values():
        assert scores['frames'] == 1 and scores['frames_without_label'] == 0
        # Road, person and pole are in the label, nothing else.
        left = set(scores['IoU']) - set(scores['left_out'])
        assert left == {'road', 'person', 'pole'} and np.isfinite(scores['mIoU'])


def test_a_mistyped_clear_day_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('ACDC_ROOT', str(tmp_path))
    monkeypatch.setenv('CITYSCAPES_ROOT', str(tmp_path / 'mistyped'))
    tool = load_tool(ROOT / 'tools' / 'test_tta.py')
    config = str(ROOT / 'configs' / 'acdc_ecotta.py')
    checkpoint = str(ROOT / 'data' / 'checkpoints' / 'demo_source.pth')
    arguments = tool.parse_args([config, checkpoint])
    says = 'mistyped .* set the environment variable CITYSCAPES_ROOT, or .* forgetting_dataloader'
    with pytest.raises(ValueError, match=says):
        tool.first_look(arguments)
