"""Heads that classify masks adapt by the logarithm of their scores, and keep mmseg's masks."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from ecotta_seg.inference.mask_classification import with_logits_of_scores
from ecotta_seg.methods import build_method
from tests.methods.test_every_method import METHODS, method_options
from tests.segmentors import DEEPLAB, NUM_CLASSES, build_segmentor

SIZE = (64, 96)
METAS = [dict(img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE)]
QUERIES = 12


@MODELS.register_module()
class QueryHead(BaseDecodeHead):
    """The prediction of mmdet's MaskFormerHead without its transformer."""

    def __init__(self, **options):
        super().__init__(in_channels=64, in_index=3, channels=8, **options)
        del self.conv_seg
        self.pixels = nn.Conv2d(64, 8, 1)
        self.queries = nn.Parameter(torch.randn(QUERIES, 8))
        self.cls_embed = nn.Linear(8, self.num_classes + 1)
        self.mask_embed = nn.Linear(8, 8)

    def forward(self, features):
        classes = self.cls_embed(self.queries)
        # Maps that differ over the frame, whatever the weights.
        pixels = F.instance_norm(self.pixels(features[3]))
        masks = torch.einsum('qc,bchw->bqhw', self.mask_embed(self.queries), pixels)
        return classes, masks

    def predict(self, features, metas, test_cfg):
        classes, masks = self(features)
        masks = F.interpolate(masks, size=metas[0]['img_shape'][:2], mode='bilinear')
        return torch.einsum('qc,bqhw->bchw', classes.softmax(-1)[:, :-1], masks.sigmoid())


def _segmentor(**test_cfg):
    torch.manual_seed(0)
    config = deepcopy(DEEPLAB)
    config['decode_head'] = dict(type='QueryHead', num_classes=NUM_CLASSES)
    config['test_cfg'] = dict(config['test_cfg'], **test_cfg)
    segmentor = MODELS.build(ConfigDict(config)).eval()
    with torch.no_grad():
        # Queries that know their class, on parts of the frame.
        segmentor.decode_head.cls_embed.weight.mul_(5)
        segmentor.decode_head.mask_embed.weight.mul_(3)
    return segmentor


def _frame(seed=0):
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def test_logits_have_the_scores_shares_as_probabilities():
    segmentor = _segmentor()
    with torch.no_grad():
        scores = segmentor.encode_decode(_frame(), METAS)
        logits = with_logits_of_scores(segmentor).encode_decode(_frame(), METAS)
    assert torch.allclose(logits.softmax(1), scores / scores.sum(1, keepdim=True), atol=1e-6)


def test_a_score_of_zero_has_a_finite_logit_and_gradient():
    segmentor = with_logits_of_scores(_segmentor())
    with torch.no_grad():
        segmentor.decode_head.cls_embed.weight.zero_()
        segmentor.decode_head.cls_embed.bias.copy_(torch.tensor([0.0] + [-200.0] * NUM_CLASSES))
    frame = _frame().requires_grad_()
    logits = segmentor.encode_decode(frame, METAS)
    chances = logits.log_softmax(1)
    (-(chances.exp() * chances).sum()).backward()
    assert logits.isfinite().all() and frame.grad.isfinite().all()


@pytest.mark.parametrize('mode', [{}, dict(mode='slide', crop_size=(48, 48), stride=(48, 48))])
def test_masks_are_mmsegs_own(mode):
    segmentor = _segmentor(**mode)

    def batch():
        image = torch.randint(
            0, 256, (3, *SIZE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
        )
        sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=(32, 48)))
        return dict(inputs=[image], data_samples=[sample])

    if mode:
        # mmseg's windows overlap at the edge: leave the frame a multiple of the crop.
        segmentor.test_cfg.update(crop_size=(64, 48), stride=(64, 48))
    (expected,) = segmentor.test_step(batch())
    method = build_method(dict(type='source'), segmentor).eval()
    (found,) = method.test_step(batch())
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)
    assert torch.allclose(found.seg_logits.data.exp(), expected.seg_logits.data, atol=1e-5)
    assert len(found.pred_sem_seg.data.unique()) > 1


@pytest.mark.parametrize('name', ['tent', 'ecotta', 'ecotta_plus', 'cotta'])
def test_methods_learn_from_confident_pixels(name):
    method = build_method(method_options(name), _segmentor()).eval()
    before = {k: t.clone() for k, t in method.adaptable_parameters().items()}
    for seed in range(3):
        method.adapt(_frame(seed), METAS)
    assert method.last_step.updated
    assert any(not torch.equal(t, before[k]) for k, t in method.adaptable_parameters().items())


def test_tent_on_scores_is_tent_on_their_shares():
    method = build_method(
        dict(type='tent', optimizer=dict(type='SGD', lr=0.1)), _segmentor()
    ).eval()
    plain = _segmentor()
    before = {k: t.detach().clone() for k, t in method.adaptable_parameters().items()}
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    plain.requires_grad_(True)
    scores = plain.encode_decode(_frame(), METAS)
    shares = scores / scores.sum(1, keepdim=True)
    (-(shares * shares.log()).sum(1).mean()).backward()
    method.adapt(_frame(), METAS)
    gradients = {k.removeprefix('segmentor.'): p.grad for k, p in plain.named_parameters()}
    largest = max(float(g.abs().max()) for g in gradients.values() if g is not None)
    for name, parameter in method.adaptable_parameters().items():
        step = (before[name] - parameter.detach()) / 0.1
        expected = gradients[name.removeprefix('segmentor.')]
        assert torch.allclose(step, expected, atol=1e-4 * largest), name


def test_other_heads_stay():
    segmentor = build_segmentor('deeplab')
    kind = type(segmentor)
    assert type(with_logits_of_scores(segmentor)) is kind
    twice = with_logits_of_scores(with_logits_of_scores(_segmentor()))
    assert type(twice).__name__ == f'MaskClassification{kind.__name__}'


def test_every_method_is_finite():
    for name in METHODS:
        if name == 'mixture_of_prototypes':
            # Its features are those of a classifier.
            continue
        method = build_method(method_options(name), _segmentor()).eval()
        assert method.adapt(_frame(), METAS).isfinite().all(), name
