"""Without a library of the stack every tool says which and how to install it, and no more."""

import os

import numpy as np
import pytest

from tests.tools.conftest import ROOT, error_of, run_tool

CONFIG, CHECKPOINT = ROOT / 'configs/demo.py', ROOT / 'data/checkpoints/demo_source.pth'
TEST = (CONFIG, CHECKPOINT)
IMAGES = ('--cfg-options', 'train_dataloader.dataset.data_prefix.img_path=leftImg8bit/test')
# Commands without a mistake: a mistake is told before a library is imported.
COMMANDS = {
    'adapt_video': ('.', 'out'),
    'benchmark_memory': (CONFIG, '--size', 32, 32),
    'benchmark_methods': ('--model', 'demo', *TEST, '--methods', 'source'),
    'choose': TEST,
    'compare': ('one', 'two'),
    'export': TEST,
    'make_adverse': ('in', 'out'),
    'make_driving_scenes': ('out', '--test', 1),
    'publish_checkpoint': (CHECKPOINT, 'out.pth'),
    'report': ('run',),
    'ros2_bag': ('bag', 'out'),
    'ros2_node': ('--topic', '/camera'),
    'sparsify': (*TEST, 'out.pth', '--sparsity', 0.5),
    'test_tta': TEST,
    'train': (CONFIG, *IMAGES),
    'warm_up': (*TEST, *IMAGES),
}


WITHOUT_THE_STACK = {
    'make_submission': (('masks', 'out.zip', '--server', 'acdc'), 'masks holds no masks.json'),
}


def test_all_tools_are_here():
    tools = sorted(path.stem for path in (ROOT / 'tools').glob('*.py'))
    assert sorted([*COMMANDS, *WITHOUT_THE_STACK]) == tools


def _prepare(tool, folder):
    """What a command needs that has no mistake."""
    if tool in ('compare', 'report'):
        for name in COMMANDS[tool]:
            (folder / name).mkdir()
            (folder / name / 'results.json').touch()
    elif tool == 'make_adverse':
        (folder / 'in/leftImg8bit/val').mkdir(parents=True)
    elif tool == 'adapt_video':
        (folder / 'frame.png').touch()
    elif tool == 'ros2_bag':
        bags = pytest.importorskip('tests.ros.bags', reason='rosbags has no build for this Python')
        bags.camera_bag(folder / 'bag', [np.zeros((4, 4, 3), np.uint8)])
    elif tool == 'ros2_node':
        for package in ('rclpy', 'sensor_msgs', 'std_srvs', 'vision_msgs'):
            (folder / package).mkdir()


def _run(tool, folder, library, content, command=None):
    _prepare(tool, folder)
    (folder / library).mkdir()
    (folder / library / '__init__.py').write_text(content)
    return run_tool(
        tool,
        *(command or COMMANDS[tool]),
        cwd=folder,
        PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]),
        SCENES_ROOT=str(ROOT / 'data/driving_scenes'),
    )


@pytest.mark.parametrize('tool', COMMANDS)
def test_a_missing_torch_is_one_sentence(tool, tmp_path):
    error = error_of(_run(tool, tmp_path, 'torch', "raise ImportError('it is not there')\n"))
    assert 'needs torch' in error and 'pip install' in error


@pytest.mark.parametrize('tool', WITHOUT_THE_STACK)
@pytest.mark.parametrize('library', ['torch', 'mmcv', 'mmseg'])
def test_a_tool_without_a_model_imports_none_of_the_stack(tool, library, tmp_path):
    command, text = WITHOUT_THE_STACK[tool]
    run = _run(tool, tmp_path, library, "raise ImportError('it is not there')\n", command)
    assert text in error_of(run)


def test_a_missing_mmseg_is_one_sentence(tmp_path):
    error = error_of(_run('test_tta', tmp_path, 'mmseg', "raise ImportError('not there')\n"))
    assert 'needs mmseg' in error and 'pip install' in error


def test_an_old_torch_is_one_sentence(tmp_path):
    error = error_of(_run('test_tta', tmp_path, 'torch', "__version__ = '2.0.1'\n"))
    assert 'needs torch >= 2.1, but 2.0.1 is installed' in error
    assert "pip install 'torch>=2.1'" in error
