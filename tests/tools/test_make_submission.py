"""From unlabelled test frames to the archive of a server, by the tools."""

import importlib.util
import zipfile

import cv2
import numpy as np
import pytest

from ecotta_seg.cli.command_line import run_tool as run_here
from tests.tools.conftest import ROOT, error_of, run_tool

CONFIG = """
_base_ = ['{config}']
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 54), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    dataset=dict(
        _delete_=True, type='ContinualStream', conditions=('fog', 'night'), rounds=1,
        dataset=dict(type='ACDCDataset', data_root='{root}', split='test', pipeline=pipeline),
    )
)
"""


@pytest.fixture(scope='module')
def masks(project, tmp_path_factory):
    """The folder of a run on ACDC's test split, two frames, and that of the images."""
    folder = tmp_path_factory.mktemp('acdc')
    random = np.random.default_rng(0)
    for condition, sequence in (('fog', 'GOPR0475'), ('night', 'GP010364')):
        image = random.integers(0, 256, (27, 48, 3), dtype=np.uint8)
        path = folder / f'rgb_anon/{condition}/test/{sequence}/{sequence}_frame_000047_rgb_anon.png'
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), cv2.resize(image, (1920, 1080)))
    config = folder / 'acdc.py'
    config.write_text(CONFIG.format(config=project.config, root=folder))
    run = run_tool(
        'test_tta', config, project.checkpoint, '--work-dir', folder / 'work', '--out',
        folder / 'masks', '--out-format', 'label_ids', '--out-source',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder / 'masks', folder / 'rgb_anon'


@pytest.mark.slow
def test_from_frames_to_an_archive(masks, tmp_path):
    folder, images = masks
    own = (folder, tmp_path / 'acdc.zip', '--server', 'acdc', '--images', images)
    run = run_tool('make_submission', *own, '--part', 'round_1')
    assert run.returncode == 0, run.stderr
    assert '2 masks for acdc are in' in run.stdout
    with zipfile.ZipFile(tmp_path / 'acdc.zip') as archive:
        assert archive.namelist() == [
            'labelTrainIds/GOPR0475_frame_000047_rgb_anon.png',
            'labelTrainIds/GP010364_frame_000047_rgb_anon.png',
        ]
        for name in archive.namelist():
            mask = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), -1)
            written = cv2.imread(str(next(folder.glob(f'round_1/*/{name[14:]}'))), -1)
            ids = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
            assert np.array_equal(np.array(ids)[mask], written)
    check = ('--check', tmp_path / 'acdc.zip', '--server', 'acdc')
    run = run_tool('make_submission', *check, '--images', images)
    assert run.returncode == 0 and 'has the form that acdc takes' in run.stdout, run.stderr
    assert 'takes masks of all 2000 images' in error_of(run_tool('make_submission', *check))


def test_mistakes_are_one_sentence(masks, project, tmp_path, capsys):
    def message(name, *arguments):
        """What a tool says, run in this process: it refuses before anything is built."""
        path = ROOT / 'tools' / f'{name}.py'
        spec = importlib.util.spec_from_file_location(name, path)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        assert run_here(tool.main, [str(argument) for argument in arguments]) == 2
        text = capsys.readouterr().err
        (line,) = [line for line in text.splitlines() if line.startswith('error: ')]
        return line

    folder, images = masks
    out = tmp_path / 'out.zip'
    acdc = ('--server', 'acdc', '--images', images)
    submit = 'make_submission'
    assert 'of round_1, source: name' in message(submit, folder, out, *acdc, '--part', 'round_2')
    assert 'muses takes labelTrainIds/' in message(submit, folder, out, '--server', 'muses')
    assert 'none holds no masks.json' in message(submit, tmp_path / 'none', out, *acdc)
    assert 'and the archive to write' in message(submit, out, *acdc)
    (tmp_path / 'file').touch()
    assert str(tmp_path / 'file') in message(submit, folder, tmp_path / 'file' / 'o.zip', *acdc)
    assert [path.name for path in tmp_path.iterdir()] == ['file']
    run = ('test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'w')
    assert 'choose another --out' in message(*run, '--out', tmp_path / 'file')
    assert 'need --out DIR' in message(*run, '--out-format', 'colours')
    assert 'holds the masks of another run' in message(*run, '--out', folder)
