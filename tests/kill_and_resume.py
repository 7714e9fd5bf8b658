"""Kills runs at random points, goes on, and compares with a run that was never stopped.

    python tests/kill_and_resume.py --kills 25 [--seed 0] [--methods ecotta tent ...]

Each run is a forked process with real files in a temporary folder; the kills are spread over all
methods, and over ``METHOD@in_place``, whose updates are applied piece by piece while going
backward, as under a small memory budget. Every fifth kill hits the writing of a
state itself. Prints a line a kill; exit code 1 where a run ended differently.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

IN_PLACE = ('ecotta@in_place', 'ecotta_plus@in_place')
ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
_base_ = ['{root}/configs/_base_/runtime/adaptation.py', '{method}']
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120, 120, 120], std=[60, 60, 60],
                           bgr_to_rgb=True, size_divisor=32, test_cfg=dict(size_divisor=32)),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8,
                  norm_cfg=norm_cfg, strides=(1, 2, 1, 1), dilations=(1, 1, 1, 1)),
    decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1,
                     concat_input=False, num_classes=19, norm_cfg=norm_cfg, dropout_ratio=0),
    test_cfg=dict(mode='whole'))
pipeline = [dict(type='LoadImageFromFile'), dict(type='AdverseWeather', seed=0),
            dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
inner = dict(type='WeatherCityscapesDataset', data_root='{data}', severity=3, pipeline=pipeline,
             data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'))
test_dataloader = dict(
    batch_size=1, num_workers={workers}, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ContinualStream', dataset=inner, rounds=2, conditions=('fog', 'night')))
forgetting_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ContinualStream', dataset=dict(inner, severity=1), rounds=1,
                 conditions=('clear',), frames_per_condition=2))
"""


