"""A whole small project on disk: scenes, a config that inherits from ours, and a checkpoint."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mmseg.models  # noqa: F401  (registers the models)
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from ecotta_seg.datasets.scenes.scene_writer import write_cityscapes_layout

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = [
    '{root}/configs/_base_/models/deeplabv3plus_demo.py',
    '{root}/configs/_base_/datasets/driving_scenes.py',
    '{root}/configs/_base_/adaptation/ecotta.py',
    '{root}/configs/_base_/runtime/adaptation.py',
]
data_root = '{data}'
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    decode_head=dict(in_channels=32, channels=8, c1_in_channels=4, c1_channels=4),
)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root), **loader)
val_dataloader = dict(dataset=dict(data_root=data_root), **loader)
test_dataloader = dict(
    dataset=dict(conditions=('fog', 'night'), rounds=2, dataset=dict(data_root=data_root)), **loader
)
forgetting_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)), **loader)
# A fresh model is sure of nothing: let all pixels count, and let few steps tell.
adaptation = dict(entropy_threshold=1.0, optimizer=dict(lr=0.05))
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=4, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""


def _command(name, arguments):
    return [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]


def _environment(**more):
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), **more}


def run_tool(name, *arguments, cwd=ROOT, **environment):
    """Runs a tool as a user would."""
    return subprocess.run(
        _command(name, arguments),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=_environment(**environment),
        timeout=300,
    )


@contextmanager
def started_tool(name, *arguments, **options):
    """A process with a tool at work, killed at the end; ``options`` are those of ``Popen``."""
    process = subprocess.Popen(_command(name, arguments), cwd=ROOT, env=_environment(), **options)
    try:
        yield process
    finally:
        process.kill()


def wait_for_a_state(folder, seconds):
    """Returns once a run in the folder has saved a state."""
    end = time.monotonic() + seconds
    while not list(folder.glob('state/stream_state_*.pth')):
        assert time.monotonic() < end, f'no state in {folder} after {seconds} s'
        time.sleep(0.02)


def results_of(folder):
    """The results.json of a run."""
    return json.loads((folder / 'results.json').read_text())


def error_of(run):
    """The one sentence that a failed run says; checks that there is nothing else."""
    assert run.returncode == 2, run.stderr
    assert 'Traceback' not in run.stderr + run.stdout
    lines = [line for line in run.stderr.splitlines() if 'error: ' in line]
    assert len(lines) == 1, run.stderr
    return lines[0]


@pytest.fixture(scope='session')
def project(tmp_path_factory):
    """``config``, ``checkpoint`` and ``data``: paths of a project that runs in seconds."""
    folder = tmp_path_factory.mktemp('project')
    data = folder / 'data'
    list(write_cityscapes_layout(data, {'train': 4, 'val': 2, 'test': 3}, (96, 48)))
    config = folder / 'small.py'
    config.write_text(CONFIG.format(root=ROOT, data=data))
    # As a Runner does; the state dict is all that is wanted here.
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    checkpoint = folder / 'source.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoint)
    return SimpleNamespace(config=config, checkpoint=checkpoint, data=data, folder=folder)
