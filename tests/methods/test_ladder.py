"""The ladder as a method: EcoTTA's loss, the gradients of its own graph, and its options."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from ecotta_seg.memory import StorageMeter
from ecotta_seg.meta_networks import LadderEncoder, prepare_meta_networks
from ecotta_seg.methods import build_method
from tests.segmentors import CONFIGS, build_segmentor

OPTIONS = dict(
    meta_networks=dict(num_parts=4, start='identity'),
    optimizer=dict(type='SGD', lr=0.002),
    entropy_threshold=0.75,
    frozen_norm=dict(mode='frame'),
    regularisation_weight=0.5,
)


@pytest.mark.parametrize('options', [{}, dict(merge='confidence'), dict(open_parts=2)])
def test_a_step_follows_autograd(segmentor, frames, options):
    images, metas = [image.double() for image in frames[0]], frames[1]
    meta_networks = dict(OPTIONS['meta_networks'], **options)
    config = dict(OPTIONS, type='ladder', meta_networks=meta_networks)
    method = build_method(config, segmentor).eval().double()
    method.start()
    for image in images:
        parameters = method.adaptable_parameters()
        with method.encoder.recording() as parts:
            logits = segmentor.encode_decode(image, metas)
        p = logits.softmax(1)
        entropy = -(p * p.log()).sum(1)
        loss = entropy[entropy < 0.75 * np.log(7)].mean()
        expected = dict(
            zip(parameters, torch.autograd.grad(loss, list(parameters.values()), retain_graph=True))
        )
        for k, (frozen, adapted) in enumerate(parts):
            mine = {n: q for n, q in parameters.items() if f'meta_networks.{k}.' in n}
            term = 0.5 * (adapted - frozen).abs().mean()
            for name, g in zip(mine, torch.autograd.grad(term, mine.values(), retain_graph=True)):
                expected[name] = expected[name] + g
        before = {n: q.detach().clone() for n, q in parameters.items()}
        assert torch.allclose(method.adapt(image, metas), logits, atol=1e-10)
        assert method.last_step.updated and 0 < method.last_step.confident_fraction < 1
        for name, parameter in parameters.items():
            assert torch.allclose(parameter, before[name] - 0.002 * expected[name], atol=1e-10)


def test_a_step_takes_less_memory_than_the_inserted_one():
    """On a model whose backbone is wide beside its head, which costs both the same."""

    def peak(kind):
        torch.manual_seed(0)
        config = deepcopy(CONFIGS['deeplab'])
        config['backbone'].update(base_channels=32)
        config['decode_head'].update(in_channels=256, c1_in_channels=32)
        segmentor = MODELS.build(ConfigDict(config)).eval()
        meta_networks = dict(OPTIONS['meta_networks'])
        if kind == 'ladder':
            meta_networks['reduction'] = 8
        method = build_method(dict(OPTIONS, type=kind, meta_networks=meta_networks), segmentor)
        image, metas = torch.randn(1, 3, 64, 96), [dict(img_shape=(64, 96))]
        method.adapt(image, metas)
        with StorageMeter() as meter:
            method.adapt(image, metas)
        return meter.peak_bytes

    assert peak('ladder') < 0.6 * peak('ecotta')


def test_any_method_on_meta_networks_can_stand_on_a_ladder(frames):
    images, metas = frames
    meta_networks = dict(OPTIONS['meta_networks'], ladder=True)
    plus = build_method(
        dict(OPTIONS, type='ecotta_plus', meta_networks=meta_networks), build_segmentor('deeplab')
    )
    assert isinstance(plus.encoder, LadderEncoder)
    assert plus.adapt(images[0], metas).isfinite().all() and plus.last_step.updated
    first = build_method(dict(OPTIONS, type='ladder'), build_segmentor('deeplab'))
    same = build_method(
        dict(OPTIONS, type='ecotta', meta_networks=meta_networks), build_segmentor('deeplab')
    )
    assert torch.equal(first.adapt(images[0], metas), same.adapt(images[0], metas))
    assert isinstance(
        prepare_meta_networks(build_segmentor('deeplab'), meta_networks), LadderEncoder
    )


def test_a_ladder_without_one_is_refused(segmentor):
    with pytest.raises(ValueError, match='leave ladder=False out'):
        build_method(dict(OPTIONS, type='ladder', meta_networks=dict(ladder=False)), segmentor)


def test_the_ladder_s_options_need_a_ladder(segmentor):
    with pytest.raises(ValueError, match="no option 'open_parts'"):
        build_method(
            dict(OPTIONS, type='ecotta', meta_networks=dict(num_parts=4, open_parts=1)), segmentor
        )


@pytest.mark.parametrize('name', ['ecotta', 'ladder'])
def test_meta_networks_have_to_be_a_dictionary(name):
    options = dict(type=name, meta_networks=4, optimizer=dict(type='SGD', lr=1e-3))
    with pytest.raises(ValueError, match='expected meta_networks to be a dictionary.*got 4'):
        build_method(options, build_segmentor('deeplab'))
