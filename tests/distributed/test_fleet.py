import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location(
    'processes', Path(__file__).with_name('processes.py')
)
processes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(processes)
harness = processes.harness

HOOKS = """
custom_hooks = [
    dict(type='SourceReferenceHook'), dict(type='EcoTTAHook'), dict(type='StreamStateHook'),
    dict(type='ForgettingHook'), dict(type='StreamPlotHook'), dict(type='ResultsHook', show=False)]
"""
SHARED = "custom_hooks.append(dict(type='SharedAdaptersHook', every=2))\n"
FAST = {'adaptation.optimizer.lr': 0.01}


@DATA_SAMPLERS.register_module(force=True)
class ShareSampler(DefaultSampler):
    """What a rank of a fleet would get, in one process."""

    def __init__(self, dataset, share, of, **kwargs):
        super().__init__(dataset, shuffle=False, seed=0)
        self.rank, self.world_size = share, of
        self.num_samples = len(dataset) // of


class Notes(Hook):
    """Writes down the parameters after each frame."""

    priority = 'VERY_LOW'

    def __init__(self, folder):
        self.folder, self.seen = folder, []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        parameters = runner.model.adaptable_parameters().values()
        self.seen.append(torch.cat([p.detach().reshape(-1) for p in parameters]).clone())

    def after_test(self, runner):
        torch.save(self.seen, self.folder / f'notes{runner.rank}.pth')


@pytest.fixture
def config(tmp_path):
    """A function that writes the config of a Tent run."""

    def write(more='', frames=4):
        harness.write_data(tmp_path / 'data', frames=frames)
        path = harness.write_config(tmp_path / 'tent.py', 'tent', tmp_path / 'data')
        path.write_text(path.read_text() + HOOKS + more)
        return path

    return write


