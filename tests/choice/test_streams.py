"""The streams that are searched and confirmed on, and the preset."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from ecotta_seg.choice.candidates import Candidate, adaptation_of, candidate_methods
from ecotta_seg.choice.preset import write_preset
from ecotta_seg.choice.streams import write_streams
from ecotta_seg.config.config import read_config
from ecotta_seg.config.method import with_method
from ecotta_seg.datasets.scenes.scene_writer import write_cityscapes_layout

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'


@pytest.fixture(scope='module')
def cfg(tmp_path_factory):
    data = tmp_path_factory.mktemp('clear')
    list(write_cityscapes_layout(data, {'test': 11}, (64, 32)))
    cfg = Config.fromfile(CONFIGS / 'demo.py')
    cfg.forgetting_dataloader.dataset = dict(
        type='ContinualStream', conditions=('clear',), rounds=1,
        dataset=dict(
            type='CityscapesDataset', data_root=str(data),
            data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                      dict(type='PackSegInputs')],
        ),
    )  # fmt: skip
    return cfg


def built(path):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(read_config(path).test_dataloader.dataset)


@pytest.mark.parametrize(('frames', 'expected'), [(40, (6, 5)), (8, (4, 4))])
def test_no_frame_is_searched_and_confirmed_on(cfg, tmp_path, frames, expected):
    streams = write_streams(cfg, tmp_path, frames, rounds=2, conditions=('night', 'snow'))
    assert streams.frames == expected
    seen = []
    for path, number in zip((streams.search, streams.confirm), expected):
        stream = built(path)
        assert len(stream) == 2 * 2 * number and stream.conditions == ('night', 'snow')
        infos = [stream.get_data_info(i) for i in range(number)]
        assert all(info['severity'] == 3 and info['condition'] == 'night' for info in infos)
        assert all(Path(info['seg_map_path']).is_file() for info in infos)
        seen += [info['img_path'] for info in infos]
        clear = built(streams.search).datasets['night'].pipeline.transforms
        assert type(clear[1]).__name__ == 'AdverseWeather'
        # Night is dark: the weather is made.
        assert stream[0]['inputs'].float().mean() < 60
    assert len(seen) == len(set(seen)) == sum(expected)


def test_what_no_stream_can_be_made_of_is_refused(cfg, tmp_path):
    with pytest.raises(ValueError, match='--conditions hail: expected some of fog'):
        write_streams(cfg, tmp_path, conditions=('hail',))
    few = Config(cfg.to_dict())
    few.forgetting_dataloader.dataset.dataset.indices = list(range(7))
    with pytest.raises(ValueError, match='expected at least 8 labelled clear frames .* got 7'):
        write_streams(few, tmp_path)
    other = Config(cfg.to_dict())
    other.forgetting_dataloader.dataset = dict(type='ADE20KDataset')
    with pytest.raises(ValueError, match='WeatherCityscapesDataset .* got ADE20KDataset'):
        write_streams(other, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_candidates_are_the_presets_and_rates_around_them(cfg):
    names = ['tent', 'rdumb', 'batch_norm_blend', 'batch_norm_statistics']
    tent, rdumb, blend, statistics = candidate_methods(cfg, names, CONFIGS)
    assert tent.key == 'optimizer.lr' and tent.values[tent.preset] == 1e-4
    assert min(tent.values) < 4e-6 and max(tent.values) == pytest.approx(3e-3)
    assert rdumb.key == 'optimizer.lr' and rdumb.values[rdumb.preset] == 2.5e-4
    assert blend.key == 'weight' and blend.values[blend.preset] == 0.5
    assert statistics.key is None and statistics.values == (None,)
    with pytest.raises(ValueError, match='expected each of --methods once'):
        candidate_methods(cfg, ['tent', 'tent'], CONFIGS)
    with pytest.raises(ValueError, match='--method tant: expected one of'):
        candidate_methods(cfg, ['tant'], CONFIGS)


def test_the_preset_is_what_method_takes(cfg, tmp_path):
    chosen = Candidate('rdumb', 'optimizer.lr', 7.5e-4)
    path = tmp_path / 'chosen.py'
    write_preset(path, chosen, cfg, CONFIGS, 'Take rdumb.\nIt gains "much".')
    own = Config(cfg.to_dict())
    with_method(own, str(path), CONFIGS)
    expected = adaptation_of(cfg, 'rdumb', CONFIGS)
    assert expected['optimizer']['lr'] == 2.5e-4
    expected['optimizer']['lr'] = 7.5e-4
    assert own.adaptation.to_dict() == expected and own.method == 'chosen'
    write_preset(path, None, cfg, CONFIGS, 'Adapting does not pay.')
    with_method(own, str(path), CONFIGS)
    assert own.adaptation == dict(type='source')


def test_a_file_that_holds_no_method_is_refused(cfg, tmp_path):
    with pytest.raises(ValueError, match='expected a file with a method, which does not exist'):
        with_method(Config(cfg.to_dict()), str(tmp_path / 'none.py'), CONFIGS)
    (tmp_path / 'model.py').write_text('model = dict()\n')
    with pytest.raises(ValueError, match='expected `adaptation = dict'):
        with_method(Config(cfg.to_dict()), str(tmp_path / 'model.py'), CONFIGS)
