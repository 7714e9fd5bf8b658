"""A calibration that is taken over does what the frames would do that it was measured on."""

import pytest
import torch

from ecotta_seg.layers.calibrated_batch_norm import ESTIMATED_DRIFT
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor

PLUS = dict(
    type='ecotta_plus',
    meta_networks=dict(num_parts=2, start='identity'),
    frozen_norm=dict(mode='calibrated'),
    shift_gate=dict(half=1.5, exponent=6.0),
    optimizer=dict(type='SGD', lr=0.05),
    entropy_threshold=1.01,
)
STATISTICS = dict(type='batch_norm_statistics', mode='calibrated')
AROUND = dict(PLUS, reset_every=100)


def _method(options):
    return build_method(options, build_segmentor('deeplab')).eval()


def _calibrated(options, frames):
    images, metas = frames
    method = _method(options)
    method.calibrate([(image, metas) for image in images[:4]])
    return method


@pytest.mark.parametrize('options', [PLUS, STATISTICS, AROUND], ids=['plus', 'norms', 'around'])
def test_a_calibration_taken_over_equals_one_on_frames(options, frames):
    images, metas = frames
    measured, taking, estimating = _calibrated(options, frames), _method(options), _method(options)
    assert measured.has_calibration and not taking.has_calibration
    assert taking.take_calibration(measured.calibration()) and taking.has_calibration
    differs = False
    for image in images[4:7]:
        expected = measured.adapt(image.clone(), metas)
        assert torch.equal(taking.adapt(image.clone(), metas), expected)
        differs |= not torch.equal(estimating.adapt(image.clone(), metas), expected)
    assert differs


def test_a_copy_is_taken(frames):
    measured, taking = _calibrated(STATISTICS, frames), _method(STATISTICS)
    taking.take_calibration(measured.calibration())
    kept = {name: tensor.clone() for name, tensor in taking.calibration().items()}
    for tensor in measured.calibration().values():
        tensor.zero_()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in taking.calibration().items())


def test_a_calibration_of_another_method_is_not_taken(frames):
    # The statistics alone measure neither the gate's units nor the exposure's target.
    taking = _method(PLUS)
    assert not taking.take_calibration(_calibrated(STATISTICS, frames).calibration())
    assert not taking.has_calibration
    drifts = [v for k, v in taking.calibration().items() if k.endswith('usual_drift')]
    assert drifts and all((drift == ESTIMATED_DRIFT).all() for drift in drifts)
    # A method without anything to calibrate takes none.
    assert not _method(dict(type='source')).take_calibration({})


@pytest.mark.parametrize('change', [lambda t: t[:-1], lambda t: t * float('nan')])
def test_a_calibration_that_does_not_fit_changes_nothing(frames, change):
    saved, taking = _calibrated(PLUS, frames).calibration(), _method(PLUS)
    last = list(saved)[-1]
    with pytest.raises(ValueError, match=f'expected {last} of shape .* and finite'):
        taking.take_calibration({**saved, last: change(saved[last])})
    expected = _method(PLUS).calibration()
    assert all(torch.equal(t, expected[name]) for name, t in taking.calibration().items())
    assert not taking.has_calibration


@pytest.mark.parametrize('options', [PLUS, AROUND], ids=['plus', 'around'])
def test_the_estimate_is_calibrated_with_the_method(options, frames):
    images, metas = frames
    measured, taking = (_method(dict(options, estimate=True)) for _ in range(2))
    assert not measured.is_calibrated and not measured.estimate.calibration()
    weights = {name: t.clone() for name, t in measured.state_dict().items()}
    # As a Runner builds it.
    measured.train()
    measured.calibrate_all([(image, metas) for image in images[:4]])
    assert measured.is_calibrated and measured.estimate.calibration()
    assert all(torch.equal(t, weights[name]) for name, t in measured.state_dict().items())
    saved = {name: tensor.clone() for name, tensor in measured.calibration().items()}
    without = {name: t for name, t in saved.items() if not name.startswith('estimate.')}
    assert taking.take_calibration(without) and not taking.is_calibrated
    assert taking.take_calibration(saved) and taking.is_calibrated
    found = taking.estimate.calibration()
    assert all(torch.equal(t, found[n]) for n, t in measured.estimate.calibration().items())
    with pytest.raises(ValueError, match='of the estimate does not fit: expected classes'):
        taking.take_calibration({**saved, 'estimate.classes': saved['estimate.classes'][:-1]})
