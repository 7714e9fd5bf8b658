"""tools/test_tta.py on a video and on a folder: no labels, and the label-free estimate."""

import json

import cv2
import pytest

from ecotta_seg.cli.command_line import run_tool
from ecotta_seg.cli.console import load_tool
from tests.apis.small_segmentor import checkpoint_of, frames, write_config
from tests.tools.conftest import ROOT

tool = load_tool(ROOT / 'tools' / 'test_tta.py')
DATA = """
inner = dict(type='{kind}', data_root='{root}', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='PackSegInputs')])
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ContinualStream', dataset=inner, rounds=1, conditions=('drive',)))
forgetting_dataloader = None
"""


def write_frames(folder, kind):
    """Six frames as pictures of a folder or as a video without losses."""
    stream = list(frames(6))
    if kind == 'FrameFolderDataset':
        (folder / 'drive').mkdir()
        for number, frame in enumerate(stream):
            cv2.imwrite(str(folder / f'drive/{number}.png'), frame)
        return folder / 'drive'
    writer = cv2.VideoWriter(
        str(folder / 'drive.avi'), cv2.VideoWriter_fourcc(*'FFV1'), 10, (96, 64)
    )
    for frame in stream:
        writer.write(frame)
    writer.release()
    return folder / 'drive.avi'


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['FrameFolderDataset', 'VideoFramesDataset'])
def test_the_estimate_is_reported(tmp_path, kind):
    config = write_config(tmp_path, 'ecotta_plus')
    with open(config, 'a') as file:
        file.write(DATA.format(kind=kind, root=write_frames(tmp_path, kind)))
    arguments = [str(config), str(checkpoint_of(config)), '--work-dir', str(tmp_path / 'run')]
    options = ['--out', str(tmp_path / 'masks'), '--cfg-options', 'estimate.every=1']
    assert run_tool(tool.main, [*arguments, *options]) == 0
    results = json.loads((tmp_path / 'run/results.json').read_text())
    (condition,) = results['rounds'][0]['conditions'].values()
    assert condition.get('mIoU') is None
    for key in ('estimated_mIoU', 'source_estimated_mIoU'):
        assert 0 <= condition[key] <= 100
    assert len(list((tmp_path / 'masks/round_1/drive').glob('*.png'))) == 6
    # The page shows them to two digits.
    page = (tmp_path / 'run/report.html').read_text()
    for key in ('estimated_mIoU', 'source_estimated_mIoU'):
        assert f'{condition[key]:.2f}' in page
