"""Tiny methods that have learned something, and frames for them."""

import numpy as np
import torch

from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, calibrated

SGD = dict(type='SGD', lr=0.02)
META = dict(num_parts=2, kernel_size=3, norm='BN', start='identity')
METHODS = {
    'source': dict(type='source'),
    'frame': dict(type='batch_norm_statistics'),
    'calibrated': dict(type='batch_norm_statistics', mode='calibrated', tolerance=0.1),
    'tent': dict(type='tent', optimizer=SGD),
    'law': dict(type='tent', layer_weights=dict(), optimizer=SGD),
    'cotta': dict(type='cotta', optimizer=SGD, views=1, teacher_momentum=0.5),
    'paper': dict(
        type='ecotta', meta_networks=dict(META, start='paper'), optimizer=SGD,
        frozen_norm=dict(mode='source'), entropy_threshold=1.0, fast_convolutions=True,
    ),
    'drift': dict(
        type='ecotta', meta_networks=dict(META, norm='LN', reduction=2), optimizer=SGD,
        frozen_norm=dict(mode='drift', weight=2.0), entropy_threshold=1.0,
    ),
    'ladder': dict(
        type='ladder', meta_networks=META, optimizer=SGD, entropy_threshold=1.0,
    ),
    'merging_ladder': dict(
        type='ladder', meta_networks=dict(META, merge='confidence', open_parts=1), optimizer=SGD,
        entropy_threshold=1.0,
    ),
    'coarse': dict(
        type='ecotta', meta_networks=dict(META, coarse=2), optimizer=SGD, entropy_threshold=1.0,
    ),
    'hybrid': dict(type='hybrid_tta', optimizer=SGD, teacher_momentum=0.5),
    'prototypes': dict(type='mixture_of_prototypes', optimizer=SGD, experts=2),
    'roid': dict(type='roid', optimizer=SGD, prior_correction=False),
    'plus': dict(
        type='ecotta_plus', meta_networks=META, optimizer=SGD, brightness=0.8,
        frozen_norm=dict(mode='calibrated', tolerance=0.1), entropy_threshold=1.0,
        shift_gate=dict(half=83.0, exponent=2.0),
    ),
    'gated_drift': dict(
        type='ecotta_plus', meta_networks=dict(META, norm='affine'), optimizer=SGD,
        frozen_norm=dict(mode='drift', weight=3.0), entropy_threshold=1.0,
        shift_gate=dict(half=80.0, exponent=2.0),
    ),
}  # fmt: skip


def frame(seed, size=(64, 96), light=1.0):
    """Coloured blocks with noise, (3, H, W) uint8."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(30, 220, (3, -(-size[0] // 16), -(-size[1] // 16)))
    image = np.kron(blocks, np.ones((1, 16, 16)))[:, : size[0], : size[1]]
    image = (image + generator.integers(-9, 10, image.shape)) * light
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8))


def step(method, image):
    """One step of a method on a frame."""
    from mmseg.structures import SegDataSample

    shape = tuple(image.shape[1:])
    sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    return method.test_step(dict(inputs=[image], data_samples=[sample]))[0]


def learned(name, kind='deeplab', steps=2, **options):
    """A method that has learned from a few frames; meta networks begin away from nothing."""
    segmentor = build_segmentor(kind, shallow=True)
    method = calibrated(build_method(dict(METHODS[name], **options), segmentor).eval())
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in method.adapter_parameters().values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for index in range(steps):
        step(method, frame(index))
    return method
