"""ESPNetv2's published weights and CamVid's networks on real frames.

The frames and weights are not in the repository: ``ECOTTA_REAL_ROOT`` names their folder. All
networks are scored if ``ECOTTA_REAL_ALL`` is set, else one.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ecotta_seg.config.config import read_config
from ecotta_seg.files.checkpoint import load_source
from tests.real.camvid_classes import CAMVID, KeepClasses
from tests.real.convert import convert
from tests.real.espnetv2 import espnetv2_config, published_channels
from tests.tools.conftest import run_tool

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get('ECOTTA_REAL_ROOT') or ROOT.parent / 'shared' / 'real').resolve()
CAMVID_ROOT = os.environ.get('CAMVID_ROOT') or str(REAL.parent / 'data' / 'camvid')
CONFIGS = Path(__file__).parent / 'configs'
WIDTHS, SIZES = ('1.0', '1.5', '2.0'), ('512x256', '1024x512')
NAMES = [f'espnetv2_x{width.replace(".", "")}_{size}' for width in WIDTHS for size in SIZES]
CAMVID_CHECKPOINTS = {
    'camvid_r18': REAL.parent / 'checkpoints' / 'deeplabv3plus_r18w32_camvid.pth',
    'camvid_segformer_b0': ROOT / 'data' / 'checkpoints' / 'segformer_b0_camvid.pth',
}
# mIoU in percent on the frames of the folder, computed outside of this project's tools: the mean
# over conditions, and the clear day or None.
MEANS = {
    'espnetv2_x10_512x256': (23.3, None),
    'espnetv2_x20_512x256': (26.5, None),
    'espnetv2_x10_1024x512': (19.0, None),
    'espnetv2_x20_1024x512': (21.5, None),
    'camvid_r18': (25.0, 45.6),
    'camvid_segformer_b0': (25.0, 40.4),
}

needs_frames = pytest.mark.skipif(
    not (REAL / 'acdc_half').is_dir(),
    reason=f'the real frames are not in {REAL}: set ECOTTA_REAL_ROOT to their folder',
)
needs_all = pytest.mark.skipif(
    not os.environ.get('ECOTTA_REAL_ALL'), reason='set ECOTTA_REAL_ALL=1 to score all networks'
)


def _published(name):
    _, width, size = name.split('_')
    return REAL / 'weights' / f'espnetv2_s_{width[1]}.{width[2]}_city_{size}.pth'


def _model(name):
    cfg = read_config(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        return cfg, MODELS.build(cfg.model).eval()


def _source(name, checkpoint, work_dir):
    """The source's mIoU by condition, their mean, and the clear day's."""
    run = run_tool(
        'test_tta', CONFIGS / f'{name}.py', checkpoint, '--method', 'source',
        '--work-dir', work_dir, ECOTTA_REAL_ROOT=str(REAL), CAMVID_ROOT=CAMVID_ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads((work_dir / 'results.json').read_text())
    assert {n: s['frames'] for n, s in found['source']['conditions'].items()} == dict(
        fog=9, night=19, rain=8, snow=7
    )
    conditions = [scores['mIoU'] for scores in found['source']['conditions'].values()]
    return conditions, found['source']['mIoU'], found['clear']['source']


@needs_frames
@pytest.mark.parametrize('name', NAMES)
def test_published_weights_fit_without_rest(name, tmp_path):
    convert(_published(name), tmp_path / 'converted.pth')
    cfg, model = _model(name)
    load_source(model, tmp_path / 'converted.pth')
    state = torch.load(tmp_path / 'converted.pth', weights_only=True)['state_dict']
    # Each tensor of either is one of the other's, the counters of BatchNorms among them.
    model.load_state_dict(state, strict=True)
    published = torch.load(_published(name), map_location='cpu', weights_only=True)
    wanted = espnetv2_config(published_channels(published))
    assert cfg.model.to_dict() == json.loads(json.dumps(wanted)) | {
        'backbone': dict(wanted['backbone'])
    }
    width, height = map(int, name.rpartition('_')[2].split('x'))
    for loader in (cfg.test_dataloader, cfg.forgetting_dataloader):
        assert loader.dataset.dataset.pipeline[1].scale == (width, height)


@pytest.mark.slow
@needs_frames
def test_the_source_scores_as_it_should(tmp_path):
    convert(_published('espnetv2_x15_512x256'), tmp_path / 'converted.pth')
    found = _source('espnetv2_x15_512x256', tmp_path / 'converted.pth', tmp_path / 'run')
    conditions, mean, clear = found
    assert conditions == pytest.approx([37.8, 11.2, 28.7, 28.4], abs=0.3)
    assert mean == pytest.approx(26.5, abs=0.3) and clear == pytest.approx(46.7, abs=0.3)


@needs_frames
@needs_all
@pytest.mark.parametrize('name', MEANS)
def test_all_sources_score_as_they_should(name, tmp_path):
    checkpoint = CAMVID_CHECKPOINTS.get(name, tmp_path / 'converted.pth')
    if name not in CAMVID_CHECKPOINTS:
        convert(_published(name), checkpoint)
    _, mean, clear = _source(name, checkpoint, tmp_path / 'run')
    expected, expected_clear = MEANS[name]
    assert mean == pytest.approx(expected, abs=0.3)
    assert expected_clear is None or clear == pytest.approx(expected_clear, abs=0.3)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save({'backbone.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='holds no published ESPNetv2'):
        convert(tmp_path / 'other.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_labels_of_other_classes_are_ignored():
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = KeepClasses().transform({'gt_seg_map': label.copy()})['gt_seg_map']
    expected = np.array([i if i in CAMVID else 255 for i in range(256)], np.uint8)
    assert found.dtype == np.uint8 and np.array_equal(found.ravel(), expected)
    assert KeepClasses().transform({'img': 1}) == {'img': 1}


@pytest.mark.parametrize('name', CAMVID_CHECKPOINTS)
def test_untrained_outputs_are_never_predicted(name):
    _, model = _model(name)
    logits = torch.randn(1, 19, 8, 12, generator=torch.Generator().manual_seed(0))
    logits[:, [3, 9]] += 100
    sample = SegDataSample(metainfo=dict(ori_shape=(37, 61), img_shape=(8, 12)))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 37, 61, dtype=torch.long))
    kept = logits.clone()
    (found,) = model.postprocess_result(logits, [sample])
    assert torch.equal(logits, kept)  # What a method learns from.
    resized = torch.nn.functional.interpolate(logits, (37, 61), mode='bilinear')[0]
    expected = torch.tensor(CAMVID)[resized[list(CAMVID)].argmax(0)]
    assert torch.equal(found.pred_sem_seg.data[0], expected)
    assert torch.isfinite(found.seg_logits.data).all()


@pytest.mark.parametrize('name', CAMVID_CHECKPOINTS)
@pytest.mark.parametrize('method', ['source', 'tent', 'cotta', 'ecotta'])
def test_methods_leave_them_out_as_the_source_does(name, method):
    from ecotta_seg.config.method import with_method
    from ecotta_seg.methods import build_method

    cfg, model = _model(name)
    with torch.no_grad():
        bias = model.decode_head.conv_seg.bias
        bias.zero_()
        bias[[3, 9]] = 100
    with_method(cfg, method, ROOT / 'configs', {})
    adapted = build_method(cfg.adaptation, model, 1)
    sample = SegDataSample(metainfo=dict(ori_shape=(128, 192), img_shape=(128, 192)))
    image = torch.randint(0, 255, (3, 128, 192), dtype=torch.uint8)
    found = adapted.test_step(dict(inputs=[image], data_samples=[sample]))[0].pred_sem_seg.data
    assert set(found.unique().tolist()) <= set(CAMVID)


def test_the_configs_read_the_frames_without_padding():
    for name in CAMVID_CHECKPOINTS:
        cfg, model = _model(name)
        data = dict(inputs=[torch.zeros(3, 240, 480, dtype=torch.uint8)], data_samples=None)
        assert model.data_preprocessor(data)['inputs'].shape == (1, 3, 240, 480)
        dataset = cfg.forgetting_dataloader.dataset.dataset
        assert list(dataset.indices) == list(range(0, 171, 6))
        for loader in (cfg.test_dataloader, cfg.forgetting_dataloader):
            kinds = [step.type for step in loader.dataset.dataset.pipeline]
            assert kinds.index('LoadAnnotations') < kinds.index('KeepClasses')
