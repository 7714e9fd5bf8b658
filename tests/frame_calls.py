"""Counts the calls of the package's functions in one frame of the demo, hooks included.

    python tests/frame_calls.py [--method ecotta_plus] [--top 40]

A call counts if the function is defined in ``ecotta_seg/``. A change of file is a call into
another file of the package than the call before. Both are counted from the hooks before the frame
to the hooks after the frame, without the loading of the frame.
"""

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.runner import Runner
from mmseg.utils import register_all_modules

import ecotta_seg
from ecotta_seg.config.config import read_config
from ecotta_seg.config.method import with_method

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(Path(ecotta_seg.__file__).parent)


@dataclass
class FrameCalls:
    """The calls in one frame.

    Attributes:
        calls: Calls of functions of the package.
        changes: Calls into another file than the call before.
        functions: Number of calls by file and function.
        edges: Number of calls by the two files of a change.
    """

    calls: int = 0
    changes: int = 0
    functions: Counter = field(default_factory=Counter)
    edges: Counter = field(default_factory=Counter)
    last: str = ''

    def __call__(self, frame, event, argument) -> None:
        """The profiler's function."""
        path = frame.f_code.co_filename
        if event != 'call' or not path.startswith(PACKAGE):
            return
        self.calls += 1
        name = path[len(PACKAGE) + 1 :]
        # Before Python 3.11 code has no qualified name.
        function = getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)
        self.functions[f'{name} {function}'] += 1
        if path != self.last:
            self.changes += 1
            self.edges[self.last[len(PACKAGE) + 1 :], name] += 1
            self.last = path

    @property
    def files(self) -> int:
        """Number of files with a call."""
        return len({key.partition(' ')[0] for key in self.functions})


def count(method: str, work_dir: str, frames: int = 2) -> list[FrameCalls]:
    """Runs the demo's stream with the shipped hooks and counts the calls of each frame.

    The first round has calls beside those of a usual frame: the source predicts, the memory meter
    measures, and the first frame makes a plan. So there are two rounds.

    Args:
        method: A preset, as for ``--method``.
        work_dir: Receives the results of the run.
        frames: Frames of each of the four conditions.

    Returns:
        The calls in each frame of the second round.
    """
    register_all_modules(init_default_scope=False)
    cfg = read_config(ROOT / 'configs' / 'demo.py')
    with_method(cfg, method, ROOT / 'configs')
    cfg.work_dir, cfg.load_from = work_dir, str(ROOT / 'data/checkpoints/demo_source.pth')
    cfg.test_dataloader.dataset.rounds = 2
    cfg.test_dataloader.dataset.frames_per_condition = frames
    cfg.forgetting_dataloader.dataset.frames_per_condition = 2
    cfg.test_dataloader.num_workers = 0
    cfg.test_dataloader.persistent_workers = False
    runner = Runner.from_cfg(cfg)
    found: list[FrameCalls] = []
    run_iter = runner.test_loop.run_iter

    def counted(*args, **kwargs):
        found.append(FrameCalls())
        sys.setprofile(found[-1])
        try:
            return run_iter(*args, **kwargs)
        finally:
            sys.setprofile(None)

    runner.test_loop.run_iter = counted
    runner.test()
    return found[len(found) // 2 :]


def usual(found: list[FrameCalls]) -> FrameCalls:
    """The frame with the median number of calls: without an estimate and a check of the guard."""
    return sorted(found, key=lambda calls: calls.calls)[(len(found) - 1) // 2]


def main(argv: list[str]) -> None:
    """Counts and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--method', default='ecotta_plus')
    parser.add_argument('--top', type=int, default=40, help='print the most frequent functions')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = count(args.method, folder)
    for index, calls in enumerate(found):
        print(f'frame {index}: {calls.calls} calls in {calls.files} files, {calls.changes} changes')
    middle = usual(found)
    print(
        f'\nusual: {middle.calls} calls in {middle.files} files, {middle.changes} changes of file'
    )
    for name, number in middle.functions.most_common(args.top):
        print(f'{number:5} {name}')
    for (before, after), number in middle.edges.most_common(args.top):
        print(f'{number:5} {before} -> {after}')


if __name__ == '__main__':
    main(sys.argv[1:])
