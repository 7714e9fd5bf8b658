"""Runs a long stream and looks for what grows: the process's memory, the time of a frame.

    python tests/long_stream.py [--frames 2000] [--method ecotta]

A Runner with all hooks of a default config adapts a tiny model to frames of 64x96, two conditions
in turn. Exit code 1 where the resident memory leaves 2 % of what it was at frame 50, or the
median time of the last tenth's frames leaves 10 % of that of the first tenth's after frame 50.
Times are in units of a piece of work that stays the same, done in turn with the frames: what else
runs on the machine, and starts or stops meanwhile, slows both.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 50
_spec = importlib.util.spec_from_file_location(
    'kill_and_resume', Path(__file__).with_name('kill_and_resume.py')
)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


class Yardstick:
    """A piece of work of a frame's kind that is the same each time: convolutions, their gradients,
    a picture decoded."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._net = torch.nn.Sequential(
            torch.nn.Conv2d(8, 16, 3, padding=1),
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 8, 3, padding=1),
        )
        self._features = torch.randn(1, 8, 64, 96, generator=generator)
        picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        self._file = cv2.imencode('.png', picture)[1]

    def seconds(self) -> tuple[float, float]:
        """Does it once: by the wall's clock, of the processor's time."""
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(3):
            cv2.imdecode(self._file, cv2.IMREAD_COLOR)
            # On gradients of its own: the model's mode and the loop's no_grad leave it alone.
            with torch.enable_grad():
                self._net(self._features).square().mean().backward()
            self._net.zero_grad()
        return time.perf_counter() - wall, time.process_time() - processor


class Watching(Hook):
    """Notes memory and time after each frame.

    Attributes:
        resident: Bytes of the process in memory.
        step_times: Of the adaptation step alone, in yardsticks.
        whole_times: From one frame's end to the next, loading, hooks and states too; of the
            processor's time, in yardsticks.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.resident, self.step_times, self.whole_times = [], [], []
        self._yardstick = Yardstick()
        self._last = None

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Called by the test loop."""
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        self.resident.append(pages * os.sysconf('SC_PAGE_SIZE'))
        whole = None if self._last is None else time.process_time() - self._last
        wall, processor = self._yardstick.seconds()
        self.step_times.append(runner.model.last_step.seconds / wall)
        if whole is not None:
            self.whole_times.append(whole / processor)
        self._last = time.process_time()


def long_run(folder: Path, frames: int, method: str = 'ecotta') -> dict:
    """Runs so many frames (a multiple of 20) of a method.

    Returns:
        ``frames``; ``memory_growth``, the largest share by which the resident memory left that of
        frame 50; ``step_growth`` and ``whole_growth``, by how much the median time of the last
        tenth exceeds that of the first tenth after frame 50; and ``state_files``, ``state_bytes``.
    """
    images = 10
    harness.write_data(folder / 'data', frames=images)
    config = harness.write_config(folder / f'{method}.py', method, folder / 'data')
    watching = Watching()
    rounds = {'test_dataloader.dataset.rounds': frames // (2 * images)}
    harness.run(config, folder / 'run', interval=20, hook=watching, **rounds)
    reference = watching.resident[WARM_UP - 1]
    states = list((folder / 'run' / 'state').iterdir())
    return dict(
        frames=len(watching.resident),
        memory_growth=max(abs(r / reference - 1) for r in watching.resident[WARM_UP:]),
        step_growth=_growth(watching.step_times, frames // 10),
        whole_growth=_growth(watching.whole_times, frames // 10),
        state_files=len(states),
        state_bytes=sum(path.stat().st_size for path in states),
    )


def _growth(times: list, count: int) -> float:
    return median(times[-count:]) / median(times[WARM_UP : WARM_UP + count]) - 1


def main() -> int:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=2000)
    parser.add_argument('--method', default='ecotta')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = long_run(Path(folder), args.frames, args.method)
    print(
        f'{args.method}, {found["frames"]} frames: memory {found["memory_growth"]:+.2%}, time of '
        f'a step {found["step_growth"]:+.1%}, of a frame {found["whole_growth"]:+.1%}; '
        f'{found["state_files"]} states of {found["state_bytes"]} bytes in all'
    )
    times = found['step_growth'], found['whole_growth']
    return 1 if found['memory_growth'] > 0.02 or max(map(abs, times)) > 0.1 else 0


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
