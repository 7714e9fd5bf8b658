"""Padding never counts: a padded frame and the frame itself, by every method."""

from copy import deepcopy
from itertools import product

import pytest
import torch
from mmseg.structures import SegDataSample

from ecotta_seg.guard import UpdateGuard
from ecotta_seg.methods import build_method
from tests.methods.test_every_method import METHODS, SEGFORMER_PLUS, method_options
from tests.pixelwise import pixelwise_segmentor

BACKBONES = ('PixelwiseBackbone', 'UndescribedPixelwise')
WITH_META_NETWORKS = ('ecotta', 'ecotta_plus', 'ladder', SEGFORMER_PLUS)
# Of 264 x 300 with both sides padded, and windows of which some are padding alone.
SIZE, PADDING = (264, 300), dict(size_divisor=32)
SLIDING_SIZE, SLIDING_PADDING = (256, 320), dict(size=(512, 640))
SLIDING = dict(mode='slide', crop_size=(128, 160), stride=(128, 160))


def _pictures(size, count=3):
    """Frames with areas of their own and a brightness that the source does not know."""
    generator = torch.Generator().manual_seed(4)
    pictures = []
    for _ in range(count):
        coarse = torch.rand(1, 3, 6, 8, generator=generator) * 150
        smooth = torch.nn.functional.interpolate(coarse, size, mode='bilinear')
        noise = torch.rand(1, 3, *size, generator=generator) * 60
        pictures.append((smooth + noise)[0].byte())
    return pictures


def _batch(picture, index=0):
    size = tuple(picture.shape[1:])
    meta = dict(img_shape=size, ori_shape=size, stream_index=index)
    return dict(inputs=[picture.clone()], data_samples=[SegDataSample(metainfo=meta)])


def _pixelwise_options(name, **changed):
    options = method_options(name)
    inner = options.get('method', options)
    if 'meta_networks' in inner:
        inner['meta_networks'].update(num_parts=2, **changed.pop('meta', {}))
        if name != 'becotta':  # Experts are pixelwise as they are.
            inner['meta_networks']['kernel_size'] = 1
        # Far from an identity start within three frames.
        inner['optimizer']['lr'] = 0.05
    inner.update(changed)
    return options


def _guarded(method):
    method.guard = UpdateGuard(check_every=1, window=2, max_class_share=1.0)
    return method


def _close(first, second, where=''):
    """Equal but for roundings of float64, through nested containers."""
    if isinstance(first, torch.Tensor):
        assert torch.allclose(first, second, 1e-7, 1e-9), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            _close(value, second[key], f'{where}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second)):
            _close(*pair, f'{where}[{index}]')
    elif isinstance(first, float):
        assert second == pytest.approx(first, 1e-7, 1e-9, nan_ok=True), where
    else:
        assert first == second, where


def _without_padding(state):
    """A state in which a bank of frames does not say how the frames were padded."""
    for item in state.get('bank', ()):
        item.pop('padding')
    return state


def _state(method):
    return _without_padding(method.method_state())


def _guard(method):
    state = deepcopy(method.guard.state_dict())
    return {**state, 'good': _without_padding(state['good'])}


def _calibrate(method, size):
    pictures = (_batch(picture, index) for index, picture in enumerate(_pictures(size)))
    batches = [method.segmentor.data_preprocessor(picture, False) for picture in pictures]
    # Values of other sizes and signs, so that the model finds more than one class.
    method.calibrate_all(
        [
            (scale * batch['inputs'], [sample.metainfo for sample in batch['data_samples']])
            for scale, batch in zip((1, -30, 100), batches)
        ]
    )


def _compare(options, backbone, size, padding, test_cfg):
    """Runs a stream with and without padding; all that can be seen of both has to be equal."""
    methods = [
        _guarded(build_method(deepcopy(options), pixelwise_segmentor(backbone, pad, **test_cfg)))
        for pad in (None, padding)
    ]
    for method in methods:
        method.to(torch.float64).eval()
        if method.requires_clear_frames:
            _calibrate(method, size)
    start = {name: t.detach().clone() for name, t in methods[0].learned_tensors().items()}
    for index, picture in enumerate(_pictures(size)):
        seen = []
        for method in methods:
            torch.manual_seed(index)
            (sample,) = method.test_step(_batch(picture, index))
            record = {**vars(method.last_step), 'seconds': 0.0}
            seen.append((sample.seg_logits.data, record))
        _close(*seen, f'frame {index}')
        _close(*(_state(method) for method in methods), f'state after frame {index}')
        _close(*(_guard(method) for method in methods), f'guard after frame {index}')
    _close(*(method.guard.take_events() for method in methods))
    return start, methods[1]


def _learned(start, method):
    now = method.learned_tensors()
    return any(not torch.equal(now[name].to(start[name].dtype), start[name]) for name in start)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize(
    ('name', 'backbone'),
    [*product(sorted(METHODS), BACKBONES[:1]), *product(WITH_META_NETWORKS, BACKBONES[1:])],
)
def test_a_padded_frame_counts_as_the_frame_alone(name, backbone, mode):
    options = _pixelwise_options(name)
    if mode == 'whole':
        start, method = _compare(options, backbone, SIZE, PADDING, {})
    else:
        start, method = _compare(options, backbone, SLIDING_SIZE, SLIDING_PADDING, SLIDING)
    static = ('source', 'batch_norm_statistics', 'batch_norm_blend')
    assert _learned(start, method) == (name not in static)


@pytest.mark.slow
@pytest.mark.parametrize(
    'changed',
    [
        dict(memory_engine=False),
        dict(memory_engine=False, relative_regularisation=True),
        dict(relative_regularisation=True),
        dict(meta=dict(norm='GN')),
        dict(meta=dict(norm='LN')),
        dict(meta=dict(norm='BN', start='paper')),
        dict(meta=dict(reduction=2)),
        dict(memory_budget='120MB'),
    ],
    ids=str,
)
def test_whatever_the_meta_networks_and_who_runs_them(changed):
    options = _pixelwise_options('ecotta', **changed)
    start, method = _compare(options, BACKBONES[0], SIZE, PADDING, {})
    assert method.last_step.regularisation > 0 and _learned(start, method)


def test_with_settings_for_segformers():
    _compare(_pixelwise_options(SEGFORMER_PLUS), BACKBONES[0], SIZE, PADDING, {})


def test_with_views():
    options = _pixelwise_options('tent')
    methods = []
    for pad in (None, PADDING):
        method = build_method(deepcopy(options), pixelwise_segmentor(BACKBONES[0], pad))
        method.use_views(3)
        methods.append(method.to(torch.float64).eval())
    for picture in _pictures(SIZE, 2):
        samples = [method.test_step(_batch(picture))[0] for method in methods]
        _close(*(sample.seg_logits.data for sample in samples))
