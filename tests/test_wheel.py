"""The package as pip installs it: from a wheel, and from a clone with links."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import mmseg
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / 'data/checkpoints/demo_source.pth'
MINE = """_base_ = ['ecotta_seg::demo.py']
test_dataloader = dict(dataset=dict(conditions=('fog',), rounds=1, frames_per_condition=2))
forgetting_dataloader = None
"""
BOTH = """_base_ = ['mmseg::_base_/models/segformer_mit-b0.py',
    'ecotta_seg::_base_/datasets/acdc_stream.py', 'ecotta_seg::_base_/runtime/adaptation.py',
    'ecotta_seg::_base_/adaptation/ecotta_plus.py']
model = dict(data_preprocessor=dict(size=(512, 512)))
"""


def _pip(*arguments):
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=_environment())
    assert run.returncode == 0, run.stderr


def _environment():
    """This process' own without PYTHONPATH, by which pip would find the clone installed already."""
    return {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}


def _installed(folder, clone, *options):
    """An environment with the packages of this one, and ecotta_seg of a clone installed into it."""
    venv.create(folder, with_pip=False)
    base = {'base': str(folder), 'platbase': str(folder)}
    own = Path(sysconfig.get_path('purelib', 'venv', base))
    # Its .pth files are not read: an editable install there stays out of sight.
    (own / 'packages_of_the_tests.pth').write_text(sysconfig.get_path('purelib') + '\n')
    scripts = Path(sysconfig.get_path('scripts', 'venv', base))
    _pip('--python', scripts / 'python', 'install', '--no-deps', '--no-build-isolation', *options)
    work = folder / 'work'
    work.mkdir()
    (work / 'mine.py').write_text(MINE)
    (work / 'both.py').write_text(BOTH)

    def run(name, *arguments):
        environment = _environment()
        environment.update(OMP_NUM_THREADS='1', SCENES_ROOT=str(ROOT / 'data/driving_scenes'))
        return subprocess.run(
            [str(scripts / name), *map(str, arguments)],
            capture_output=True, text=True, cwd=work, env=environment, timeout=300,
        )  # fmt: skip

    return SimpleNamespace(run=run, work=work, package=own / 'ecotta_seg', clone=clone)


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clone')
    for name in ('ecotta_seg', 'configs', 'tools'):
        ignored = shutil.ignore_patterns('__pycache__', '.mim')
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'model-index.yml'):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    _pip('wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', folder / 'dist', clone)
    (path,) = (folder / 'dist').iterdir()
    return _installed(folder / 'venv', clone, path)


@pytest.fixture(scope='module')
def editable(clone, tmp_path_factory):
    return _installed(tmp_path_factory.mktemp('editable') / 'venv', clone, '--editable', clone)


def _files(folder, *patterns):
    paths = [path for pattern in patterns for path in Path(folder).rglob(pattern)]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.is_file() and '__pycache__' not in path.parts
    }


def test_the_wheel_carries_configs_tools_and_the_index(wheel):
    mim = wheel.package / '.mim'
    for name in ('configs', 'tools'):
        expected = _files(ROOT / name, '*.py', '*.yml')
        assert len(expected) > 5 and _files(mim / name, '*') == expected
    assert (mim / 'model-index.yml').read_bytes() == (ROOT / 'model-index.yml').read_bytes()


def test_an_editable_install_links_to_the_clone(editable):
    assert not editable.package.exists()
    for name in ('configs', 'tools', 'model-index.yml'):
        link = editable.clone / 'ecotta_seg' / '.mim' / name
        assert link.is_symlink() and link.samefile(editable.clone / name)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_configs_inherit_by_name_before_anything_is_imported(kind, request):
    install = request.getfixturevalue(kind)
    code = (
        'import sys\nfrom mmengine.config import Config\n'
        "mine = Config.fromfile('mine.py', import_custom_modules=False)\n"
        "assert mine.adaptation.type == 'ecotta_plus' and mine.forgetting_dataloader is None\n"
        "both = Config.fromfile('both.py', import_custom_modules=False)\n"
        "assert both.model.backbone.type == 'MixVisionTransformer'\n"
        "assert both.adaptation.type == 'ecotta_plus' and both.test_dataloader.dataset.rounds\n"
        "assert 'ecotta_seg' not in sys.modules\n"
        'from mmengine.hub import get_config\n'
        "print(get_config('ecotta_seg::demo.py').filename)\n"
        'import ecotta_seg\nprint(ecotta_seg.__file__)\n'
    )
    run = install.run('python', '-c', code)
    assert run.returncode == 0, run.stderr
    config, package = (Path(line).resolve() for line in run.stdout.splitlines()[-2:])
    home = install.package if kind == 'wheel' else install.clone / 'ecotta_seg'
    assert package == home / '__init__.py'
    assert config == (home / '.mim/configs/demo.py').resolve()


NAMED = (
    *('ecotta_seg::demo.py', CHECKPOINT, '--frames', 2, '--rounds', 1, '--conditions', 'fog'),
    *('--cfg-options', 'forgetting_dataloader=None'),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'arguments'), [('wheel', ('mine.py', CHECKPOINT)), ('editable', NAMED)]
)
def test_a_command_adapts_the_demo_model(kind, arguments, request):
    install = request.getfixturevalue(kind)
    run = install.run('ecotta-seg', 'adapt', *arguments, '--work-dir', kind)
    assert run.returncode == 0, run.stderr
    results = json.loads((install.work / kind / 'results.json').read_text())
    assert results['rounds'][0]['conditions']['fog']['frames'] == 2


@pytest.mark.slow
def test_mmsegs_own_tool_takes_a_config_by_name(wheel):
    tool = Path(mmseg.__file__).parent / '.mim/tools/test.py'
    run = wheel.run('python', tool, 'mine.py', CHECKPOINT, '--work-dir', 'theirs')
    assert run.returncode == 0, run.stderr
    assert json.loads((wheel.work / 'theirs/results.json').read_text())['rounds']
    # The bases are found; the data are not there.
    run = wheel.run('python', tool, 'both.py', CHECKPOINT, '--work-dir', 'both')
    assert 'is not installed' not in run.stderr and 'ACDCDataset' in run.stderr


def test_what_is_not_in_the_wheel_is_told(wheel):
    run = wheel.run('ecotta-seg', 'video', '.', 'out')
    assert run.returncode == 2 and 'Traceback' not in run.stderr
    assert 'comes with a clone' in run.stderr and '--config' in run.stderr
    run = wheel.run('ecotta-seg', 'adapt', 'ecotta_seg::acdc_ecotta.py', CHECKPOINT)
    assert run.returncode == 2 and 'data set does not exist: data/acdc' in run.stderr
