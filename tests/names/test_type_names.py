"""Types in configs: a text, a text with a scope, a class, a class derived from it, an object."""

from copy import deepcopy

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler

from ecotta_seg.apis.init_segmentor import frame_pipeline
from ecotta_seg.config.config import with_reporting, with_resume
from ecotta_seg.config.method import method_name, with_method, with_seed
from ecotta_seg.config.stream import with_stream
from ecotta_seg.datasets import AdverseWeather, ContinualStream
from ecotta_seg.evaluation import PerConditionIoU
from ecotta_seg.hooks import EcoTTAHook, ResultsHook, StreamStateHook
from ecotta_seg.methods import build_method
from ecotta_seg.methods.tent import Tent
from ecotta_seg.names.type_names import is_a, type_name
from ecotta_seg.registry import ADAPTATION_METHODS
from ecotta_seg.resume.run_identity import _leaves
from tests.config.test_config import CONFIGS
from tests.segmentors import build_segmentor


class OwnStream(ContinualStream):
    """A user's own."""


FORMS = ['ContinualStream', 'ecotta_seg.ContinualStream', ContinualStream, OwnStream]


@pytest.mark.parametrize('form', FORMS)
def test_all_forms_are_the_same_type(form):
    assert is_a(form, 'ContinualStream') and is_a(dict(type=form), 'ContinualStream')
    assert not is_a(form, 'Stream') and not is_a(dict(), 'ContinualStream')
    assert type_name(dict(type=form)).endswith('Stream') and '.' not in type_name(form)
    assert type_name(None) == type_name(dict()) == ''


def test_objects_have_the_type_of_their_class():
    hook = StreamStateHook()
    assert is_a(hook, 'StreamStateHook') and is_a(hook, 'Hook') and type_name(hook) == (
        'StreamStateHook'
    )  # fmt: skip


def _stream(form, weather):
    inner = dict(type='X', pipeline=[dict(type=weather, seed=0)])
    return Config(dict(test_dataloader=dict(dataset=dict(type=form, dataset=inner))))


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('weather', ['AdverseWeather', 'mmseg.AdverseWeather', AdverseWeather])
def test_a_stream_and_its_weather_are_found(form, weather):
    cfg = _stream(form, weather)
    with_stream(cfg, 'mixed', 3)
    dataset = cfg.test_dataloader.dataset
    assert (dataset.order, dataset.seed, dataset.dataset.pipeline[0].seed) == ('mixed', 3, 3)


@pytest.mark.parametrize('form', [
    'StreamStateHook', 'mmengine.StreamStateHook', StreamStateHook, None,
])  # fmt: skip
def test_resuming_is_set_on_the_one_hook(form):
    hook = StreamStateHook(interval=2) if form is None else dict(type=form, interval=2)
    cfg = Config(dict(custom_hooks=[hook, dict(type=ResultsHook)]))
    with_resume(cfg)
    assert len(cfg.custom_hooks) == 2
    found = cfg.custom_hooks[0]
    resume = found.resume if form is None else found['resume']
    assert resume is True and (found.interval if form is None else found['interval']) == 2


@pytest.mark.parametrize(('hook', 'metric'), [
    ('mmengine.EcoTTAHook', 'mmseg.PerConditionIoU'), (EcoTTAHook, PerConditionIoU),
    (EcoTTAHook(), PerConditionIoU()),
])  # fmt: skip
def test_what_is_there_is_not_added_again(hook, metric):
    as_given = isinstance(hook, EcoTTAHook)
    cfg = Config(dict(
        custom_hooks=[hook if as_given else dict(type=hook)],
        test_evaluator=metric if as_given else dict(type=metric),
    ))  # fmt: skip
    with_reporting(cfg)
    assert sum(is_a(h, 'EcoTTAHook') for h in cfg.custom_hooks) == 1
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    assert sum(is_a(found, 'PerConditionIoU') for found in metrics) == 1


@pytest.mark.parametrize('kind', ['tent', 'ecotta_seg.tent', Tent])
def test_methods_are_built_from_any_form(kind):
    optimizer = dict(type='SGD', lr=1e-3)
    method = build_method(dict(type=kind, optimizer=optimizer), build_segmentor('deeplab'))
    assert type(method) is Tent and method_name(dict(type=kind)) == 'tent'
    cfg = Config(dict(adaptation=dict(type=kind, optimizer=dict(lr=5))))
    with_method(cfg, 'tent', CONFIGS)
    assert cfg.adaptation.optimizer.lr == 5, 'settings for the same method stay'


_DRAWING = ['cotta', 'rotta', 'roid', 'svdp', 'vida', 'hybrid_tta', 'becotta']


@pytest.mark.parametrize('name', _DRAWING)
@pytest.mark.parametrize('of_class', [False, True])
def test_a_seed_reaches_each_method_that_draws(name, of_class):
    kind = ADAPTATION_METHODS.get(name) if of_class else name
    cfg = Config(dict(adaptation=dict(type=kind)))
    with_seed(cfg, 4)
    assert cfg.adaptation.seed == 4


def test_the_pipeline_of_a_camera_leaves_out_what_reads_files():
    from mmcv.transforms import LoadImageFromFile
    from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs

    steps = [LoadImageFromFile, AdverseWeather, LoadAnnotations, PackSegInputs]
    texts = ['mmcv.LoadImageFromFile', 'AdverseWeather', 'mmseg.LoadAnnotations', 'PackSegInputs']
    for kinds in (steps, texts):
        found = frame_pipeline(Config(dict(test_pipeline=[dict(type=kind) for kind in kinds])))
        assert [type_name(step) for step in found] == ['LoadImageFromNDArray', 'PackSegInputs']


def test_the_identity_of_a_run_tells_classes_apart():
    texts = dict(_leaves(dict(sampler=dict(type='DefaultSampler')), 'x'))
    classes = dict(_leaves(dict(sampler=dict(type=DefaultSampler)), 'x'))
    other = dict(_leaves(dict(sampler=dict(type=StreamStateHook)), 'x'))
    assert texts == classes != other and deepcopy(other) == {'x.sampler.type': "'StreamStateHook'"}