def write_data(root: Path, frames: int = 6, height: int = 64, width: int = 96) -> None:
    """A tiny data set in Cityscapes' layout: blocks of colour, so that there is a picture."""
    generator = np.random.default_rng(0)
    for number in range(frames):
        name = f'leftImg8bit/val/city/city_{number:04d}_leftImg8bit.png'
        label = f'gtFine/val/city/city_{number:04d}_gtFine_labelTrainIds.png'
        ids = np.kron(generator.integers(0, 19, (4, 6)), np.ones((height // 4, width // 6)))
        colours = generator.integers(40, 220, (19, 3))
        image = colours[ids.astype(int)] + generator.integers(-20, 20, (height, width, 3))
        for path, content in ((name, image), (label, ids)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / path), content.astype(np.uint8))


def write_config(path: Path, method: str, data: Path, workers: int = 0) -> Path:
    """Writes the config of a small run of a method, a file in ``configs/_base_/adaptation``."""
    base = ROOT / 'configs' / '_base_' / 'adaptation' / f'{method}.py'
    text = CONFIG.format(root=ROOT, method=base, data=data, workers=workers)
    content = base.read_text()
    if 'entropy_threshold' in content:
        # An untrained model is sure of nothing and says the same everywhere; all of its pixels
        # count, so that it does learn.
        options = 'dict(entropy_threshold=1.01)'
        if 'redundancy_threshold' in content:
            options = 'dict(entropy_threshold=1.01, redundancy_threshold=1.01)'
        if "mode='calibrated'" in content:
            # Nor has it statistics that go with its weights: by the frames' own it says more.
            norms = 'frozen_norm=dict(weight=1e4, tolerance=0.0)'
            options = f'dict(entropy_threshold=1.01, {norms})'
        inner = 'method=dict(' in content
        text += f'adaptation = {f"dict(method={options})" if inner else options}\n'
    path.write_text(text)
    return path


def update_in_place(runner) -> None:
    """Has a method plan its steps as the tightest of memory budgets would."""
    from ecotta_seg.memory.budget.plan import leanest_plan

    planner = runner.model.planner
    plan_for = planner.plan_for

    def lean(inputs, metas):
        planned = plan_for(inputs, metas)
        return replace(planned, plan=leanest_plan(len(planned.plan.parts), in_place=True))

    planner.plan_for = lean


def run(
    config: Path, work_dir: Path, resume: bool = False, interval: int = 3, hook=None, **changes
):
    """Runs a config, with one more hook, in this process and gives back its Runner."""
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    from ecotta_seg.config.config import with_resume
    from ecotta_seg.distributed import prepare_cpu_launch

    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict(changes)
    cfg.work_dir, cfg.log_level = str(work_dir), 'ERROR'
    cfg.experiment_name = f'{work_dir.name}_{time.time_ns()}'
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg.pop(key, None)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg.pop(key, None)
    for options in cfg.custom_hooks:
        if options['type'] == 'StreamStateHook':
            options.update(interval=interval, max_share=None)
    if resume:
        with_resume(cfg)
    prepare_cpu_launch(cfg)
    runner = Runner.from_cfg(cfg)
    if hook is not None:
        runner.register_hook(hook)
    in_place = config.stem.endswith('@in_place')
    if in_place:
        forcing = Hook()
        forcing.before_test_epoch = update_in_place
        runner.register_hook(forcing)
    runner.test()
    # Nothing is planned where no frame was left to run.
    planned = runner.model.planned if in_place else None
    if planned is not None and not planned.plan.update_in_place:
        raise ValueError('the updates were not made in place')
    ending = f'_rank{runner.rank}' if runner.rank else ''
    torch.save(runner.model.method_state(), work_dir / f'end{ending}.pth')
    return runner


def outcome(work_dir: Path) -> tuple:
    """What must be equal: the results without times and process memory, and the method's end."""
    results = json.loads((work_dir / 'results.json').read_text())
    results.pop('seconds_per_frame')
    results['memory'].pop('process_peak_bytes', None)
    history = (work_dir / 'history.csv').read_text()
    return results, history, torch.load(work_dir / 'end.pth', weights_only=True)


def same(first, second) -> bool:
    """Bit for bit, through nested containers."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def forked(function, *args, **kwargs) -> int:
    """Runs a function in a child process of its own process group; returns the pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        sys.stdout = sys.stderr = open(os.devnull, 'w')
        function(*args, **kwargs)
        os._exit(0)
    except BaseException:
        with open(Path(args[1]).parent / 'error.txt', 'a') as file:
            file.write(traceback.format_exc())
        os._exit(1)


def run_and_die_in_save(config: Path, work_dir: Path, resume: bool, at: int) -> None:
    """Runs and kills itself within the ``at``-th write call of the writing of states."""
    import ecotta_seg.resume.state_file as state_file

    write, calls = state_file._DigestingWriter.write, [0]

    def dying(self, content):
        calls[0] += 1
        if calls[0] == at:
            self.file.write(bytes(content)[: len(content) // 2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, content)

    state_file._DigestingWriter.write = dying
    run(config, work_dir, resume)


def wait(pid: int) -> int:
    """Waits for a child; minus the signal that killed it, or its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> int:
    """Runs the methods in turn until there were enough kills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=25)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--methods', nargs='+')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    import ecotta_seg  # noqa: F401  (imported once, before the children are forked)

    folder = ROOT / 'configs' / '_base_' / 'adaptation'
    methods = args.methods or sorted(path.stem for path in folder.glob('*.py')) + [*IN_PLACE]
    # Every method has its share; the first ones the rest.
    share, rest = divmod(args.kills, len(methods))
    chance = random.Random(args.seed)
    failures = kills = 0
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        write_data(base / 'data')
        references = {}
        turn = 0
        while kills < args.kills:
            method = methods[turn % len(methods)]
            planned = max(1, share + (turn % len(methods) < rest))
            turn += 1
            config = base / f'{method}.py'
            if method not in references:
                write_config(config, method.split('@')[0], base / 'data')
                start = time.perf_counter()
                if wait(forked(run, config, base / f'{method}_whole')):
                    print((base / 'error.txt').read_text())
                    return 1
                whole = outcome(base / f'{method}_whole')
                references[method] = whole, time.perf_counter() - start
            whole, seconds = references[method]
            work_dir, attempt = base / f'{method}_{turn}', 0
            resume, enough = False, min(args.kills, kills + planned)
            while True:
                in_save = kills % 5 == 4
                last = kills >= enough
                if in_save and not last:
                    at = chance.randint(1, 200)
                    pid = forked(run_and_die_in_save, config, work_dir, resume, at)
                else:
                    pid = forked(run, config, work_dir, resume)
                if not in_save and not last:
                    time.sleep(chance.uniform(0.3, 1.0) * seconds)
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                code = wait(pid)
                resume = True
                if code == -signal.SIGKILL:
                    kills += 1
                    states = sorted(p.name[-12:-4] for p in (work_dir / 'state').glob('stream*'))
                    print(f'kill {kills} {method}: {"in a save" if in_save else ""} {states}')
                    # A kill after writing one and before removing the oldest leaves a third.
                    if len(states) > 3:
                        failures += 1
                        print('  more than three states are left')
                    continue
                if code:
                    print((base / 'error.txt').read_text())
                    return 1
                equal = same(outcome(work_dir), whole)
                failures += not equal
                print(f'{method}: {"identical" if equal else "DIFFERENT"} after {kills} kills')
                if last:
                    break
                # It was through before it could be killed: once more from the beginning.
                attempt += 1
                work_dir, resume = base / f'{method}_{turn}_{attempt}', False
    print(f'{kills} kills, {failures} failures')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
