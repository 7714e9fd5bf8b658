"""Meta networks, and what needs none, on models of many architectures."""

from copy import deepcopy
from pathlib import Path

import mmseg.models.decode_heads.point_head as point_head
import pytest
import torch

from ecotta_seg.config.config import read_config
from ecotta_seg.meta_networks import OutputEncoder
from ecotta_seg.methods import build_method
from tests.segmentors import calibrated
from tests.zoo import BEYOND_ENGINE, OTHER_BACKBONES, ZOO, build, point_sample

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'adaptation'
PLAIN = sorted({**BEYOND_ENGINE, **OTHER_BACKBONES})
# Described block by block, of blocks for which the engine has no operator.
KNOWN_BLOCKS = {'mobilenet_v2': 'InvertedResidual'}
# Nothing but LayerNorms, or none at all.
WITHOUT_BATCH_NORM = ('segmenter',)
METAS = [dict(img_shape=(64, 96), ori_shape=(64, 96))]


@pytest.fixture(autouse=True)
def _point_sample(monkeypatch):
    monkeypatch.setattr(point_head, 'point_sample', point_sample)


@pytest.fixture
def images():
    """Three (1, 3, 64, 96) frames."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 64, 96, generator=generator) for _ in range(3)]


def _options(name, **changed):
    options = read_config(FOLDER / f'{name}.py').adaptation.to_dict()
    if 'optimizer' in options:
        options['optimizer']['lr'] = 1e-2
    if 'entropy_threshold' in options:
        options['entropy_threshold'] = 0.99
    return {**options, **changed}


def _with_meta_networks(name, model):
    """A method whose norms are the source's, so that its meta networks alone could change
    anything."""
    frozen_norm = dict(mode='source') if name == 'ecotta' else dict(mode='drift', weight=0.0)
    return build_method(_options(name, frozen_norm=frozen_norm), build(model)).eval()


def _copied(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _frozen(method):
    adapted = method.adaptable_parameters()
    return _copied({n: p for n, p in method.segmentor.state_dict().items() if n not in adapted})


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize('name', ['ecotta', 'ecotta_plus'])
@pytest.mark.parametrize('model', sorted(ZOO))
def test_meta_networks_start_as_the_source_learn_and_go_back(model, name, images):
    # Frozen as well: torch's attention takes another path, with other roundings, where weights are.
    source = build(model).requires_grad_(False)
    with torch.no_grad():
        expected = source.inference(images[0], METAS)
    method = _with_meta_networks(name, model)
    assert torch.equal(method.predict(images[0], METAS), expected)
    start, frozen = _copied(method.learned_tensors()), _frozen(method)
    for image in images[:2]:
        logits = method.adapt(image.clone(), METAS)
        assert logits.shape == (1, 7, 64, 96) and logits.isfinite().all()
        assert method.last_step.updated
    learned = _copied(method.learned_tensors())
    for index in range(len(method.encoder.meta_networks)):
        names = [key for key in learned if f'meta_networks.{index}.' in key]
        changed = (not torch.equal(learned[key], start[key]) for key in names)
        assert any(changed), f'a head reads what meta network {index} is on'
    assert _same(_frozen(method), frozen)
    assert torch.equal(method.predict_reference(images[0], METAS), expected)

    fresh = _with_meta_networks(name, model)
    fresh.load_method_state(deepcopy(method.method_state()))
    assert _same(_copied(fresh.learned_tensors()), learned)
    ours, theirs = (m.adapt(images[2].clone(), METAS) for m in (method, fresh))
    assert torch.equal(ours, theirs) and not torch.equal(ours, expected)
    assert _same(fresh.learned_tensors(), method.learned_tensors())

    method.reset()
    assert _same(_copied(method.learned_tensors()), start)
    assert torch.equal(method.predict(images[0], METAS), expected)


@pytest.mark.parametrize('model', sorted(ZOO))
def test_the_methods_without_meta_networks_run(model, images):
    for name in ('tent', 'batch_norm_statistics'):
        if name == 'batch_norm_statistics' and model in WITHOUT_BATCH_NORM:
            with pytest.raises(ValueError, match='the model has no BatchNorm'):
                build_method(_options(name), build(model))
            continue
        method = build_method(_options(name), build(model)).eval()
        for image in images[:2]:
            logits = method.adapt(image.clone(), METAS)
            assert logits.shape == (1, 7, 64, 96) and logits.isfinite().all()
        assert method.last_step.updated == (name == 'tent')


@pytest.mark.slow
@pytest.mark.parametrize('model', sorted(ZOO))
def test_the_methods_of_the_field_run(model, images):
    for name in ('roid', 'rotta', 'svdp', 'vida', 'hybrid_tta', 'becotta'):
        options = _options(name, **(dict(views=1) if name == 'svdp' else {}))
        if name == 'hybrid_tta' and model == 'tokens':
            with pytest.raises(TypeError, match='gives its decode head feature maps'):
                build_method(options, build(model))
            continue
        method = build_method(options, build(model)).eval()
        for image in images[:2]:
            logits = method.adapt(image.clone(), METAS)
            assert logits.shape == (1, 7, 64, 96) and logits.isfinite().all()
            assert method.last_step.updated


@pytest.mark.parametrize('model', sorted(ZOO))
def test_prototypes_need_a_classifier_and_no_more(model, images):
    options = _options('mixture_of_prototypes')
    if model in ('knet', 'pointrend', 'segmenter'):
        with pytest.raises(ValueError, match='1x1 convolution conv_seg, but .*Head has none'):
            build_method(options, build(model))
        return
    method = calibrated(build_method(options, build(model)).eval())
    for image in images[:2]:
        logits = method.adapt(image.clone(), METAS)
        assert logits.shape == (1, 7, 64, 96) and logits.isfinite().all()
        assert method.last_step.updated


@pytest.mark.parametrize('model', ['danet', 'encnet', 'pointrend', 'hrnet_ocrnet', 'dpt', 'ddrnet'])
def test_autocast_takes_heads_and_backbones_that_give_more_than_a_tensor(model, images):
    for name in ('tent', 'ecotta_plus'):
        method = build_method(_options(name), build(model)).eval()
        narrow = build_method(_options(name, autocast='bf16'), build(model)).eval()
        expected, logits = (m.adapt(images[0].clone(), METAS) for m in (method, narrow))
        assert logits.dtype == torch.float32 and narrow.last_step.updated
        # The classes of most pixels; bfloat16 has eight bits, and the weights are random.
        assert (logits.argmax(1) == expected.argmax(1)).float().mean() > 0.7


@pytest.mark.parametrize('model', PLAIN)
def test_what_the_engine_does_not_know_is_named(model):
    method = build_method(_options('ecotta'), build(model))
    if model in KNOWN_BLOCKS:
        # Meta networks sit between the blocks, which the engine runs one by one by autograd.
        assert method.engine is not None
        assert method.fallbacks()[:2] == [f'block {i} ({KNOWN_BLOCKS[model]})' for i in (1, 2)]
    else:
        (reason,) = method.fallbacks()
        assert method.engine is None and reason.startswith('whole step, for its ')
    # Who does not want the engine hears nothing of it.
    assert build_method(_options('ecotta', memory_engine=False), build(model)).fallbacks() == []


def test_the_probe_of_a_model_of_some_sizes_is_run_on_the_frame_as_it_is():
    method = build_method(_options('ecotta_plus'), build('unet')).eval()
    sides = []
    method.encoder.register_forward_pre_hook(lambda _, args: sides.append(args[0].shape[2]))
    # Half of 272 is no multiple of 16; of 288 it is.
    for side in (272, 288, 272):
        metas = [dict(img_shape=(side, side), ori_shape=(side, side))]
        method.adapt(torch.randn(1, 3, side, side), metas)
    assert sides == [136, 272, 272, 144, 288, 272, 272] and method.last_step.updated


@pytest.mark.parametrize(('model', 'positions'), [
    ('hrnet', (0, 1, 2, 3)), ('bisenet_v1', (0,)), ('stdc', (3,)), ('unet', (4,)),
    ('ddrnet', (0,)), ('vit_mla', (0, 1, 2, 3)), ('tokens', (0,)),
])  # fmt: skip
def test_the_outputs_that_are_read_have_a_meta_network(model, positions):
    encoder = build_method(_options('ecotta'), build(model)).encoder
    assert isinstance(encoder, OutputEncoder) and encoder.split == positions
    assert len(encoder.meta_networks) == len(positions)
