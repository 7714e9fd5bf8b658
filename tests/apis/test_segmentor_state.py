"""An adaptive segmentor is paused, saved, loaded and handed to another process."""

import multiprocessing
import pickle
import random
from copy import deepcopy

import numpy as np
import pytest
import torch

from ecotta_seg.apis import AdaptiveSegmentor, init_adaptive_segmentor
from ecotta_seg.resume.state_file import read_state, write_state
from tests.apis.small_segmentor import built, frames, same, write_config

METHODS = ('cotta', 'ecotta_plus', 'rdumb', 'batch_norm_calibrated')


def logits_of(segmentor, stream):
    return [segmentor.step(frame).seg_logits.data for frame in stream]


def equal(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize('method', METHODS)
def test_three_frames_a_file_and_three_frames_are_six_frames(tmp_path, method):
    config = write_config(tmp_path, method)
    options = dict(adapt_every=2, guard=dict(check_every=2), check_frames=True)
    stream = list(frames(6))
    stream[3] = stream[2]  # Frozen: the loaded one has to know the frame before.
    whole = built(config, **options)
    expected = logits_of(whole, stream)

    first = built(config, **options)
    found = logits_of(first, stream[:3])
    kept = deepcopy(first.method.method_state())
    first.save(tmp_path / 'state.pth')
    assert same(first.method.method_state(), kept), 'saving changes nothing'
    second = built(config, seed=5, **options)
    assert not same(second.method.method_state(), kept)
    second.load(tmp_path / 'state.pth')
    found += logits_of(second, stream[3:])
    assert equal(found, expected)
    assert same(second.method.method_state(), whole.method.method_state())
    assert same(second.method.guard.state_dict(), whole.method.guard.state_dict())
    assert (second.frames, second.updates) == (whole.frames, whole.updates)
    assert second.events == whole.events and 'frozen' in whole.events[0]['reason']
    # The one that was saved continues as well.
    assert equal(logits_of(first, stream[3:]), expected[3:])
    # What reset goes back to is the start of the one that was saved.
    for segmentor in (whole, second):
        segmentor.reset()
    assert same(second.method.method_state(), whole.method.method_state())


def test_a_compute_budget_is_in_the_file_and_in_a_pickle(tmp_path):
    config, stream = write_config(tmp_path, 'tent'), list(frames(8))
    whole = built(config, compute_budget='1.7x')
    expected = logits_of(whole, stream)
    account = whole.method.compute_budget.state_dict()
    assert 0 < account['learned'] < account['frames'] == 8
    first = built(config, compute_budget='1.7x', concurrent=True)
    found = logits_of(first, stream[:3])
    first.predict(stream[0])
    first.save(tmp_path / 'state.pth')
    second = built(config, compute_budget='1.7x')
    second.load(tmp_path / 'state.pth')
    for segmentor in (second, pickle.loads(pickle.dumps(first))):
        assert equal(found + logits_of(segmentor, stream[3:]), expected)
        assert segmentor.method.compute_budget.state_dict() == account
    second.reset()
    assert second.method.compute_budget.frames == 0
    with pytest.raises(ValueError, match='compute'):
        built(config).load(tmp_path / 'state.pth')


def test_random_generators_and_the_pause_are_in_the_file(tmp_path):
    config = write_config(tmp_path, 'tent')
    first = built(config)
    logits_of(first, frames(2))
    first.adapting = False
    first.save(tmp_path / 'state.pth')
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    second = built(config)
    second.load(tmp_path / 'state.pth')
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == drawn
    assert second.adapting is False


def test_a_pause_predicts_and_learns_nothing(tmp_path):
    segmentor = built(write_config(tmp_path, 'ecotta'))
    first, second, third = frames(3)
    assert segmentor.step(first).metainfo['updated']
    segmentor.adapting = False
    before = deepcopy(segmentor.method.method_state())
    expected = segmentor.predict(second).seg_logits.data
    sample = segmentor.step(second)
    assert torch.equal(sample.seg_logits.data, expected) and not sample.metainfo['updated']
    assert same(segmentor.method.method_state(), before)
    segmentor.adapting = True
    assert segmentor.step(third).metainfo['updated']
    assert (segmentor.frames, segmentor.updates) == (3, 2)


def test_a_calibration_is_in_the_file(tmp_path):
    import cv2

    (tmp_path / 'clear').mkdir()
    for number, frame in enumerate(frames(3, seed=20)):
        cv2.imwrite(str(tmp_path / 'clear' / f'{number}.png'), frame)
    config = write_config(tmp_path, 'ecotta_plus')
    first = built(config, calibrate=str(tmp_path / 'clear'))
    logits_of(first, frames(2))
    first.save(tmp_path / 'state.pth')
    second = built(config)
    second.load(tmp_path / 'state.pth')
    assert same(second.method.calibration(), first.method.calibration())
    more = list(frames(2, seed=9))
    assert equal(logits_of(second, more), logits_of(first, more))


def test_a_shadow_follows_a_loaded_state(tmp_path):
    config = write_config(tmp_path, 'ecotta')
    first = built(config)
    logits_of(first, frames(3))
    first.save(tmp_path / 'state.pth')
    second = built(config, concurrent=True)
    second.load(tmp_path / 'state.pth')
    (asked,) = frames(1, seed=8)
    assert torch.equal(second.predict(asked).seg_logits.data, first.predict(asked).seg_logits.data)


def test_a_state_of_something_else_is_refused_and_changes_nothing(tmp_path):
    config = write_config(tmp_path, 'tent')
    path = tmp_path / 'state.pth'
    saved = built(config)
    logits_of(saved, frames(2))
    saved.save(path)

    def refused(segmentor, text, **options):
        before = deepcopy(segmentor.method.method_state())
        with pytest.raises(ValueError, match=text) as raised:
            segmentor.load(path, **options)
        assert '\n' not in str(raised.value)
        assert same(segmentor.method.method_state(), before) and segmentor.frames == 0

    refused(built(config, source=1), 'another segmentor: weights: was')
    refused(built(config, guard=False), 'config guard: was True, is False')
    refused(built(config, guard=False), 'has no guard', allow=('config guard',))
    refused(built(config, check_frames=False), 'has no frame checker')
    refused(built(config, size='frame', method=dict(type='source')), 'config adaptation.type')
    other = built(write_config(tmp_path, 'ecotta'))
    refused(other, 'does not fit this method', allow=('config', 'weights'))

    state = read_state(path)
    state['identity']['code torch'] = '0.9'
    write_state(state, path)
    refused(built(config), 'code torch: was 0.9')
    built(config).load(path, allow=('code',))
    del state['lag']
    write_state(state, path)
    refused(built(config), "the state has no 'lag'", allow=('code',))
    write_state({'position': 3}, path)
    refused(built(config), 'a state of another kind')
    path.write_bytes(path.read_bytes()[:-40])
    refused(built(config), 'cut off')
    path.unlink()
    refused(built(config), 'No such file')


@pytest.mark.parametrize('method', ('law', 'cotta', 'ecotta_plus'))
def test_a_pickle_goes_on_and_shares_nothing(tmp_path, method):
    first = built(write_config(tmp_path, method), keep_source=True, concurrent=method == 'law')
    stream = list(frames(4))
    logits_of(first, stream[:2])
    second = pickle.loads(pickle.dumps(first))
    assert isinstance(second, AdaptiveSegmentor) and second.meta == first.meta
    mine = {tensor.data_ptr() for tensor in first.method.learned_tensors().values()}
    assert not mine & {tensor.data_ptr() for tensor in second.method.learned_tensors().values()}
    expected = logits_of(first, stream[2:])
    assert equal(logits_of(second, stream[2:]), expected)
    assert torch.equal(
        second.predict(stream[0]).seg_logits.data, first.predict(stream[0]).seg_logits.data
    )
    assert torch.equal(
        second.predict_source(stream[0]).seg_logits.data,
        first.predict_source(stream[0]).seg_logits.data,
    )
    assert equal(logits_of(deepcopy(first), stream[:1]), logits_of(second, stream[:1]))


def in_another_process(segmentor, stream, results):
    torch.set_num_threads(1)
    results.put([segmentor.step(frame).seg_logits.data.numpy() for frame in stream])


@pytest.mark.slow
def test_another_process_goes_on(tmp_path):
    first = built(write_config(tmp_path, 'ecotta'))
    stream = list(frames(4))
    logits_of(first, stream[:2])
    context = multiprocessing.get_context('spawn')
    results = context.Queue()
    child = context.Process(target=in_another_process, args=(first, stream[2:], results))
    child.start()
    found = results.get(timeout=120)
    child.join(30)
    expected = logits_of(first, stream[2:])
    assert all(np.array_equal(one, other.numpy()) for one, other in zip(found, expected))
    assert len(found) == 2


RESIZED = [
    (None, (40, 60), (40, 60)), (None, (100, 200), (32, 64)), ('config', (16, 32), (32, 64)),
    ('frame', (100, 200), (100, 200)), ((20, 40), (100, 200), (20, 40)),
    ((48, 48), (16, 32), (24, 48)),
]  # fmt: skip


@pytest.mark.parametrize(('size', 'shape', 'seen'), RESIZED)
def test_the_size_that_the_model_sees(tmp_path, size, shape, seen):
    resize = "pipeline.insert(1, dict(type='Resize', scale=(64, 48), keep_ratio=True))\n"
    config = write_config(tmp_path, 'tent', resize)
    segmentor = built(config, size=size)
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    data = segmentor._packed(frame)
    assert data['inputs'][0].shape == (3, *seen)
    sample = segmentor.step(frame)
    # The mask is the frame's, whatever the model saw.
    assert sample.pred_sem_seg.data.shape == (1, *shape)
    assert sample.seg_logits.data.shape[1:] == shape


def test_a_small_frame_is_the_frame_itself(tmp_path):
    resize = "pipeline.insert(1, dict(type='Resize', scale=(640, 480), keep_ratio=False))\n"
    segmentor = built(write_config(tmp_path, 'tent', resize))
    (frame,) = frames(1)
    packed = segmentor._packed(frame)['inputs'][0]
    assert np.array_equal(packed.numpy(), frame.transpose(2, 0, 1))


@pytest.mark.parametrize('size', ['half', (0, 4), (4,), (4.0, 5.0), 480])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match='expected size to be None'):
        init_adaptive_segmentor(write_config(tmp_path, 'tent'), size=size)
