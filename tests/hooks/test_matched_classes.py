"""A segmentor whose masks have the ids of a data set."""

import numpy as np
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ecotta_seg.hooks.matched_classes import with_matched_classes
from ecotta_seg.names.class_names import NO_CLASS
from tests.segmentors import DEEPLAB


def test_masks_have_the_data_sets_ids():
    torch.manual_seed(0)
    model = MODELS.build(dict(DEEPLAB)).eval()
    logits = torch.randn(1, 7, 8, 9)
    table = [6, NO_CLASS, 2, 0, 1, 5, 3]
    expected = np.array(table)[logits[0].argmax(0).numpy()]
    with_matched_classes(model, table)
    with_matched_classes(model, table)
    sample = SegDataSample(metainfo=dict(ori_shape=(8, 9)))
    (found,) = model.postprocess_result(logits, [sample])
    assert np.array_equal(found.pred_sem_seg.data[0].numpy(), expected)
    assert set(np.unique(expected)) == set(table)
