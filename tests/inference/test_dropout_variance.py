"""The variance under dropout, against predictions with masks of the test's own."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.inference.dropout_variance import dropout_variance
from tests.segmentors import build_segmentor, in_frame_mode

METAS = [dict(img_shape=(61, 93), ori_shape=(61, 93))]


@pytest.fixture
def frame():
    return torch.randn(1, 3, 61, 93, generator=torch.Generator().manual_seed(1)).double()


def test_of_the_classifier(segmentor, frame):
    segmentor = in_frame_mode(segmentor.double())
    head, seen = segmentor.decode_head, []
    head.conv_seg.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.no_grad():
        logits = segmentor.encode_decode(frame, METAS)
        generator, found = torch.Generator().manual_seed(4), []
        for _ in range(6):
            kept = (torch.rand(seen[0].shape[1], generator=generator) >= 0.25).double()
            found.append(head.conv_seg(seen[0] * kept.view(1, -1, 1, 1) / 0.75).softmax(1))
    expected = torch.stack(found).var(0, correction=0).sum(1, keepdim=True)
    expected = F.interpolate(expected, (61, 93), mode='bilinear')
    variance = dropout_variance(segmentor, frame, METAS, samples=6, rate=0.25, seed=4)
    assert torch.allclose(variance, expected) and variance.max() > 0.01
    assert torch.equal(segmentor.encode_decode(frame, METAS), logits), 'nothing stays behind'
    assert 'extract_feat' not in vars(segmentor)


def test_of_a_head_without_such_a_layer(segmentor, frame):
    segmentor.double()
    head = segmentor.decode_head
    # The classifier by another name.
    plain = deepcopy(segmentor)
    head.last, head.conv_seg = head.conv_seg, None
    head.cls_seg = lambda feat: head.last(feat)
    generator, found = torch.Generator().manual_seed(4), []
    with torch.no_grad():
        features = plain.extract_feat(frame)
        for _ in range(3):
            dropped = []
            for feature in features:
                kept = torch.rand(feature.shape[1], generator=generator) >= 0.5
                dropped.append(F.dropout(feature, 0.0) * kept.double().view(1, -1, 1, 1) * 2)
            found.append(plain.decode_head.predict(dropped, METAS, plain.test_cfg).softmax(1))
    expected = torch.stack(found).var(0, correction=0).sum(1, keepdim=True)
    variance = dropout_variance(segmentor, frame, METAS, samples=3, seed=4)
    assert torch.allclose(variance, expected)


def test_without_dropout_and_in_windows(frame):
    segmentor = build_segmentor('deeplab', mode='slide', crop_size=(48, 48), stride=(32, 32))
    assert isinstance(segmentor.decode_head.conv_seg, nn.Conv2d)
    frame = frame.float()
    assert dropout_variance(segmentor, frame, METAS, rate=0.0).max() < 1e-10
    variance = dropout_variance(segmentor, frame, METAS)
    assert variance.shape == (1, 1, 61, 93) and (variance > 0).all() and variance.max() < 1
