import importlib.util
import sys
import threading
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from ecotta_seg.apis import init_adaptive_segmentor
from ecotta_seg.apis.init_segmentor import frame_pipeline

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


@pytest.fixture
def config(tmp_path):
    """A function that writes the config of a tiny model with a method."""
    return lambda name='ecotta': harness.write_config(tmp_path / f'{name}.py', name, tmp_path)


def frames(count, seed=0):
    """Pictures of coloured blocks, (64, 96, 3) uint8."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        blocks = generator.integers(30, 220, (4, 6, 3))
        image = np.kron(blocks, np.ones((16, 16, 1))) + generator.integers(-9, 10, (64, 96, 3))
        yield image.clip(0, 255).astype(np.uint8)


def built(config, **options):
    torch.manual_seed(0)
    return init_adaptive_segmentor(config, **options)


def test_a_step_predicts_and_learns(config):
    segmentor = built(config())
    before = segmentor.method.method_state()['tensors']
    for frame in frames(3):
        expected = segmentor.predict(frame).pred_sem_seg.data
        sample = segmentor.step(frame)
        assert sample.pred_sem_seg.data.shape == (1, 64, 96)
        # The prediction is that of the forward before the update.
        assert torch.equal(sample.pred_sem_seg.data, expected)
        assert sample.metainfo['updated']
    after = segmentor.method.method_state()['tensors']
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (segmentor.frames, segmentor.updates, segmentor.events) == (3, 3, [])


def test_steps_are_those_of_the_method_itself(config):
    segmentor, plain = built(config('tent')), built(config('tent')).method
    plain.guard = None
    for frame in frames(3):
        sample = segmentor.step(frame)
        image = torch.from_numpy(frame).permute(2, 0, 1)
        data = {'inputs': [image], 'data_samples': [sample.clone()]}
        assert torch.equal(plain.test_step(data)[0].seg_logits.data, sample.seg_logits.data)


def test_every_nth_frame_and_bad_frames(config):
    segmentor = built(config(), adapt_every=3)
    assert [segmentor.step(f).metainfo['updated'] for f in frames(7)] == [
        True, False, False, True, False, False, True,
    ]  # fmt: skip
    segmentor = built(config())
    (frame,) = frames(1)
    assert segmentor.step(frame).metainfo['updated']
    frozen = segmentor.step(frame)
    black = segmentor.step(np.zeros_like(frame))
    assert 'frozen' in frozen.metainfo['frame_fault'] and not frozen.metainfo['updated']
    assert 'black' in black.metainfo['frame_fault'] and black.pred_sem_seg.data.shape[0] == 1
    assert [event['stream_index'] for event in segmentor.events] == [1, 2]
    unchecked = built(config(), check_frames=False)
    assert unchecked.step(frame).metainfo['updated'] and unchecked.step(frame).metainfo['updated']


def test_a_reset_of_the_methods_own_is_an_event(config):
    segmentor = built(config('rdumb'))
    segmentor.method.parts['reset_every'].every = 2
    for frame in frames(4):
        segmentor.step(frame)
    (event,) = segmentor.events
    assert event['event'] == 'own_reset' and event['stream_index'] == 2


def test_loaded_adapters_are_the_new_start(config, tmp_path):
    taught = built(config('ecotta_plus'))
    for frame in frames(3):
        taught.step(frame)
    taught.save_adapters(tmp_path / 'adapters.pth')
    ready = built(config('ecotta_plus'), adapters=tmp_path / 'adapters.pth')
    loading = built(config('ecotta_plus'))
    loading.load_adapters(tmp_path / 'adapters.pth')
    for frame in frames(3, seed=7):
        expected, found = (one.step(frame).seg_logits.data for one in (ready, loading))
        assert torch.equal(found, expected)
    start = torch.load(tmp_path / 'adapters.pth', weights_only=True)['state_dict']
    loading.reset()
    now = loading.method.encoder.meta_networks.state_dict()
    assert all(torch.equal(now[name], start[name]) for name in start)


def test_predicting_in_between_changes_nothing(config):
    asked, alone = built(config('ecotta_plus')), built(config('ecotta_plus'))
    dark = np.zeros((64, 96, 3), np.uint8)
    for frame, other in zip((*frames(2), dark), frames(3, seed=9)):
        asked.predict(other)
        expected, found = (one.step(frame).seg_logits.data for one in (alone, asked))
        assert torch.equal(found, expected)
        asked.predict(other)
        assert torch.equal(asked.method.strength, alone.method.strength)


@pytest.mark.parametrize(('options', 'error'), [
    (dict(adapt_every=1.5), TypeError), (dict(adapt_every='2'), TypeError),
    (dict(time_budget='1'), TypeError), (dict(time_budget=float('nan')), ValueError),
    (dict(adapt_every=0), ValueError), (dict(guard=[1]), TypeError),
    (dict(device='meta'), ValueError), (dict(device=None), ValueError),
])  # fmt: skip
def test_options_that_are_none_are_refused(config, options, error):
    with pytest.raises(error, match='expected|cannot be used'):
        built(config(), **options)


def test_frames_are_packed_in_many_threads_at_once(config):
    from mmengine.registry import DefaultScope

    segmentor = built(config())
    (frame,) = frames(1)
    before = set(DefaultScope._instance_dict)
    errors = []

    def pack():
        try:
            for _ in range(200):
                segmentor._packed(frame)
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=pack) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors and set(DefaultScope._instance_dict) == before


def test_updates_are_left_out_when_late(config, monkeypatch):
    segmentor, clock = built(config(), time_budget=0.1), [0.0]
    monkeypatch.setattr(
        'ecotta_seg.apis.adaptive_segmentor.time', SimpleNamespace(perf_counter=lambda: clock[0])
    )

    def taking(seconds, run):
        def slow(*args):
            clock[0] += seconds
            return run(*args)

        return slow

    method = segmentor.method
    method.propose = taking(0.25, method.propose)
    method.predict_frame = taking(0.03, method.predict_frame)
    # An update is 0.15 s late; frames without one make up for 0.07 s each.
    updated = [segmentor.step(frame).metainfo['updated'] for frame in frames(9)]
    assert updated == [True, False, False, False, True, False, False, False, True]
    eager = built(config(), time_budget=0.3)
    eager.method.propose = taking(0.25, eager.method.propose)
    assert all(eager.step(frame).metainfo['updated'] for frame in frames(4))


@pytest.mark.parametrize('concurrent', [False, True])
def test_predictions_in_other_threads_are_those_of_whole_steps(config, concurrent):
    stepped = list(frames(4))
    (asked,) = frames(1, seed=5)
    alone = built(config(), concurrent=False)
    allowed = [alone.predict(asked).seg_logits.data]
    for frame in stepped:
        alone.step(frame)
        allowed.append(alone.predict(asked).seg_logits.data)
    segmentor = built(config(), concurrent=concurrent)
    seen, errors, done = [], [], threading.Event()

    def ask():
        try:
            while not done.is_set():
                seen.append(segmentor.predict(asked).seg_logits.data)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for frame in stepped:
        segmentor.step(frame)
    done.set()
    for thread in threads:
        thread.join()
    seen.append(segmentor.predict(asked).seg_logits.data)
    assert not errors and len(seen) > 1
    for logits in seen:
        assert any(torch.equal(logits, one) for one in allowed)
    assert torch.equal(seen[-1], allowed[-1])


def test_concurrent_prediction_shares_what_is_frozen(config):
    segmentor = built(config(), concurrent=True)
    learned = {id(p) for p in segmentor.method.adaptable_parameters().values()}
    shadow = {id(p) for p in segmentor._shadow.parameters()}
    frozen = {id(p) for p in segmentor.method.parameters()} - learned
    assert frozen and frozen <= shadow and not learned & shadow


@pytest.mark.parametrize('name', ['ecotta', 'tent', 'rdumb', 'cotta'])
def test_a_second_set_of_adapters_is_counted_and_nothing_twice(config, name):
    alone = built(config(name), guard=False)
    beside = built(config(name), guard=False, concurrent=True)
    for frame in frames(2):
        alone.step(frame)
        beside.step(frame)
    learned = sum(4 * p.numel() for p in alone.method.adaptable_parameters().values())
    first, second = alone.standing_memory(), beside.standing_memory()
    # What reset goes back to; CoTTA's teacher, and EATA's Fisher information, are one more.
    sets = 2 if name in ('cotta', 'rdumb') else 1
    assert first.kept_bytes == sets * learned
    # The shadow shares what is frozen and what reset goes back to; buffers are its own.
    buffers = sum(b.numel() * b.element_size() for b in alone.method.buffers())
    assert second.kept_bytes == 2 * sets * learned + buffers
    whole = sum(4 * p.numel() for p in alone.method.parameters())
    assert first.parameters_bytes + first.adapters_bytes == whole + buffers
    source = built(config(name), guard=False, keep_source=True)
    tensors = [*source.source.parameters(), *source.source.buffers()]
    model = sum(t.numel() * t.element_size() for t in tensors)
    fresh = built(config(name), guard=False).standing_memory().kept_bytes
    assert source.standing_memory().kept_bytes == fresh + model


def test_reset_save_and_load(config, tmp_path):
    segmentor = built(config())
    start = segmentor.method.method_state()['tensors']
    (asked,) = frames(1, seed=5)
    for frame in frames(3):
        segmentor.step(frame)
    segmentor.save_adapters(tmp_path / 'adapters.pth')
    learned = segmentor.predict(asked).seg_logits.data
    segmentor.reset()
    assert harness.same(segmentor.method.method_state()['tensors'], start)
    segmentor.load_adapters(tmp_path / 'adapters.pth')
    assert torch.equal(segmentor.predict(asked).seg_logits.data, learned)
    again = built(config(), adapters=str(tmp_path / 'adapters.pth'))
    assert torch.equal(again.predict(asked).seg_logits.data, learned)
    with pytest.raises(ValueError, match='no meta networks'):
        built(config('tent')).save_adapters(tmp_path / 'x.pth')


def test_adapters_bring_their_calibration(config, tmp_path):
    folders = []
    for number in range(2):
        folders.append(tmp_path / f'clear{number}')
        folders[-1].mkdir()
        for place, frame in enumerate(frames(3, seed=20 + number)):
            cv2.imwrite(str(folders[-1] / f'{place}.png'), frame)
    path = tmp_path / 'adapters.pth'
    plain = built(config('ecotta_plus'))
    plain.save_adapters(path)
    assert 'calibration' not in torch.load(path, weights_only=True)
    first, second = (built(config('ecotta_plus'), calibrate=str(one)) for one in folders)
    first.save_adapters(path)
    measured = first.method.calibration()
    assert not harness.same(measured, second.method.calibration())
    ready = built(config('ecotta_plus'), adapters=path)
    plain.load_adapters(path)
    for segmentor in (ready, plain):
        assert harness.same(segmentor.method.calibration(), measured)
    # Pictures of another place go before the file.
    anew = built(config('ecotta_plus'), adapters=path, calibrate=str(folders[1]))
    assert harness.same(anew.method.calibration(), second.method.calibration())

    # A calibration that does not fit changes nothing, the meta networks neither.
    state = torch.load(path, weights_only=True)
    name = list(state['calibration'])[0]
    state['calibration'][name] = torch.zeros(1)
    state['state_dict'] = {key: value + 1 for key, value in state['state_dict'].items()}
    torch.save(state, path)
    before = deepcopy(plain.method.method_state())
    with pytest.raises(ValueError, match='the calibration does not fit'):
        plain.load_adapters(path)
    assert harness.same(plain.method.method_state(), before)


def test_the_source_beside_it(config):
    segmentor = built(config(), keep_source=True)
    (asked,) = frames(1, seed=5)
    before = segmentor.predict_source(asked).seg_logits.data
    for frame in frames(2):
        segmentor.step(frame)
    assert torch.equal(segmentor.predict_source(asked).seg_logits.data, before)
    with pytest.raises(ValueError, match='keep_source=True'):
        built(config()).predict_source(asked)


def test_frames_and_options_are_checked(config, tmp_path):
    segmentor = built(config('source'))
    for frame in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r'shape \(H, W, 3\) and dtype uint8'):
            segmentor.step(frame)
    with pytest.raises(TypeError, match='NumPy array'):
        segmentor.step([1, 2])
    with pytest.raises(ValueError, match='adapt_every from 1'):
        built(config(), adapt_every=0)
    with pytest.raises(ValueError, match='does not exist'):
        built(config(), checkpoint=tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='memory_budget'):
        built(config('source'), memory_budget='1.0x')
    with pytest.raises(ValueError, match='device'):
        built(config(), device='meteor')
    with pytest.raises(TypeError, match='expected method to be a config'):
        built(config(), method='tent')
    with pytest.raises(ValueError, match='no `adaptation`'):
        init_adaptive_segmentor(Config(dict(model=dict(type='x'))))


@pytest.mark.parametrize('old', [False, True], ids=['option', 'old form'])
def test_options_of_meta_networks_reach_the_method_that_has_them(config, tmp_path, old):
    taught = built(config())
    for frame in frames(2):
        taught.step(frame)
    taught.save_adapters(tmp_path / 'adapters.pth')
    method = Config.fromfile(str(config())).adaptation.to_dict()
    old_form = dict(type='rdumb', every=100, method=method)
    method = old_form if old else dict(method, reset_every=100)
    before = deepcopy(method)
    segmentor = built(
        config(), method=method, adapters=tmp_path / 'adapters.pth', memory_budget='20x'
    )
    assert method == before, 'the config that was given stays as it is'
    assert harness.same(
        segmentor.method.encoder.meta_networks.state_dict(),
        taught.method.encoder.meta_networks.state_dict(),
    )
    for frame in frames(1):
        segmentor.step(frame)
    assert segmentor.method.planned.budget_bytes == 20 * segmentor.method.planned.inference_bytes
    rdumb = Config.fromfile(str(config('rdumb'))).adaptation.to_dict()
    with pytest.raises(ValueError, match='a method that has meta networks.*not eata'):
        built(config(), method=rdumb, adapters=tmp_path / 'adapters.pth')
    segmentor = built(config(), method=rdumb, memory_budget='20x')
    for frame in frames(1):
        segmentor.step(frame)
    assert segmentor.method.planned.budget_bytes == 20 * segmentor.method.planned.inference_bytes


def test_the_pipeline_is_the_configs_without_files_and_weather(config):
    steps = [step['type'] for step in frame_pipeline(Config.fromfile(str(config())))]
    assert steps == ['LoadImageFromNDArray', 'PackSegInputs']


@pytest.mark.parametrize('channels', [1, 4])
def test_frames_of_another_number_of_channels(config, channels):
    cfg = Config.fromfile(config())
    cfg.model.backbone.in_channels = channels
    cfg.model.data_preprocessor.update(mean=None, std=None, bgr_to_rgb=False)
    segmentor = built(cfg, keep_source=True)
    for frame in frames(2):
        frame = np.dstack([frame, frame[..., :1]])[..., :channels]
        assert segmentor.step(frame).metainfo['updated']
        if channels == 1:
            segmentor.predict_source(frame[..., 0])
    assert segmentor.events == []
    with pytest.raises(ValueError, match=rf'\(H, W, {channels}\) and dtype uint8, got'):
        segmentor.step(np.zeros((64, 96, 3), np.uint8))


def test_a_step_tells_the_estimate(config):
    segmentor = built(config('tent'), estimate=dict(fallback=True))
    for frame in frames(3):
        told = segmentor.step(frame).metainfo
        assert 0 < told['estimated_mIoU'] < 100 and 0 < told['source_estimated_mIoU'] < 100
        better = told['source_estimated_mIoU'] > told['estimated_mIoU']
        assert told['source_given'] is better
    segmentor.reset()
    assert segmentor.method.estimate.running() is None
    assert 'estimated_mIoU' not in built(config('tent')).step(frame).metainfo


def test_predictions_from_other_threads_follow_the_choice(config):
    segmentor = built(
        config('tent'), estimate=dict(fallback=True), concurrent=True, keep_source=True
    )
    segmentor.method.estimate.share = 0.0
    for frame in frames(2):
        assert segmentor.step(frame).metainfo['source_given']
    before = segmentor.method.estimate.state_dict()['areas']
    expected = segmentor.predict_source(frame).seg_logits.data
    assert torch.equal(segmentor.predict(frame).seg_logits.data, expected)
    assert segmentor.method.estimate.state_dict()['areas'] is before
