"""Models with one logit a pixel adapt as those with two, of which the first is 0."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from ecotta_seg.methods import build_method
from tests.methods.test_every_method import METHODS, built
from tests.segmentors import CONFIGS, in_frame_mode

SIZE = (64, 96)


def _pair(kind, threshold=0.5, **test_cfg):
    """The same model with one logit, and with two."""
    pair = []
    for outputs in (1, 2):
        config = deepcopy(CONFIGS[kind])
        config['decode_head'].update(
            num_classes=2, out_channels=outputs, threshold=threshold if outputs == 1 else None,
            loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=outputs == 1),
        )  # fmt: skip
        config['test_cfg'] = dict(config['test_cfg'], **test_cfg)
        torch.manual_seed(0)
        pair.append(MODELS.build(ConfigDict(config)))
    one, two = pair
    for module in one.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.6, 1.4)
    nn.init.normal_(one.decode_head.conv_seg.weight, std=2.0)
    one.eval()
    (batch,) = _batches(1)
    with torch.no_grad():
        image = one.data_preprocessor(batch, False)['inputs']
        logit = one.encode_decode(image, [dict(img_shape=SIZE, ori_shape=SIZE)])
        # Both classes occur.
        one.decode_head.conv_seg.bias -= logit.median()
    state = one.state_dict()
    for part in ('weight', 'bias'):
        row = state[f'decode_head.conv_seg.{part}']
        state[f'decode_head.conv_seg.{part}'] = torch.cat([torch.zeros_like(row), row])
    two.load_state_dict(state)
    return one, two.eval()


def _batches(number):
    generator = torch.Generator().manual_seed(2)
    for _ in range(number):
        image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
        sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=(32, 48)))
        yield dict(inputs=[image], data_samples=[sample])


def _masks(method):
    return [method.test_step(batch)[0].pred_sem_seg.data.long() for batch in _batches(3)]


@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
# These train the last convolution too, of which two logits have twice as many weights.
@pytest.mark.parametrize('name', sorted(set(METHODS) - {'cotta', 'svdp', 'vida', 'hybrid_tta'}))
def test_one_logit_is_two_of_which_one_is_zero(name, kind):
    methods = []
    for segmentor in _pair(kind):
        torch.manual_seed(3)
        method = built(name, kind, segmentor)
        if name == 'tent':
            # Adam makes steps of rounding errors of gradients that are 0, as of a norm's shift in
            # front of a norm.
            method.optimizer_config = dict(type='SGD', lr=1e-2)
            method.start()
        methods.append(method)
    one, two = methods
    masks = list(zip(_masks(one), _masks(two)))
    assert any(0 < mask.float().mean() < 1 for mask, _ in masks)
    for mask, other in masks:
        assert (mask == other).float().mean() > 0.999
    assert one.last_step.updated == two.last_step.updated
    for (name_, found), expected in zip(
        one.learned_tensors().items(), two.learned_tensors().values()
    ):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4), name_


@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.8])
@pytest.mark.parametrize('mode', [{}, dict(mode='slide', crop_size=(48, 48), stride=(16, 32))])
def test_masks_are_mmsegs_own_by_the_models_threshold(threshold, mode):
    one, _ = _pair('deeplab', threshold, **mode)
    expected = [one.test_step(batch)[0] for batch in _batches(2)]
    method = build_method(dict(type='source'), one).eval()
    for batch, sample in zip(_batches(2), expected):
        (found,) = method.test_step(batch)
        assert torch.equal(found.pred_sem_seg.data, sample.pred_sem_seg.data)
        assert torch.allclose(found.seg_logits.data, sample.seg_logits.data, atol=1e-6)


def test_views_are_averaged_as_sigmoids():
    one, _ = _pair('deeplab', 0.3)
    (batch,) = _batches(1)
    image = one.data_preprocessor(deepcopy(batch), False)['inputs']
    metas = [dict(img_shape=SIZE, ori_shape=SIZE)]
    with torch.no_grad():
        plain = one.encode_decode(image, metas).sigmoid()
        mirrored = one.encode_decode(image.flip(3), metas).sigmoid().flip(3)
    method = build_method(dict(type='source', views=2), one).eval()
    batch['data_samples'][0].set_metainfo(dict(ori_shape=SIZE))
    (sample,) = method.test_step(batch)
    mean = (plain + mirrored)[0] / 2
    assert torch.allclose(sample.seg_logits.data, mean, atol=1e-5)
    assert torch.equal(sample.pred_sem_seg.data, (sample.seg_logits.data > 0.3).float())


def test_cotta_learns_its_labels_by_binary_cross_entropy():
    one, _ = _pair('deeplab')
    (batch,) = _batches(1)
    image = one.data_preprocessor(deepcopy(batch), False)['inputs']
    metas = [dict(img_shape=SIZE, ori_shape=SIZE)]
    student = in_frame_mode(one).requires_grad_(True)
    logit = student.encode_decode(image, metas)
    label = (logit > 0).float().detach()
    loss = F.binary_cross_entropy_with_logits(logit, label)
    loss.backward()
    config = dict(
        type='cotta', optimizer=dict(type='SGD', lr=0.1), views=1, restore_probability=0.0
    )
    method = build_method(config, one).eval()
    method.adapt(image, metas)
    assert method.last_step.loss == pytest.approx(float(loss.detach()), rel=1e-4)
    expected = student.decode_head.conv_seg
    found = method.segmentor.decode_head.conv_seg
    assert expected.weight.grad.abs().max() > 1e-4
    change = expected.weight - 0.1 * expected.weight.grad
    assert torch.allclose(found.weight, change, atol=1e-5)


def test_the_memory_engine_leaves_it_to_autograd_and_says_so():
    one, _ = _pair('deeplab')
    method = built('ecotta', 'deeplab', one)
    assert method.engine is None
    assert method.fallbacks() == ['whole step, for its segmentor (OneLogitEncoderDecoder)']


def test_an_output_that_is_no_class_is_refused():
    one, _ = _pair('deeplab')
    one.decode_head.threshold = None
    with pytest.raises(ValueError, match='has no threshold .a depth, maybe.: use a segmentor'):
        build_method(dict(type='source'), one)