def rows(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_fleet_is_its_streams_run_alone(config, tmp_path):
    path, fleet = config(), tmp_path / 'fleet'
    processes.in_two(harness.run, tmp_path, path, fleet, launcher='pytorch', **FAST)
    alone = []
    for rank in range(2):
        sampler = dict(type='ShareSampler', share=rank, of=2)
        folder = tmp_path / f'alone{rank}'
        pid = harness.forked(
            harness.run,
            path,
            folder,
            **{'test_dataloader.sampler': dict(sampler, _delete_=True)},
            **FAST,
        )
        assert harness.wait(pid) == 0, (tmp_path / 'error.txt').read_text()
        alone.append(json.loads((folder / 'results.json').read_text()))
        ending = f'_rank{rank}' if rank else ''
        ends = [torch.load(p, weights_only=True) for p in
                (fleet / f'end{ending}.pth', folder / 'end.pth')]  # fmt: skip
        assert harness.same(*ends)
        assert rows(fleet / f'history{ending}.csv') == rows(folder / 'history.csv')
    merged = json.loads((fleet / 'results.json').read_text())
    for entry, first, second in zip(merged['rounds'], *(result['rounds'] for result in alone)):
        for name, scores in entry['conditions'].items():
            parts = [first['conditions'][name], second['conditions'][name]]
            assert scores['frames'] == sum(part['frames'] for part in parts) == 4
            low, high = sorted(part['aAcc'] for part in parts)
            assert low <= scores['aAcc'] <= high
    assert merged['source']['conditions']['fog']['frames'] == 4
    assert merged['clear']['after'] is not None


def run_noting(path, work_dir, **changes):
    work_dir.mkdir(exist_ok=True)
    harness.run(path, work_dir, hook=Notes(work_dir), **changes)


@pytest.mark.slow
def test_shared_adapters_are_the_same_after_each_exchange(config, tmp_path):
    path, work_dir = config(SHARED), tmp_path / 'run'
    processes.in_two(run_noting, tmp_path, path, work_dir, launcher='pytorch', **FAST)
    first, second = (torch.load(work_dir / f'notes{rank}.pth') for rank in range(2))
    assert len(first) == len(second) == 8
    same = [torch.equal(a, b) for a, b in zip(first, second)]
    assert same == [False, True] * 4


@pytest.mark.slow
def test_a_process_out_of_frames_holds_nobody_up(config, tmp_path):
    path, work_dir = config(SHARED, frames=7), tmp_path / 'run'
    changes = {
        'test_dataloader.sampler.round_up': False,
        'test_dataloader.dataset.rounds': 1,
        'test_dataloader.dataset.conditions': ('fog',),
        'custom_hooks.6.every': 1,
    }
    processes.in_two(run_noting, tmp_path, path, work_dir, launcher='pytorch', **changes, **FAST)
    first, second = (torch.load(work_dir / f'notes{rank}.pth') for rank in range(2))
    assert (len(first), len(second)) == (4, 3)
    ends = [torch.load(work_dir / f'end{e}.pth', weights_only=True) for e in ('', '_rank1')]
    parameters = [
        {k: v for k, v in end['tensors'].items() if k.startswith('parameter.')} for end in ends
    ]
    assert harness.same(*parameters)
    (entry,) = json.loads((work_dir / 'results.json').read_text())['rounds']
    assert entry['conditions']['fog']['frames'] == 7


DIES = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Dies(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 5 and runner.rank == 1 and os.environ.get('DIE'):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_resuming_goes_on(config, tmp_path):
    """Under torchrun, with the tool itself."""
    (tmp_path / 'dies.py').write_text(DIES)
    path = config(
        SHARED + "custom_hooks.append(dict(type='Dies'))\n"
        'custom_hooks[2].update(interval=2)\n'
        "custom_imports = dict(imports=['ecotta_seg', 'dies'])\n"
    )
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    sys.path.insert(0, str(tmp_path))
    try:
        cfg = Config.fromfile(str(path))
    finally:
        sys.path.remove(str(tmp_path))
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'source.pth')

    def launch(work_dir, *more, **environment):
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2']
            + [f'--master_port={processes.free_port()}', str(ROOT / 'tools' / 'test_tta.py')]
            + [str(path), str(tmp_path / 'source.pth'), '--launcher', 'pytorch']
            + ['--device', 'cpu', '--work-dir', str(work_dir), *more],
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)]),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=200,
        )
        return done, time.monotonic() - start

    whole, seconds = launch(tmp_path / 'whole')
    assert whole.returncode == 0, whole.stderr[-3000:]
    killed, until = launch(tmp_path / 'run', DIE='1')
    assert killed.returncode != 0
    assert until < seconds + 60
    assert not (tmp_path / 'run' / 'results.json').exists()
    resumed, _ = launch(tmp_path / 'run', '--resume')
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    # How far the other rank had got when the job was ended is a matter of time.
    going_on = re.search(r'continuing after frame (\d+)', resumed.stdout + resumed.stderr)
    assert going_on and going_on.group(1) in ('2', '4')
    documents = [json.loads((tmp_path / n / 'results.json').read_text()) for n in ('whole', 'run')]
    for document in documents:
        document.pop('seconds_per_frame')
    assert documents[0] == documents[1]
    for name in ('history.csv', 'history_rank1.csv'):
        assert rows(tmp_path / 'run' / name) == rows(tmp_path / 'whole' / name)


def warm_up(path, work_dir):
    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location('warm_up_tool', ROOT / 'tools' / 'warm_up.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    checkpoint = work_dir.parent / 'source.pth'
    arguments = [path, checkpoint, '--work-dir', work_dir, '--launcher', 'pytorch']
    tool.main([*map(str, arguments), '--device', 'cpu'])


@pytest.mark.slow
def test_warm_up_in_two_processes(tmp_path):
    harness.write_data(tmp_path / 'data', frames=4)
    path = harness.write_config(tmp_path / 'ecotta.py', 'ecotta', tmp_path / 'data')
    path.write_text(
        path.read_text()
        + """
train_dataloader = dict(batch_size=2, num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(inner, severity=None, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=100)
val_cfg = val_dataloader = val_evaluator = None
"""
    )
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(Config.fromfile(str(path)).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'source.pth')
    processes.in_two(warm_up, tmp_path, path, tmp_path / 'run')
    state = torch.load(tmp_path / 'run' / 'adapters.pth', weights_only=True)
    assert all(value.isfinite().all() for value in state['state_dict'].values())
