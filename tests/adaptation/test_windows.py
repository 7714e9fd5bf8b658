"""Sliding windows against mmseg's own."""

import pytest
import torch

from ecotta_seg.adaptation import build_method
from ecotta_seg.adaptation.windows import forward_windows
from tests.adaptation.conftest import build_segmentor


@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
def test_prediction_equals_mmseg_slide_inference(kind, frames):
    images, metas = frames
    segmentor = build_segmentor(kind, mode='slide', crop_size=(40, 48), stride=(24, 32))
    with torch.no_grad():
        expected = segmentor.inference(images[0], [dict(m) for m in metas])
        shares = []
        logits = forward_windows(segmentor, images[0], metas, lambda _, s: shares.append(s))
    assert torch.equal(logits, expected)
    assert len(shares) > 2 and sum(shares) == pytest.approx(1)


def test_padding_is_predicted_and_not_learned_from(frames):
    images, _ = frames
    segmentor = build_segmentor('deeplab')
    metas = [dict(img_shape=(61, 93), pad_shape=(61, 93), padding_size=[0, 3, 0, 5])]
    seen = []
    logits = forward_windows(segmentor, images[0], metas, lambda x, _: seen.append(x.shape))
    assert logits.shape[2:] == (61, 93) and seen[0][2:] == (56, 90)


def test_a_window_has_no_graph_once_the_next_one_runs(frames):
    images, metas = frames
    segmentor = build_segmentor('deeplab', mode='slide', crop_size=(40, 48), stride=(24, 32))
    options = dict(
        type='ecotta', meta_networks=dict(num_parts=2), optimizer=dict(type='SGD', lr=0.01)
    )
    method = build_method(options, segmentor).eval()
    logits = method.adapt(images[0], metas)
    assert logits.shape == (1, 7, 61, 93) and not logits.requires_grad
    assert method.last_step.updated
