"""Configs of this package and of mmseg's zoo by name, whoever reads the config."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mmengine import hub
from mmengine.config import Config

from ecotta_seg.config.config import read_config
from ecotta_seg.startup.zoo_names import own_config, package_folder

ROOT = Path(__file__).resolve().parents[2]
ZOO = 'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024.py'


@pytest.mark.parametrize('name', ['acdc_ecotta.py', '_base_/datasets/acdc_stream.py'])
def test_a_base_of_this_package_is_the_file(name, tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = ['ecotta_seg::{name}']\nwork_dir = 'mine'\n")
    expected = Config.fromfile(ROOT / 'configs' / name).to_dict()
    found = Config.fromfile(tmp_path / 'mine.py').to_dict()
    assert found == {**expected, 'work_dir': 'mine'}
    assert hub.get_config(f'ecotta_seg::{name}').to_dict() == expected
    assert read_config(f'ecotta_seg::{name}').to_dict() == expected


def test_what_is_not_there_is_told(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = ['ecotta_seg::acdc.py']\n")
    with pytest.raises(ValueError, match='got ecotta_seg::acdc.py: there are acdc_ecotta.py, '):
        Config.fromfile(tmp_path / 'mine.py')
    with pytest.raises(ValueError, match='publishes no weights'):
        hub.get_config('ecotta_seg::demo.py', pretrained=True)
    assert own_config('mmseg::fcn/fcn.py') is None and own_config('demo.py') is None


@pytest.mark.slow
def test_a_start_of_python_is_enough(tmp_path):
    """As ``ecotta_seg.pth`` does in site-packages: nothing is imported for it but mmengine."""
    (tmp_path / 'mine.py').write_text("_base_ = ['ecotta_seg::acdc_ecotta.py']\n")
    (tmp_path / 'zoo.py').write_text(f"_base_ = ['{ZOO}']\n")
    code = (
        f'exec(open({str(ROOT / "ecotta_seg" / "ecotta_seg.pth")!r}).read())\n'
        'import sys\n'
        "assert not any(name.startswith(('ecotta', 'mmengine', 'importlib.metadata')) for name in "
        'sys.modules)\n'
        'from mmengine.config import Config\n'
        "assert Config.fromfile('zoo.py').model.backbone.depth == 50\n"
        "cfg = Config.fromfile('mine.py', import_custom_modules=False)\n"
        "assert cfg.adaptation.type == 'ecotta_plus' and cfg.model.backbone.depth == 50\n"
        "assert 'torch' not in sys.modules and 'ecotta_seg' not in sys.modules\n"
        'from mmengine.hub import get_config\n'
        "assert get_config('ecotta_seg::demo.py').adaptation.type == 'ecotta_plus'\n"
        "import ecotta_seg\nassert 'torch' in sys.modules and ecotta_seg.hooks\n"
    )
    paths = f'import sys; sys.path[1:] = {[str(ROOT), *sys.path]!r}'
    run = subprocess.run(
        [sys.executable, '-S', '-c', f'{paths}\n{code}'],
        cwd=tmp_path, capture_output=True, text=True, env={'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_the_model_index_lists_each_config():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    models = [
        model
        for path in index['Import']
        for model in yaml.safe_load((ROOT / path).read_text())['Models']
    ]
    folder = Path(package_folder('configs'))
    assert {model['Config'] for model in models} == {
        f'configs/{path.name}' for path in folder.glob('*.py')
    }
    assert all(model['Name'] == Path(model['Config']).stem for model in models)
