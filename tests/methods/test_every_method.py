"""What each method in configs/_base_/adaptation has to do, on both kinds of model.

And the one that has settings of its own for SegFormers, on a SegFormer.
"""

from copy import deepcopy
from itertools import product
from pathlib import Path

import pytest
import torch
from mmseg.structures import SegDataSample

from ecotta_seg.apis.shadow import shadow_of
from ecotta_seg.config.config import read_config
from ecotta_seg.guard import UpdateGuard
from ecotta_seg.memory import standing_memory
from ecotta_seg.methods import AdaptationMethod, build_method
from ecotta_seg.methods.frame_life import predict_and_learn
from ecotta_seg.methods.gradient_adaptation import GradientAdaptation
from ecotta_seg.registry import ADAPTATION_METHODS
from ecotta_seg.resume.state_file import plain
from tests.segmentors import CONFIGS, build_segmentor, calibrated

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'adaptation'
METHODS = {path.stem: read_config(path).adaptation.to_dict() for path in FOLDER.glob('*.py')}
# Meta networks with LayerNorms, which a SegFormer gets.
SEGFORMER_PLUS = 'ecotta_plus, segformer'
_SETTINGS = {
    **METHODS,
    SEGFORMER_PLUS: METHODS['ecotta_plus'],
}
# These learn no parameter; of them the first three keep nothing of a frame.
STATIC = ('source', 'batch_norm_statistics', 'batch_norm_blend', 'batch_norm_calibrated')
WITHOUT_MEMORY = STATIC[:3]
# What follows the stream, whether or not anything is learned from a frame.
FOLLOWING = ('strength', 'stream_mean', 'stream_var', 'followed')
# Where no pixel is confident these have nothing to learn from.
CONFIDENT_ONLY = ('becotta', 'eata', 'rdumb', 'sar')


def method_options(name):
    """A config's options, with steps that show in few frames and all pixels confident enough."""
    options = deepcopy(_SETTINGS[name])
    if 'optimizer' in options:
        options['optimizer']['lr'] = 1e-3
    if 'entropy_threshold' in options:
        # By the source's statistics the small DeepLab is less certain.
        options['entropy_threshold'] = 0.95 if name == 'becotta' else 0.8
    if options['type'] in ('cotta', 'svdp'):
        options['views'] = 3
    if 'reset_every' in options:
        options['reset_every'] = 4
    return options


def built(name, kind, segmentor):
    """A method around a segmentor of a kind."""
    options = method_options(name)
    if kind == 'segformer' and name.startswith(('ecotta', 'ladder')):
        options['meta_networks']['norm'] = 'LN'
    return calibrated(build_method(options, segmentor).eval())


def _method(name, kind, **test_cfg):
    return built(name, kind, build_segmentor(kind, **test_cfg))


def _meta(height, width):
    return dict(img_shape=(height, width), ori_shape=(height, width))


