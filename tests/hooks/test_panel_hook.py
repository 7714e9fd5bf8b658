import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ecotta_seg.hooks import SourceReferenceHook
from ecotta_seg.hooks.panel_hook import PanelHook
from ecotta_seg.visualization.frame_picture import rgb_image


class Source(SourceReferenceHook):
    """Offers a source prediction and counts how often it is asked."""

    def __init__(self, model):
        super().__init__()
        self.model = self.source = model
        self.asked = []

    def before_test(self, runner):
        pass

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        pass

    def after_test_epoch(self, runner, metrics=None):
        pass

    def predict(self, data_batch):
        samples = data_batch['data_samples']
        self.asked += [sample.stream_index for sample in samples]
        return self.model.read(data_batch['inputs'], samples, wrong_rows=24)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_evenly_spaced_frames_of_the_last_round(stream_runner, toy_model, tmp_path):
    source = Source(toy_model())
    hook = HOOKS.build(dict(type='PanelHook', show_dir=str(tmp_path / 'show'), width=64))
    stream_runner([source, hook]).test()
    assert files(tmp_path / 'show') == [
        'fog/02_seq1_f01.png',
        'fog/02_seq1_f03.png',
        'night/02_seq1_f01.png',
        'night/02_seq1_f03.png',
    ]
    assert source.asked == [9, 11, 13, 15]
    panel = cv2.imread(str(tmp_path / 'show' / 'fog' / '02_seq1_f01.png'))[..., ::-1]
    assert panel.shape[1] == 4 * (64 + 12) + 12
    car = (0, 0, 142)
    boxes = [panel[62:110, left : left + 64] for left in range(12, 300, 76)]
    shares = [float((box == np.array(car)).all(-1).mean()) for box in boxes]
    # The source calls everything a car; by step 10 the adapted model errs on 7 of 24 rows.
    assert shares[1] == 1
    assert 0.4 < shares[2] < 0.7 and 0.25 < shares[3] < 0.45
    # The first channel of mmcv's images is blue.
    assert boxes[0][..., 2].max() > 150 and boxes[0][..., 0].max() == 0


@pytest.mark.parametrize(
    ('rounds', 'expected'),
    [('first', {'01'}), ('all', {'01', '02', '03'}), ([2, 3], {'02', '03'}), ([9], set())],
)
def test_rounds_can_be_chosen(stream_runner, tmp_path, rounds, expected):
    hook = PanelHook(str(tmp_path / 'show'), frames_per_condition=1, rounds=rounds, width=16)
    stream_runner([hook], rounds=3, conditions=('fog',), frames=2).test()
    names = [name.split('/')[1] for name in files(tmp_path / 'show')]
    assert {name[:2] for name in names} == expected and len(names) == len(expected)


def test_without_order_source_label_or_palette(stream_runner, tmp_path):
    hook = PanelHook(width=16)
    runner = stream_runner([hook], rounds=1, order=False, labels=False, batch_size=3)
    dataset = runner._test_dataloader['dataset']
    dataset.metainfo = dict(classes=dataset.metainfo['classes'])
    runner.test()
    folder = tmp_path / 'work' / 'panels'
    assert files(folder) == [
        f'{condition}/01_seq1_f0{frame}.png' for condition in ('fog', 'night') for frame in (0, 1)
    ]
    panel = cv2.imread(str(folder / 'fog' / '01_seq1_f00.png'))
    assert panel.shape[1] == 2 * (16 + 12) + 12


def test_nothing_lands_outside_the_folder(stream_runner, toy_model, tmp_path):
    class Hostile(toy_model):
        def test_step(self, data):
            outputs = super().test_step(data)
            for sample in outputs:
                sample.set_metainfo(
                    dict(
                        condition='../../up\x1b',
                        sequence='/etc',
                        img_path='a/..\\..\\$x.png',
                    )
                )
            return outputs

    hook = PanelHook(str(tmp_path / 'in' / 'show'), width=16)
    stream_runner([hook], model=Hostile(), order=False, rounds=1).test()
    written = [path for path in files(tmp_path) if path.endswith('.png')]
    assert len(written) == 1 and written[0].startswith('in/show/')
    assert len(written[0].split('/')) == 4


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match='at least 1'):
        PanelHook('x', frames_per_condition=0)
    with pytest.raises(ValueError, match="'last', 'first', 'all'"):
        PanelHook('x', rounds='latest')


def test_what_can_be_shown_of_any_frame():
    frame = torch.arange(4 * 2 * 3).reshape(4, 2, 3) * 10
    rgb = frame[[2, 1, 0]].permute(1, 2, 0).numpy()
    assert np.array_equal(rgb_image(frame[:3].byte()), rgb)
    assert np.array_equal(rgb_image(frame.byte()), rgb), 'of more than three the first three'
    grey = rgb_image(frame[:1].byte())
    assert grey.shape == (2, 3, 3) and np.array_equal(grey[..., 0], frame[0].numpy())
    assert np.array_equal(grey[..., 0], grey[..., 2])
    for other in (frame[:3] / 255, (frame[:3] - 50.0) / 60, frame[:3] * 100):
        shown = rgb_image(other)
        assert shown.dtype == np.uint8 and shown.max() == 255 and shown.min() <= 1


class Other(Hook):
    """A user's own, with a name that ours has too."""

    priority = 'HIGHEST'
    source = None

    def predict(self, data_batch):
        raise AssertionError('this is no source')


def test_a_hook_of_a_users_own_is_not_the_source(stream_runner, toy_model, tmp_path):
    from ecotta_seg.hooks.source_reference_hook import source_hook

    source = Source(toy_model())
    panels = HOOKS.build(dict(type='PanelHook', show_dir=str(tmp_path / 'show'), width=64))
    runner = stream_runner([Other(), source, panels])
    runner.test()
    assert source.asked and source_hook(runner) is source
    alone = stream_runner([Other(), HOOKS.build(dict(type='PanelHook', width=64))])
    alone.test()
    assert source_hook(alone) is None
