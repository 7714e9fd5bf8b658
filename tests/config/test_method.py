"""The method in a config: presets, options and their imports."""

from pathlib import Path

import pytest

from ecotta_seg.choice.candidates import Candidate
from ecotta_seg.choice.preset import write_preset
from ecotta_seg.config.config import (
    read_config,
)
from ecotta_seg.config.method import with_meta_networks, with_method, with_seed

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def test_presets_of_one_type_are_told_apart():
    cfg = read_config(CONFIGS / 'demo.py')
    with_method(cfg, 'ecotta_paper', CONFIGS)
    assert cfg.method == 'ecotta_paper' and cfg.adaptation.type == 'ecotta'
    with_method(cfg, 'ecotta', CONFIGS)
    assert cfg.method == 'ecotta' and cfg.adaptation.meta_networks.start == 'identity'
    paper = read_config(CONFIGS / '_base_' / 'adaptation' / 'ecotta_paper.py')
    with_method(paper, 'ecotta', CONFIGS)
    assert paper.adaptation.meta_networks.start == 'identity'


def test_a_preset_brings_its_imports(tmp_path):
    preset = tmp_path / 'own.py'
    text = "custom_imports = dict(imports='json')\nadaptation = dict(type='own', rate=1)\n"
    preset.write_text(text)
    cfg = read_config(CONFIGS / 'demo.py')
    with_method(cfg, str(preset), CONFIGS)
    assert cfg.adaptation == dict(type='own', rate=1) and cfg.method == 'own'
    imports = dict(imports=['ecotta_seg', 'json'], allow_failed_imports=False)
    assert cfg.custom_imports == imports
    preset.write_text(text + 'views = 4\nrate = 3\n')
    with pytest.raises(ValueError, match='got also views: put these into the config of the run'):
        with_method(cfg, str(preset), CONFIGS)


def test_a_chosen_preset_of_your_own_keeps_its_imports(tmp_path):
    own, chosen = tmp_path / 'own.py', tmp_path / 'chosen.py'
    own.write_text(
        "custom_imports = dict(imports=['json'])\n"
        "adaptation = dict(type='own', optimizer=dict(type='SGD', lr=1.0))\n"
    )
    cfg = read_config(CONFIGS / 'demo.py')
    candidate = Candidate(str(own), 'optimizer.lr', 0.5)
    write_preset(chosen, candidate, cfg, CONFIGS, 'chosen')
    written = read_config(chosen)
    assert written.custom_imports.imports == ['json'] and written.adaptation.optimizer.lr == 0.5


def test_a_seed_reaches_the_generators_that_methods_own():
    cfg = read_config(CONFIGS / 'camvid_severe.py')
    cfg.adaptation = dict(type='cotta', seed=0)
    with_seed(cfg, 4)
    assert cfg.randomness.seed == 4 and cfg.adaptation.seed == 4
    cfg.adaptation = dict(type='tent')
    with_seed(cfg, 5)
    assert 'seed' not in cfg.adaptation


def test_meta_networks_are_found():
    own = dict(type='ecotta', meta_networks=dict(num_parts=4))
    assert with_meta_networks(own) is own
    assert with_meta_networks(None) is None and with_meta_networks(dict(type='tent')) is None


def test_the_weight_of_drift_goes_with_the_model():
    path = CONFIGS / 'camvid_severe_segformer_b0.py'
    for name, weight in (('ecotta_plus', 40.0), ('ladder', 36.0), ('ecotta_paper', None)):
        cfg = read_config(path)
        with_method(cfg, name, CONFIGS)
        assert cfg.adaptation.frozen_norm.get('weight') == weight


@pytest.mark.parametrize('name', ['ecotta', 'ladder', 'ecotta_paper', 'law'])
def test_nothing_of_the_method_before_stays(name):
    cfg = read_config(CONFIGS / 'acdc_ecotta.py')
    own = dict(norm='GN', split=[1, 2, 3, 4], num_parts=4)
    cfg.adaptation.update(fast_convolutions=True, frozen_norm=dict(mode='drift', weight=7.0))
    cfg.adaptation.meta_networks.update(own)
    with_method(cfg, name, CONFIGS)
    assert (
        cfg.adaptation == read_config(CONFIGS / '_base_' / 'adaptation' / f'{name}.py').adaptation
    )


def test_every_model_takes_the_same_settings():
    settings = []
    for config in ('camvid_severe.py', 'camvid_severe_segformer_b0.py'):
        cfg = read_config(CONFIGS / config)
        with_method(cfg, 'ladder', CONFIGS)
        settings.append(cfg.adaptation)
    assert settings[0] == settings[1] and settings[0].meta_networks.norm == 'auto'


def test_settings_of_another_method_do_not_stay():
    cfg = read_config(CONFIGS / 'camvid_severe_segformer_b0.py')
    with_method(cfg, 'ecotta_plus', CONFIGS)
    assert cfg.adaptation.type == 'ecotta_plus' and cfg.adaptation.meta_networks.norm == 'auto'
    cfg.adaptation = dict(type='ecotta', layer_weights=dict(), meta_networks=dict(norm='GN'))
    with_method(cfg, 'ladder', CONFIGS)
    assert cfg.adaptation.meta_networks.norm == 'auto' and cfg.adaptation.meta_networks.ladder
    with_method(cfg, 'tent', CONFIGS)
    assert cfg.adaptation.type == 'tent' and 'meta_networks' not in cfg.adaptation
    cfg = read_config(CONFIGS / 'camvid_severe.py')
    with_method(cfg, 'ecotta_plus', CONFIGS)
    assert cfg.adaptation.meta_networks.norm == 'auto'
