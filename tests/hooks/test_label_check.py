"""Labels looked at before a stream starts, of our data sets and of mmseg's own."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from ecotta_seg.hooks.label_check import look_at_labels
from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import project  # noqa: F401  (a fixture)

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]


class Told:
    """A logger's warnings."""

    def __init__(self, runner):
        self.texts = []
        runner.logger.warning = lambda text, *_: self.texts.append(text)


@pytest.fixture
def data(project, tmp_path):  # noqa: F811
    """A copy of the data, and a function that changes the labels of the tested frames."""
    folder = tmp_path / 'data'
    shutil.copytree(project.data, folder)
    labels = sorted((folder / 'gtFine' / 'test').rglob('*.png'))

    def change(function, which=slice(None), name=None):
        for label in labels[which]:
            ids = function(cv2.imread(str(label), cv2.IMREAD_UNCHANGED))
            cv2.imwrite(str(label), ids)
            if name is not None:
                label.rename(str(label).replace('labelTrainIds', name))

    return folder, change


def _built(project, tmp_path, folder, plain=False, **changes):  # noqa: F811
    key = 'test_dataloader.dataset'
    if plain:
        changes = {
            key: dict(
                _delete_=True, type='mmseg.CityscapesDataset', data_root=str(folder),
                data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
                pipeline=PIPELINE, **changes,
            )
        }  # fmt: skip
        runner = _runner(project, tmp_path / 'a', [])
        runner.cfg.merge_from_dict(changes)
        from mmengine.runner import Runner

        return Runner.from_cfg(runner.cfg)
    changes = {f'{key}.dataset.{name}': value for name, value in changes.items()}
    changes[f'{key}.dataset.data_root'] = str(folder)
    return _runner(project, tmp_path / 'a', [], **changes)


@pytest.mark.parametrize('plain', [False, True])
def test_right_labels_are_no_matter(project, tmp_path, data, plain):  # noqa: F811
    runner = _built(project, tmp_path, data[0], plain)
    told = Told(runner)
    look_at_labels(runner)
    assert not told.texts
    if not plain:
        assert runner.test_dataloader.dataset.mark_bad_frames is False


@pytest.mark.parametrize('plain', [False, True])
@pytest.mark.parametrize('which', [slice(None), slice(1, 2), slice(2, 3)])
def test_ids_out_of_range_are_refused(project, tmp_path, data, plain, which):  # noqa: F811
    folder, change = data
    change(lambda ids: np.full_like(ids, 33), which)
    with pytest.raises(ValueError, match='the label holds the ids 33, but 0 to 18 and 255'):
        look_at_labels(_built(project, tmp_path, folder, plain))


def test_ids_that_mmseg_would_cut_off_are_refused(project, tmp_path, data):  # noqa: F811
    folder, change = data
    change(lambda ids: ids.astype(np.uint16) + 2560)
    with pytest.raises(ValueError, match='holds the id 25.*cuts ids to 8 bits'):
        look_at_labels(_built(project, tmp_path, folder, plain=True))


def test_16_bits_of_the_same_ids_are_right_for_mmsegs_own_loading(
    project, tmp_path, data  # noqa: F811
):  # fmt: skip
    folder, change = data
    change(lambda ids: ids.astype(np.uint16))
    look_at_labels(_built(project, tmp_path, folder, plain=True))


@pytest.mark.parametrize('channels', [3, 4])
def test_colour_pictures_are_refused_of_mmsegs_own_data_sets(
    project, tmp_path, data, channels  # noqa: F811
):  # fmt: skip
    folder, change = data
    change(lambda ids: np.dstack([ids] * channels))
    with pytest.raises(
        ValueError, match=f'the label has {channels} channels, but one channel of class'
    ):
        look_at_labels(_built(project, tmp_path, folder, plain=True))


def test_a_palette_changes_no_id(project, tmp_path, data):  # noqa: F811
    folder, change = data
    runner = _built(project, tmp_path, folder, plain=True)
    plain = [runner.test_dataloader.dataset[index] for index in range(3)]
    for path in (folder / 'gtFine' / 'test').rglob('*.png'):
        label = Image.fromarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).convert('P')
        label.putpalette(list(range(255, -1, -1)) * 3)
        label.save(path)
    look_at_labels(runner)
    for index, sample in enumerate(plain):
        label = runner.test_dataloader.dataset[index]['data_samples'].gt_sem_seg.data
        assert (label == sample['data_samples'].gt_sem_seg.data).all()


@pytest.mark.parametrize('plain', [False, True])
def test_34_ids_by_the_files_name_are_refused(project, tmp_path, data, plain):  # noqa: F811
    folder, change = data
    # Road, building and no id above 18: nothing in it is out of range.
    change(lambda ids: np.where(ids == 0, 7, 11).astype(np.uint8), name='labelIds')
    suffix = dict(seg_map_suffix='_gtFine_labelIds.png')
    with pytest.raises(ValueError, match="by its name the label has Cityscapes' 34 ids"):
        look_at_labels(_built(project, tmp_path, folder, plain, **suffix))


@pytest.mark.parametrize(('value', 'text'), [
    (255, 'fog .3 labels checked.: every pixel is ignored'),
    (0, 'fog .3 labels checked.: all pixels have the one id 0'),
])  # fmt: skip
def test_odd_labels_are_told(project, tmp_path, data, value, text):  # noqa: F811
    import re

    folder, change = data
    change(lambda ids: np.full_like(ids, value))
    runner = _built(project, tmp_path, folder)
    told = Told(runner)
    look_at_labels(runner)
    assert len(told.texts) == 2 and re.search(text, told.texts[0])
    assert 'night' in told.texts[1]


@pytest.mark.parametrize('bad', [False, True])
def test_data_sets_in_a_row_are_looked_into(project, tmp_path, data, bad):  # noqa: F811
    folder, change = data
    part = dict(
        type='mmseg.CityscapesDataset', pipeline=PIPELINE,
        data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
    )  # fmt: skip
    parts = [dict(part, data_root=str(root)) for root in (project.data, folder)]
    if bad:
        change(lambda ids: np.full_like(ids, 33))
    runner = _runner(project, tmp_path / 'a', [dict(type='EcoTTAHook')])
    runner.cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    from mmengine.runner import Runner

    runner = Runner.from_cfg(runner.cfg)
    if bad:
        with pytest.raises(ValueError, match='the label holds the ids 33'):
            runner.call_hook('before_test')
    else:
        runner.call_hook('before_test')


def test_broken_files_are_left_to_the_stream(project, tmp_path, data):  # noqa: F811
    folder, _ = data
    for part in ('leftImg8bit', 'gtFine'):
        file = sorted((folder / part / 'test').rglob('*.png'))[0]
        file.write_bytes(file.read_bytes()[:-20])
    look_at_labels(_built(project, tmp_path, folder))


def test_the_hook_looks_before_the_first_frame(project, tmp_path, data):  # noqa: F811
    folder, change = data
    change(lambda ids: np.full_like(ids, 33), slice(2, 3))
    key = 'test_dataloader.dataset.dataset.data_root'
    runner = _runner(project, tmp_path / 'a', [dict(type='EcoTTAHook')], **{key: str(folder)})
    with pytest.raises(ValueError, match='the label holds the ids 33'):
        runner.call_hook('before_test')
