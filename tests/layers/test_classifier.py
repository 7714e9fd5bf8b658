"""The classifier of a segmentor: of a head, of the last head of a cascade, and of none."""

import pytest
import torch

from ecotta_seg.layers.classifier import find_classifier, last_head
from tests.zoo import build


@pytest.mark.parametrize('model', ['pspnet', 'ocrnet', 'dpt'])
def test_its_outputs_are_the_logits(model):
    segmentor, seen = build(model), []
    find_classifier(segmentor).register_forward_hook(lambda module, x, y: seen.append(y))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits = last_head(segmentor)(*_inputs(segmentor, image))
    assert torch.equal(seen[-1], logits)


def _inputs(segmentor, image):
    features = segmentor.extract_feat(image)
    if last_head(segmentor) is segmentor.decode_head:
        return (features,)
    return features, segmentor.decode_head[0](features)


@pytest.mark.parametrize('model', ['knet', 'segmenter'])
def test_other_heads_have_none(model):
    assert find_classifier(build(model)) is None
    assert find_classifier(torch.nn.Identity()) is None
