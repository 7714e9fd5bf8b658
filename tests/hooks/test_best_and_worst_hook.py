import errno
import json
import os

import pytest
from mmengine.hooks import Hook

import ecotta_seg.hooks.best_and_worst_hook as module
from ecotta_seg.evaluation.class_areas import class_areas, mean_iou
from ecotta_seg.hooks import BestAndWorstHook, SourceReferenceHook
from ecotta_seg.report.frame_file import read_frame_files


class Source(SourceReferenceHook):
    """Offers predictions that are ever better, and counts how often it is asked to predict."""

    def __init__(self, model):
        super().__init__()
        self.model = self.source = model
        self.asked = []

    def before_test(self, runner):
        self.areas = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.latest = list(zip(self._masks(data_batch), outputs))

    def after_test_epoch(self, runner, metrics=None):
        pass

    def _masks(self, batch):
        samples = batch['data_samples']
        return [
            self.model.read([image], [sample], wrong_rows=6 + 4 * (sample.stream_index % 4))[0]
            for image, sample in zip(batch['inputs'], samples)
        ]

    def source_areas(self, index=-1):
        mask, sample = self.latest[index]
        if sample.round != 1 or 'gt_sem_seg' not in sample:
            return None
        return class_areas(mask.pred_sem_seg.data[0], sample.gt_sem_seg.data[0], 4)

    def predict(self, data_batch):
        self.asked += [sample.stream_index for sample in data_batch['data_samples']]
        return self._masks(data_batch)


class Records(Hook):
    """mIoU of each frame, counted apart from the metric."""

    priority = 'LOWEST'

    def __init__(self):
        self.scores = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()):
        for sample in outputs:
            areas = class_areas(sample.pred_sem_seg.data[0], sample.gt_sem_seg.data[0], 4)
            self.scores[sample.stream_index] = mean_iou(areas)


def kept(folder):
    return {(f['condition'], f['kind']): f for f in read_frame_files(folder)}


def test_frames_with_the_largest_gain_and_loss_of_the_last_round(
    stream_runner, toy_model, tmp_path
):
    source, records = Source(toy_model()), Records()
    stream_runner([source, records, BestAndWorstHook(width=64)]).test()
    frames = kept(tmp_path / 'work')
    assert set(frames) == {(c, k) for c in ('fog', 'night') for k in ('best', 'worst')}
    model = toy_model()
    for number, condition in enumerate(('fog', 'night')):
        differences = {}
        for place in range(4):
            index = 8 + 4 * number + place
            sample = stream_runner([]).test_dataloader.dataset[index]
            found = model.read([sample['inputs']], [sample['data_samples']], 6 + 4 * place)[0]
            label = sample['data_samples'].gt_sem_seg.data[0]
            before = mean_iou(class_areas(found.pred_sem_seg.data[0], label, 4))
            differences[index] = records.scores[index] - before
        for kind, choose in (('best', max), ('worst', min)):
            index = choose(differences, key=differences.get)
            frame = frames[condition, kind]
            assert frame['stream_index'] == index and frame['round'] == 2
            assert frame['difference'] == pytest.approx(differences[index])
            assert frame['adapted_mIoU'] == pytest.approx(records.scores[index])
            assert frame['frame'] == f'seq1_f{index % 4:02d}'
    names = [name for name, _ in frames['fog', 'best']['pictures']]
    assert names == ['image', 'source', 'adapted', 'label']
    # The source predicts again what is kept alone, and nothing of round 1.
    assert source.asked and min(source.asked) >= 8


def test_without_labels_or_a_source_nothing_is_written(stream_runner, toy_model, tmp_path):
    stream_runner([BestAndWorstHook()]).test()
    stream_runner([Source(toy_model()), BestAndWorstHook()], labels=False).test()
    assert not (tmp_path / 'work' / 'report_pictures').exists()


def test_frames_of_an_earlier_run_go_away(stream_runner, toy_model, tmp_path):
    stream_runner([Source(toy_model()), BestAndWorstHook(width=32)]).test()
    assert len(kept(tmp_path / 'work')) == 4
    hooks = [Source(toy_model()), BestAndWorstHook(width=32)]
    stream_runner(hooks, conditions=('rain',)).test()
    assert set(kept(tmp_path / 'work')) == {('rain', 'best'), ('rain', 'worst')}


def test_a_state_goes_on_where_it_stopped(stream_runner, toy_model, tmp_path):
    class Stops(Hook):
        priority = 'LOWEST'

        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()):
            if batch_idx == 10:
                raise KeyboardInterrupt

    class Resumes(Hook):
        """As StreamStateHook: loads the state, and the loop begins behind it."""

        priority = 35

        def __init__(self, hook, state):
            self.hook, self.state = hook, state

        def before_test(self, runner):
            self.hook.load_state_dict(self.state)
            dataset = runner.test_dataloader.dataset
            runner.test_dataloader.batch_sampler.sampler = range(11, len(dataset))

    def later(model):
        model.steps = 11
        return model

    stream_runner([Source(toy_model()), BestAndWorstHook(width=32)]).test()
    whole = {path.name: path.read_text() for path in (tmp_path / 'work/report_pictures').iterdir()}
    hook = BestAndWorstHook(width=32)
    with pytest.raises(KeyboardInterrupt):
        stream_runner([Source(toy_model()), hook, Stops()]).test()
    state = json.loads(json.dumps(hook.state_dict()))
    hook = BestAndWorstHook(width=32)
    hooks = [Source(toy_model()), hook, Resumes(hook, state)]
    stream_runner(hooks, model=later(toy_model())).test()
    found = {path.name: path.read_text() for path in (tmp_path / 'work/report_pictures').iterdir()}
    assert found == whole


def test_a_full_disk_stops_the_pictures_alone(stream_runner, toy_model, tmp_path, monkeypatch):
    calls = []

    def full(*arguments):
        calls.append(arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'x.json')

    monkeypatch.setattr(module, 'write_frame_file', full)
    metrics = stream_runner([Source(toy_model()), BestAndWorstHook()]).test()
    assert metrics['mIoU'] > 0 and len(calls) == 1


def test_a_width_below_a_pixel_is_refused():
    with pytest.raises(ValueError, match='at least 1 pixel, got 0'):
        BestAndWorstHook(width=0)
