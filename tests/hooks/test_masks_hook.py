"""The masks that a run writes: all of them, whole, and those of its own predictions."""

import hashlib
import shutil
import signal

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from ecotta_seg.hooks import MasksHook, StreamStateHook
from ecotta_seg.masks import MaskFolder
from tests.files.test_png_file import full_disk
from tests.hooks.test_panel_hook import Source, files
from tests.tools.conftest import error_of, project, run_tool, started_tool, wait_for_a_state  # noqa: F401


class Spy(Hook):
    """Keeps each frame's prediction by the name of its file."""

    priority = 'HIGHEST'

    def before_test(self, runner):
        self.masks = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()):
        for sample in outputs:
            place = f'round_{sample.round}/{sample.condition}'
            name = sample.img_path.split('/')[-1]
            self.masks[f'{place}/{name}'] = sample.pred_sem_seg.data[0].numpy().copy()


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize('batch_size', [1, 3])
def test_each_prediction_has_its_file(stream_runner, tmp_path, batch_size):
    spy = Spy()
    stream_runner([spy, MasksHook(str(tmp_path / 'out'))], batch_size=batch_size).test()
    assert files(tmp_path / 'out') == sorted(['masks.json', *spy.masks]) and len(spy.masks) == 16
    for name, mask in spy.masks.items():
        found = read(tmp_path / 'out' / name)
        assert found.dtype == np.uint8 and np.array_equal(found, mask)
    manifest = MaskFolder(tmp_path / 'out').read()
    assert manifest['complete'] and manifest['frames'] == 16 and manifest['rounds'] == 2
    assert manifest['classes'] == ['road', 'car', 'sky', 'bus']


def test_the_source_is_written_once_and_changes_no_other_mask(stream_runner, toy_model, tmp_path):
    spy, source = Spy(), Source(toy_model())
    hook = MasksHook(str(tmp_path / 'out'), source=True)
    stream_runner([spy, source, hook], batch_size=3).test()
    own = [name for name in files(tmp_path / 'out') if name.startswith('source/')]
    assert own == sorted(n.replace('round_1', 'source') for n in spy.masks if 'round_1' in n)
    # The stand-in for a source sees nothing but cars.
    assert all((read(tmp_path / 'out' / name) == 1).all() for name in own)
    for name, mask in spy.masks.items():
        assert np.array_equal(read(tmp_path / 'out' / name), mask)
    # A batch over the end of the round is asked for as a whole.
    assert source.asked == list(range(9))


def test_formats_and_sizes(stream_runner, tmp_path):
    spy = Spy()
    colours = MasksHook(str(tmp_path / 'c'), 'colours')
    labels = MasksHook(str(tmp_path / 'l'), 'label_ids', size='frame')

    class Smaller(Hook):
        """As if the pipeline had resized the frames."""

        priority = 'HIGHEST'

        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()):
            for sample in outputs:
                sample.set_metainfo({'img_shape': (12, 16)})

    stream_runner([spy, Smaller(), colours, labels], rounds=1, conditions=('fog',)).test()
    palette = np.array([[128, 64, 128], [0, 0, 142], [70, 130, 180], [0, 60, 100]])
    for name, mask in spy.masks.items():
        assert np.array_equal(read(tmp_path / 'c' / name)[..., ::-1], palette[mask])
        found = read(tmp_path / 'l' / name)
        assert found.shape == (12, 16)
        ids = torch.tensor([7, 26, 23, 28])[torch.from_numpy(mask)].float()
        # Each pixel is one of the four that it takes the place of.
        blocks = ids.reshape(12, 2, 16, 2).permute(0, 2, 1, 3).reshape(12, 16, 4)
        assert (blocks == torch.from_numpy(found)[..., None].float()).any(-1).all()