def _tensors(method):
    return {name: t.detach().clone() for name, t in method.learned_tensors().items()}


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def same(first, second):
    """Bit for bit, through nested containers."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def _kept_bytes(method):
    optimizer = getattr(method, 'optimizer', None)
    return standing_memory(method, method.adapter_parameters(), optimizer).kept_bytes


_OWN = (SEGFORMER_PLUS, 'segformer_b0')
each_method_and_model = pytest.mark.parametrize(
    ('name', 'kind'), [*product(sorted(METHODS), sorted(CONFIGS)), _OWN]
)
each_method = pytest.mark.parametrize(
    ('name', 'kind'), [*product(sorted(METHODS), ['deeplab']), _OWN]
)


def test_each_registered_method_has_a_config():
    # An exported network is a file of the user's, so there is no preset for it (tests/deploy).
    registered = set(ADAPTATION_METHODS.module_dict) - {'around_engine'}
    assert {options['type'] for options in METHODS.values()} == registered


@pytest.mark.slow
@each_method_and_model
def test_a_saved_state_goes_on_bit_for_bit(name, kind, frames):
    images, metas = frames
    method = _method(name, kind)
    start = _tensors(method)
    for image in images[:3]:
        method.adapt(image, metas)
    # What cannot be saved without code in the file is refused here.
    plain(state := method.method_state())
    learned = _tensors(method)
    assert _same(start, learned) == (name in WITHOUT_MEMORY)
    fresh = _method(name, kind)
    fresh.load_method_state(deepcopy(state))
    assert _same(_tensors(fresh), learned)
    # All that is kept between two frames is in the state.
    assert _kept_bytes(fresh) == _kept_bytes(method)
    torch.manual_seed(5)
    for image in images[3:6]:
        assert torch.equal(method.adapt(image, metas), fresh.adapt(image, metas))
        assert _same(_tensors(fresh), _tensors(method))
    # And a state that was gone back to can be gone back to again.
    method.load_method_state(state)
    assert _same(_tensors(method), learned)


@each_method_and_model
def test_all_of_a_method_is_where_its_model_is(name, kind):
    # A device without data stands for any that is not the CPU.
    segmentor = build_segmentor(kind)
    for module in (segmentor.backbone, segmentor.decode_head):
        module.to('meta')
    tensors = built(name, kind, segmentor).learned_tensors()
    # The preprocessor's two are needed to read brightness from and stay behind.
    left = {key for key, tensor in tensors.items() if tensor.device.type != 'meta'}
    assert left == {f'buffer.segmentor.data_preprocessor.{name}' for name in ('mean', 'std')}


@each_method_and_model
def test_moved_in_the_midst_of_a_stream_it_goes_on(name, kind, frames):
    # Another dtype stands for another device: what is left behind does not fit any more.
    images, metas = frames
    moved, stayed = (_method(name, kind) for _ in range(2))
    for method in (moved, stayed):
        method.adapt(images[0], metas)
    moved.to(torch.float64)
    tensors = moved.learned_tensors()
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float64}
    torch.manual_seed(5)
    logits = moved.adapt(images[1].double(), metas)
    torch.manual_seed(5)
    assert torch.allclose(logits.float(), stayed.adapt(images[1], metas), atol=5e-3)
    for key, tensor in stayed.learned_tensors().items():
        other = moved.learned_tensors()[key].to(tensor.dtype)
        if key.endswith('.prompt'):
            # Pixels that are equally uncertain up to rounding may change places.
            tensor, other = tensor.sort(dim=0).values, other.sort(dim=0).values
        assert torch.allclose(other, tensor, atol=1e-3), key
    moved.reset()
    moved.adapt(images[0].double(), metas)


@each_method_and_model
def test_reset_and_reference(name, kind, frames):
    images, metas = frames
    method = _method(name, kind)
    before, first = _tensors(method), method.predict(images[0], metas)
    for image in images[:2]:
        method.adapt(image, metas)
    after = _tensors(method)
    reference = method.predict_reference(images[0], metas)
    assert _same(_tensors(method), after), 'predicting the reference changes nothing'
    if name in STATIC:
        assert reference is None
    else:
        expected = first
        if name.startswith('ecotta_plus'):
            # The reference is normalised by the stream, too.
            fresh, buffers = _method(name, kind), dict(method.named_buffers())
            for key, buffer in fresh.named_buffers():
                if key.rpartition('.')[2] in FOLLOWING:
                    buffer.copy_(buffers[key])
            expected = fresh.predict(images[0], metas)
        assert torch.equal(reference, expected)
        assert not torch.equal(method.predict(images[0], metas), first)
    method.reset()
    assert _same(_tensors(method), before)
    again = method.adapt(images[0], metas)
    assert torch.equal(again, _method(name, kind).adapt(images[0], metas))


@pytest.mark.slow
@each_method
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_windows_and_odd_sizes(name, kind, mode, frames):
    test_cfg = dict(mode='slide', crop_size=(48, 48), stride=(32, 32)) if mode == 'slide' else {}
    method = _method(name, kind, **test_cfg)
    for height, width in ((61, 93), (53, 71)):
        image, metas = frames[0][0][:, :, :height, :width], [_meta(height, width)]
        # The strength is the frame's own only if the frame is the stream's next.
        with method.adaptation_disabled():
            expected = method.predict_frame(image, metas)
        logits = method.adapt(image, metas)
        assert logits.shape == (1, 7, height, width) and not logits.requires_grad
        # The prediction is that of before the step, whatever the step needs besides.
        assert torch.allclose(logits, expected, atol=1e-4)
    assert all(t.isfinite().all() for t in method.learned_tensors().values())
    assert all(p.grad is None for p in method.parameters())


@each_method_and_model
def test_without_a_confident_pixel_nothing_breaks(name, kind):
    method = _method(name, kind)
    torch.nn.init.zeros_(method.segmentor.decode_head.conv_seg.weight)
    torch.nn.init.zeros_(method.segmentor.decode_head.conv_seg.bias)
    before = _tensors(method)
    for _ in range(2):
        logits = method.adapt(torch.randn(1, 3, 61, 93), [_meta(61, 93)])
        assert logits.isfinite().all()
    assert all(t.isfinite().all() for t in method.learned_tensors().values())
    if name in CONFIDENT_ONLY:
        assert not method.last_step.updated
        after = {n: p.detach() for n, p in method.adaptable_parameters().items()}
        assert all(torch.equal(p, before[f'parameter.{n}']) for n, p in after.items())


@each_method
def test_the_condition_is_not_known(name, kind, frames):
    images, metas = frames
    told, untold = _method(name, kind), _method(name, kind)
    for image, condition in zip(images[:3], ('fog', 'fog', 'night')):
        with_label = [dict(metas[0], condition=condition, round=1, sequence=condition)]
        assert torch.equal(told.adapt(image, with_label), untold.adapt(image, metas))
    assert _same(_tensors(told), _tensors(untold))


@each_method
def test_the_guard_takes_back_a_bad_step(name, kind, frames):
    images, metas = frames
    method = _method(name, kind)
    guard = UpdateGuard(
        check_every=1, min_agreement=0.0, min_entropy_share=0.0, max_class_share=1.0
    )
    # Noise is not learned from.
    images = [torch.nn.functional.avg_pool2d(image, 9, 1, 4) for image in images]
    metas = [dict(metas[0], stream_index=0)]
    before = _tensors(method)
    predict_and_learn(method, images[0], metas, guard)
    assert guard.take_events() == []
    if name in STATIC:
        return
    method.reset()
    spoilt = next(iter(method.adaptable_parameters().values()))
    update = method.update

    def ruin():
        update()
        with torch.no_grad():
            spoilt.fill_(float('nan'))

    method.update = ruin
    guard.forget()
    assert predict_and_learn(method, images[0], metas, guard).isfinite().all()
    assert [event['event'] for event in guard.take_events()] == ['rollback']
    assert _same(_tensors(method), before)


@each_method
def test_a_refused_update_leaves_all_as_it_was(name, kind, frames):
    images, metas = frames
    method = _method(name, kind)
    method.adapt(images[0], metas)
    before = method.method_state()
    method.last_step.updated = False
    method.begin_frame()
    method.propose(images[1], metas)
    method.discard()
    after = method.method_state()
    assert not method.last_step.updated
    if name == 'rdumb':  # It counts frames.
        assert after.pop('parts') != before.pop('parts')
    for state in (before, after):
        for key in list(state['tensors']):
            if key.rpartition('.')[2] in FOLLOWING:
                del state['tensors'][key]
    assert same(before, after)


@each_method
def test_a_dark_picture_goes_through_a_whole_step(name, kind):
    torch.manual_seed(6)
    picture = torch.randint(0, 60, (3, 61, 93)).byte()
    before = picture.clone()
    sample = SegDataSample(metainfo=_meta(61, 93))
    batch = dict(inputs=[picture], data_samples=[sample])
    method, asked = _method(name, kind), _method(name, kind)
    with asked.adaptation_disabled():
        (expected,) = asked.test_step(deepcopy(batch))
    start = _tensors(method)
    (found,) = method.test_step(batch)
    assert torch.allclose(found.seg_logits.data, expected.seg_logits.data, atol=1e-4)
    assert torch.equal(picture, before)
    if name not in (*STATIC, *CONFIDENT_ONLY):
        assert method.last_step.updated and not _same(_tensors(method), start)


@each_method
def test_copies_for_a_second_thread_predict_the_same(name, kind, frames):
    images, metas = frames
    method = _method(name, kind)
    method.adapt(images[0], metas)
    shadow = shadow_of(method)
    expected = method.predict(images[1], metas)
    assert torch.equal(shadow.predict(images[1], metas), expected)
    method.adapt(images[1], metas)
    assert torch.equal(shadow.predict(images[1], metas), expected)


def test_a_batch_of_two_sizes_names_the_two_files():
    method = _method('source', 'deeplab')
    samples = [SegDataSample(metainfo=dict(img_path=f'{name}.png')) for name in 'abc']
    images = [torch.zeros(3, 64, 96), torch.zeros(3, 64, 96), torch.zeros(3, 48, 96)]
    with pytest.raises(ValueError, match=r'but a\.png is 96x64 and c\.png is 96x48 pixels'):
        method.test_step(dict(inputs=images, data_samples=samples))


def test_a_method_that_forgets_what_it_has_to_define_is_told_so():
    class Forgetful(GradientAdaptation):
        pass

    class Halfway(AdaptationMethod):
        """With nothing of its own."""

    with pytest.raises(TypeError, match='that defines learn, but Forgetful does not'):
        Forgetful(build_segmentor('deeplab'), dict(type='SGD', lr=0.1))
    with pytest.raises(TypeError, match='that defines propose, but Halfway does not'):
        Halfway(build_segmentor('deeplab'))


@pytest.mark.parametrize('kind', sorted(CONFIGS))
@pytest.mark.parametrize('name', sorted(METHODS))
def test_a_model_in_double_precision(name, kind):
    method = built(name, kind, build_segmentor(kind).double())
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    assert method.adapt(image, [_meta(64, 96)]).dtype == torch.float64
    learned = method.adaptable_parameters().values()
    assert all(parameter.dtype == torch.float64 for parameter in learned)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_refused(dtype):
    with pytest.raises(ValueError, match="float32 or float64, got torch.*set autocast='bf16'"):
        build_method(dict(type='source'), build_segmentor('deeplab').to(dtype))
