"""Class and confidence of each pixel, beside NumPy."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ecotta_seg.apis.frame_answer import frame_confidence, frame_mask


def sample_of(logits, mask):
    return SegDataSample(
        seg_logits=PixelData(data=torch.from_numpy(logits)),
        pred_sem_seg=PixelData(data=torch.from_numpy(mask)[None]),
    )


def test_the_largest_probability():
    logits = np.random.default_rng(0).normal(0, 30, (5, 4, 6)).astype(np.float32)
    sample = sample_of(logits, logits.argmax(0))
    mask, confidence = frame_mask(sample), frame_confidence(sample)
    assert mask.dtype == np.uint8 and np.array_equal(mask, logits.argmax(0))
    wide = logits.astype(np.float64)
    wide = np.exp(wide - wide.max(0))
    assert confidence.dtype == np.float32 and confidence.shape == (4, 6)
    assert np.allclose(confidence, (wide / wide.sum(0)).max(0), atol=1e-6)
    assert confidence.max() <= 1


def test_one_logit():
    logits = np.array([[[-2.0, 0.5, 3.0]]], np.float32)
    # A threshold of 0.7 puts the second pixel into class 0.
    sample = sample_of(logits, np.array([[0, 0, 1]]))
    positive = 1 / (1 + np.exp(-logits[0]))
    expected = np.where([[False, False, True]], positive, 1 - positive)
    assert np.allclose(frame_confidence(sample), expected, atol=1e-6)
    assert frame_mask(sample).tolist() == [[0, 0, 1]]


def test_too_many_classes_for_a_mask_of_8_bits():
    with pytest.raises(ValueError, match='up to 255 classes, but the model has 256'):
        frame_mask(sample_of(np.zeros((256, 2, 2), np.float32), np.zeros((2, 2), np.int64)))
