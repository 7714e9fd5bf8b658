"""Metrics of others in a stream: frames without labels, and files of several conditions."""

import importlib
import shutil

import cv2
import pytest
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import project  # noqa: F401  (a fixture)

IOU = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
SOURCE = dict(type='source')


def _copied(project, tmp_path, fault):  # noqa: F811
    """The data with a fault in the second of three frames, and with that frame left out."""
    broken, less = tmp_path / 'broken', tmp_path / 'less'
    for folder in (broken, less):
        shutil.copytree(project.data, folder)
        files = [
            sorted((folder / part / 'test').rglob('*.png'))[1] for part in ('leftImg8bit', 'gtFine')
        ]
        for file in files if folder is less else ():
            file.unlink()
    files = [
        sorted((broken / part / 'test').rglob('*.png'))[1] for part in ('leftImg8bit', 'gtFine')
    ]
    image, label = files
    if fault == 'no label':
        label.unlink()
    else:
        file = image if fault == 'cut image' else label
        file.write_bytes(file.read_bytes()[:-20])
    return broken, less


def _scores(project, folder, data, metrics, hooks=(), **changes):  # noqa: F811
    hooks = [dict(type='EcoTTAHook', adaptation=SOURCE), *hooks]
    key = 'test_dataloader.dataset.dataset.data_root'
    changes = {key: str(data), 'test_evaluator': metrics, **changes}
    return _runner(project, folder, hooks, **changes).test()


@pytest.mark.slow
@pytest.mark.parametrize('fault', ['no label', 'cut label', 'cut image'])
def test_frames_without_a_label_cost_no_other_score(project, tmp_path, fault):  # noqa: F811
    broken, less = _copied(project, tmp_path, fault)
    check = [dict(type='FrameCheckHook')]
    found = _scores(project, tmp_path / 'a', broken, [IOU], check)
    expected = _scores(project, tmp_path / 'b', less, [IOU], check)
    assert found == expected and found['mIoU'] > 0


@pytest.mark.slow
def test_a_batch_of_which_one_has_no_label(project, tmp_path):  # noqa: F811
    broken, less = _copied(project, tmp_path, 'no label')
    batch = {'test_dataloader.batch_size': 3}
    found = _scores(project, tmp_path / 'a', broken, [IOU], **batch)
    assert found == _scores(project, tmp_path / 'b', less, [IOU])


def test_no_label_at_all_gives_no_score(project, tmp_path):  # noqa: F811
    data = tmp_path / 'data'
    shutil.copytree(project.data, data)
    shutil.rmtree(data / 'gtFine')
    skip = {'test_dataloader.dataset.dataset.missing_labels': 'skip'}
    assert _scores(project, tmp_path / 'a', data, [IOU], **skip) == {}


@METRICS.register_module(force=True)
class CountFrames(BaseMetric):
    """Needs no label."""

    def process(self, data_batch, data_samples):
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results):
        return {'frames': len(results)}


def test_a_metric_that_needs_no_label_gets_all_frames(project, tmp_path):  # noqa: F811
    broken, _ = _copied(project, tmp_path, 'no label')
    assert _scores(project, tmp_path / 'a', broken, [dict(type='CountFrames')]) == {'frames': 6}


@pytest.mark.parametrize('format_only', [False, True])
@pytest.mark.parametrize('missing', [False, True])
def test_every_prediction_is_kept(project, tmp_path, format_only, missing):  # noqa: F811
    data = _copied(project, tmp_path, 'no label')[0] if missing else project.data
    out = tmp_path / 'out'
    metric = dict(IOU, output_dir=str(out), format_only=format_only)
    _scores(project, tmp_path / 'a', data, [metric], **{'test_dataloader.dataset.rounds': 2})
    names = sorted(path.name for path in out.rglob('*.png'))
    assert len(names) == 12
    assert sum(name.startswith('round2_night_') for name in names) == 3
    pictures = {cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tobytes() for path in out.iterdir()}
    assert len(pictures) > 3, 'conditions differ'


def test_names_of_one_condition_and_round_stay_as_they_are(project, tmp_path):  # noqa: F811
    out = tmp_path / 'out'
    metric = dict(IOU, output_dir=str(out), format_only=True)
    one = {'test_dataloader.dataset.conditions': ['fog']}
    _scores(project, tmp_path / 'a', project.data, [metric], **one)
    images = (project.data / 'leftImg8bit' / 'test').rglob('*.png')
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in images)


def test_frames_of_one_name_in_two_sequences(project, tmp_path):  # noqa: F811
    data = tmp_path / 'data'
    shutil.copytree(project.data, data)
    for part in ('leftImg8bit', 'gtFine'):
        (folder,) = [path for path in (data / part / 'test').iterdir()]
        shutil.copytree(folder, folder.with_name('other'))
    metric = dict(IOU, output_dir=str(tmp_path / 'out'), format_only=True)
    _scores(project, tmp_path / 'a', data, [metric])
    assert len(list((tmp_path / 'out').iterdir())) == 12


def test_cityscapes_own_metric_keeps_every_prediction(
    project, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    # Only what needs the cityscapesscripts package is left out: scores and its table of ids.
    module = importlib.import_module('mmseg.evaluation.metrics.citys_metric')
    monkeypatch.setattr(module, 'CSEval', object())
    ids = staticmethod(lambda result: result)
    monkeypatch.setattr(module.CityscapesMetric, '_convert_to_label_id', ids)
    out = tmp_path / 'out'
    metric = dict(
        type='mmseg.CityscapesMetric', output_dir=str(out), format_only=True, keep_results=True
    )
    _scores(project, tmp_path / 'a', project.data, [metric])
    assert len(list(out.iterdir())) == 6


@pytest.mark.parametrize('fault', [None, 'cut image'])
def test_mmsegs_own_pictures_are_kept_by_condition_and_round(
    project, tmp_path, fault  # noqa: F811
):  # fmt: skip
    data = _copied(project, tmp_path, fault)[0] if fault else project.data
    changes = {
        'default_hooks.visualization': dict(
            type='mmseg.SegVisualizationHook', draw=True, interval=1
        ),
        'visualizer': dict(
            type='mmseg.SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')],
            save_dir=str(tmp_path / 'out'), name=tmp_path.name,
        ),
        'test_dataloader.dataset.rounds': 2,
    }  # fmt: skip
    check = [dict(type='FrameCheckHook')]
    _scores(project, tmp_path / 'a', data, [IOU], check, **changes)
    names = sorted(path.name for path in (tmp_path / 'out').rglob('*.png'))
    assert len(names) == (8 if fault else 12)
    assert sum(name.startswith('test_round2_night_') for name in names) == len(names) // 4
