"""Three hundred frames through the engine: no peak above the third's, no byte left behind."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from ecotta_seg.memory import StorageMeter, optimizer_tensors, storage_bytes
from ecotta_seg.memory.engine.dry_run import EngineDryRun
from ecotta_seg.memory.process_peak import process_current_bytes
from ecotta_seg.methods import build_method
from tests.segmentors import CONFIGS, SHALLOW_BACKBONE, SHALLOW_HEAD

ROOT = Path(__file__).resolve().parents[3]
FRAMES, WARM_UP, SETTLED = 300, 50, 3
# Storages are followed on the first frames and then on each fifth, which takes four times the time
# of a frame; whatever a frame leaves, those leave too.
FIRST, EVERY = 10, 5


def build(kind, budget, **options):
    """A seeded method on the smallest model of its kind."""
    torch.manual_seed(0)
    config = deepcopy(CONFIGS[kind])
    config['backbone'].update(SHALLOW_BACKBONE[kind])
    config['decode_head'].update(SHALLOW_HEAD[kind])
    segmentor = MODELS.build(ConfigDict(config))
    torch.nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=1.0)
    options = dict(
        type='ecotta',
        meta_networks=dict(num_parts=2, start='identity'),
        frozen_norm=dict(mode='drift'),
        optimizer=dict(type='SGD', lr=0.001, momentum=0.9),
        entropy_threshold=0.75,
        memory_budget=budget,
        **options,
    )
    return build_method(options, segmentor.eval()).eval()


def _smallest_budget(kind, image, metas):
    method = build(kind, None)
    dry_run = EngineDryRun(method, image, metas)
    return method.planner.smallest_by(dry_run).predicted_bytes


def stream(kind, with_budget):
    """Adapts to ``FRAMES`` frames and predicts them.

    Returns:
        What stood at the peak of each metered frame and after it, in bytes of tensors; the
        process's resident bytes after every frame; bytes of the momenta; whether the last frame
        changed anything; the plan in words.
    """
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, 32, 48, generator=generator) for _ in range(4)]
    metas = [dict(img_shape=(32, 48), ori_shape=(32, 48))]
    method = build(kind, _smallest_budget(kind, images[0], metas) if with_budget else None)
    found, meter = dict(peaks=[], left=[], resident=[]), StorageMeter()
    for index in range(FRAMES):
        metered = index < FIRST or index % EVERY == EVERY - 1
        meter.reset_peak()
        with torch.no_grad(), meter if metered else nullcontext():
            method.adapt(images[index % len(images)], metas)
        if metered:
            found['peaks'].append(meter.peak_bytes)
            found['left'].append(meter.current_bytes)
        found['resident'].append(process_current_bytes())
    found['momenta'] = storage_bytes(optimizer_tensors(method.optimizer))
    found['updated'] = method.last_step.updated
    found['plan'] = method.planned.plan.describe()
    return found


@pytest.mark.slow
@pytest.mark.parametrize('kind', sorted(CONFIGS))
def test_nothing_grows_in_three_hundred_frames(kind):
    # A process of its own: what other tests free would hide what this one keeps.
    program = (
        'import json, torch; torch.set_num_threads(1); '
        'from tests.memory.engine.test_no_growth import stream; '
        f'print(json.dumps([stream({kind!r}, budget) for budget in (False, True)]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    fast, lean = json.loads(done.stdout.splitlines()[-1])
    assert lean['plan'] != fast['plan'] and max(lean['peaks']) < max(fast['peaks'])
    for found in (fast, lean):
        assert found['updated'] and len(found['resident']) == FRAMES
        assert max(found['peaks'][SETTLED:]) <= found['peaks'][SETTLED - 1]
        # Next to the momenta only what a process keeps for good.
        assert found['left'][-1] <= found['left'][0] <= found['momenta'] + 2**14
        resident = found['resident'][WARM_UP - 1]
        assert found['resident'][-1] == pytest.approx(resident, rel=0.02)
