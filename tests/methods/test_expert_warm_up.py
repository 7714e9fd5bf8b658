"""The initialisation of BECoTTA: made weather, the losses, and which parameters learn."""

from copy import deepcopy
from math import log

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ecotta_seg.datasets import AdverseWeather
from ecotta_seg.methods.expert_warm_up import ExpertWarmUp
from tests.segmentors import CONFIGS, NUM_CLASSES, build_segmentor

DOMAINS = ('clear', 'night', 'fog')
SIZE = (64, 96)


@pytest.fixture
def model(tmp_path):
    torch.save(dict(state_dict=build_segmentor('deeplab').state_dict()), tmp_path / 'source.pth')
    options = dict(num_parts=2, experts=4, top=2, domains=DOMAINS)
    config = deepcopy(CONFIGS['deeplab'])
    config['data_preprocessor']['size'] = SIZE
    with DefaultScope.overwrite_default_scope('mmseg'):
        return ExpertWarmUp(
            segmentor=config, checkpoint=str(tmp_path / 'source.pth'), meta_networks=options
        ).train()


def _batch(number):
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for _ in range(number):
        small = torch.randint(0, 256, (1, 3, 4, 6), generator=generator).float()
        frame = torch.nn.functional.interpolate(small, SIZE, mode='bilinear')[0]
        inputs.append(frame.round().byte())
        label = torch.randint(0, NUM_CLASSES, (1, *SIZE), generator=generator)
        metainfo = dict(img_shape=SIZE, ori_shape=SIZE)
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=metainfo))
    return dict(inputs=inputs, data_samples=samples)


def _in_weather(frame, condition, severity):
    picture = frame.permute(1, 2, 0).contiguous().numpy()
    picture = AdverseWeather(condition, severity).transform(dict(img=picture))['img']
    rgb = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1).float()
    return (rgb - 120) / 60


def test_each_frame_of_the_training_gets_the_weather_of_its_domain(model):
    torch.manual_seed(0)
    plain, batch = _batch(8)['inputs'], _batch(8)
    seen = model.data_preprocessor(batch, True)
    numbers = [sample.metainfo['made_weather'] for sample in seen['data_samples']]
    assert set(numbers) == {0, 1, 2}
    for frame, number, found in zip(plain, numbers, seen['inputs']):
        made = [_in_weather(frame, DOMAINS[number], severity) for severity in range(1, 6)]
        assert any(torch.allclose(found, one, atol=1e-6) for one in made)
    batch = _batch(2)
    tested = model.data_preprocessor(batch, False)['inputs']
    assert torch.allclose(tested[1], _in_weather(plain[1], 'clear', 1))


def test_experts_and_routers_learn_by_the_loss_of_the_head_and_the_synergy(model):
    torch.manual_seed(0)
    batch = model.data_preprocessor(_batch(4), True)
    domains = [sample.metainfo['made_weather'] for sample in batch['data_samples']]
    losses = model(batch['inputs'], batch['data_samples'], mode='loss')
    assert [key for key in losses if 'loss' in key] == ['decode.loss_ce', 'loss_synergy']
    total = 0.0
    layers = model.encoder.meta_networks
    for layer in layers:
        assigned = layer.assigned.detach().numpy()
        rows = np.full((3, 4), 0.25)
        for domain in set(domains):
            rows[domain] = assigned[np.array(domains) == domain].mean(0)
        total -= (rows * np.log(rows / rows.mean(0))).sum(1).mean()
    assert float(losses['loss_synergy'].detach()) == pytest.approx(0.01 * total / 2, rel=1e-3)
    (losses['decode.loss_ce'] + losses['loss_synergy']).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert all('.meta_networks.' in name for name in learned)
    assert {name.rpartition('.')[2] for name in learned} == {'up', 'up_bias', 'route'}
    assert layers[0].classifier.counts.tolist() == [domains.count(d) for d in range(3)]
    assert layers[0].choice.given is None


def test_steps_make_the_experts_depend_on_the_domain(model):
    model.synergy_weight = 1.0
    optimizer = torch.optim.SGD(model.encoder.meta_networks.parameters(), lr=0.5, momentum=0.9)
    torch.manual_seed(0)
    ends = []
    for _ in range(25):
        batch = model.data_preprocessor(_batch(6), True)
        losses = model(batch['inputs'], batch['data_samples'], mode='loss')
        optimizer.zero_grad()
        (losses['decode.loss_ce'] + losses['loss_synergy']).backward()
        optimizer.step()
        ends.append([float(losses[key].detach()) for key in ('decode.loss_ce', 'loss_synergy')])
    first, last = np.array(ends[:5]).mean(0), np.array(ends[-5:]).mean(0)
    assert last[0] < first[0] - 0.05
    assert -log(3) < last[1] < first[1] - 0.1
    moved = {name for name, p in model.encoder.meta_networks[0].named_parameters() if p.grad.any()}
    assert moved == {'route', 'noise', 'down', 'down_bias', 'up', 'up_bias'}