def test_images_of_the_same_name_and_hostile_names(stream_runner, tmp_path):
    hook = MasksHook(str(tmp_path / 'in' / 'out'))
    runner = stream_runner([hook], rounds=1, conditions=('fog', '../../up'), frames=2)
    dataset, own = runner._test_dataloader['dataset'], type(runner._test_dataloader['dataset'])

    class Same(own):
        def get_data_info(self, index):
            position = self.position(index)
            path = f'data/drive{position.frame}/1.png'
            return dict(img_path=path, condition=position.condition, round=position.round)

        def __getitem__(self, index):
            item = super().__getitem__(index)
            item['data_samples'].set_metainfo(self.get_data_info(index))
            return item

    dataset.__class__ = Same
    runner.test()
    found = files(tmp_path)
    masks = [name for name in found if name.endswith('.png')]
    assert len(masks) == 4 and all(name.startswith('in/out/round_1/') for name in masks)
    assert {name.split('/')[-1] for name in masks} == {'drive0_1.png', 'drive1_1.png'}


def test_a_full_disk_stops_the_run_and_leaves_no_half_mask(stream_runner, tmp_path, monkeypatch):
    hook = MasksHook(str(tmp_path / 'out'))
    runner = stream_runner([hook], rounds=1)
    monkeypatch.setattr(type(runner._test_dataloader['dataset']), 'size', (120, 160))
    with full_disk(2000), pytest.raises(OSError, match=r'fog/seq1_f00_leftImg8bit.png could not'):
        runner.test()
    assert files(tmp_path / 'out') == ['masks.json']
    assert not MaskFolder(tmp_path / 'out').read()['complete']


def test_wrong_settings_are_refused_before_the_first_frame(stream_runner, tmp_path):
    with pytest.raises(ValueError, match='expected one of label, frame'):
        MasksHook(size='full')
    spy = Spy()
    for hook, says in (
        (MasksHook(out_format='colors'), 'expected one of train_ids'),
        (MasksHook(source=True), 'need a SourceReferenceHook'),
    ):
        with pytest.raises(ValueError, match=says):
            stream_runner([spy, hook]).test()
    stream_runner([MasksHook()], rounds=1).test()
    with pytest.raises(ValueError, match='holds the masks of another run'):
        stream_runner([spy, MasksHook()], rounds=1).test()
    assert not spy.masks


def test_frames_before_a_stop_must_have_their_masks(stream_runner, tmp_path):
    """A state without masks, as of a run that was started without the hook."""

    class Goes(Hook):
        priority = StreamStateHook.priority

        def before_test(self, runner):
            runner.message_hub.update_info('ecotta_seg/resumed_at', 3)

    spy = Spy()
    runner = stream_runner([spy, Goes(), MasksHook()], rounds=1)
    dataset = runner._test_dataloader['dataset']
    dataset.get_data_info = lambda index: dataset[index]['data_samples'].metainfo
    with pytest.raises(ValueError, match='lacks 3 of the 3 masks of the frames before the stop'):
        runner.test()
    assert not spy.masks


def _digests(folder):
    paths = [path for path in folder.rglob('*.png')]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).digest() for p in paths}


@pytest.mark.slow
def test_a_killed_run_ends_with_the_masks_of_a_whole_one(project, tmp_path):  # noqa: F811
    def command(name):
        return [
            *('test_tta', project.config, project.checkpoint, '--method', 'tent', '--rounds', 12),
            *('--work-dir', tmp_path / name, '--out', tmp_path / name / 'masks', '--out-source'),
        ]

    states = ['--cfg-options', 'custom_hooks.4.interval=2', 'custom_hooks.4.max_share=None']
    with started_tool(*command('stopped'), *states) as process:
        wait_for_a_state(tmp_path / 'stopped', 120)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    masks = tmp_path / 'stopped' / 'masks'
    assert not MaskFolder(masks).read()['complete']
    # As if the kill had come a frame later: what is after the state comes again.
    later = masks / 'round_12' / 'fog'
    later.mkdir(parents=True, exist_ok=True)
    shutil.copy(next((masks / 'round_1').rglob('*.png')), later)
    run = run_tool(*command('stopped'), '--resume', '--out-format', 'colours', *states)
    assert 'another format (train_ids, not colours)' in error_of(run)
    run = run_tool(*command('stopped'), '--resume', *states)
    assert run.returncode == 0 and 'continuing after frame' in run.stdout + run.stderr
    run = run_tool(*command('whole'), *states)
    assert run.returncode == 0, run.stderr
    stopped, whole = _digests(masks), _digests(tmp_path / 'whole' / 'masks')
    assert stopped == whole and len(whole) == 13 * 6
    assert len(set(whole.values())) > 12
    assert MaskFolder(masks).read()['complete']
