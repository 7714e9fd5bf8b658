"""Sliding windows against mmseg's own."""

import pytest
import torch

from ecotta_seg.inference.windows import forward_windows, learned_regions, predict_frames
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor


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


def test_padding_in_windows(frames):
    image = torch.cat([frames[0][0]] * 2, dim=3)[:, :, :61, :160]
    sizes = dict(crop_size=(40, 64), stride=(40, 48))
    segmentor = build_segmentor('deeplab', mode='slide', **sizes)
    # Windows begin at rows 0 and 21 and at columns 0, 48 and 96: the last column is padding alone.
    metas = [dict(img_shape=(52, 90), pad_shape=(61, 160), img_padding_size=[0, 70, 0, 9])]
    seen, shares = [], []

    def learn(logits, share):
        seen.append(tuple(logits.shape[2:]))
        shares.append(share)

    logits = forward_windows(segmentor, image, metas, learn)
    assert seen == [(40, 64), (40, 42), (31, 64), (31, 42)] and shares == [0.25] * 4
    boxes = learned_regions(segmentor, image, metas)
    assert boxes == [(0, 40, 0, 64), (0, 40, 48, 90), (21, 52, 0, 64), (21, 52, 48, 90)]
    assert logits.isfinite().all() and torch.equal(
        logits, predict_frames(segmentor, image, metas).detach()
    )
    # The source's norms measure nothing, so that the frame's prediction is mmseg's.
    with torch.no_grad():
        expected = segmentor.inference(image, [dict(metas[0], ori_shape=(52, 90))])
    assert torch.equal(logits[:, :, :52, :90], expected[:, :, :52, :90])


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
