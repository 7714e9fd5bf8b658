"""``vis_backends`` of a config reach the visualizer, and packages that are missing are named."""

import pytest
from mmengine.config import Config

from ecotta_seg.config import visualizer as config_visualizer
from ecotta_seg.config.visualizer import with_vis_backends

LOCAL, TENSORBOARD = dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')
OTHER = dict(type='LocalVisBackend', config_save_file='c.py')


@pytest.mark.parametrize(('own', 'theirs', 'expected'), [
    ([TENSORBOARD], [LOCAL], [TENSORBOARD]),
    ('TensorboardVisBackend', [LOCAL], [TENSORBOARD]),
    (['LocalVisBackend', TENSORBOARD], [LOCAL], [LOCAL, TENSORBOARD]),
    ([LOCAL], [TENSORBOARD], [TENSORBOARD]),
    ([TENSORBOARD], [OTHER], [OTHER]),
    (None, [TENSORBOARD], [TENSORBOARD]),
    ([TENSORBOARD], None, [TENSORBOARD]),
])  # fmt: skip
def test_the_ones_that_were_changed_count(own, theirs, expected):
    cfg = Config(dict(visualizer=dict(type='SegLocalVisualizer', name='v', vis_backends=theirs)))
    if own is not None:
        cfg.vis_backends = own
    with_vis_backends(cfg)
    assert cfg.visualizer.vis_backends == expected and cfg.visualizer.name == 'v'


def test_a_config_without_a_visualizer():
    cfg = Config(dict(vis_backends=[TENSORBOARD]))
    with_vis_backends(cfg)
    assert cfg.visualizer == dict(type='SegLocalVisualizer', vis_backends=[TENSORBOARD])
    cfg = Config(dict())
    with_vis_backends(cfg)
    assert 'visualizer' not in cfg


def test_mistakes_are_one_sentence(monkeypatch):
    with pytest.raises(ValueError, match='expected vis_backends to be a list such as'):
        with_vis_backends(Config(dict(vis_backends=[3])))
    monkeypatch.setattr(config_visualizer, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='AimVisBackend needs aim, .* pip install aim'):
        with_vis_backends(Config(dict(vis_backends=['AimVisBackend'])))
