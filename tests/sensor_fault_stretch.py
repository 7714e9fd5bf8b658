"""Puts a stretch of sensor faults into the middle of a stream and scores what comes after it.

    python tests/sensor_fault_stretch.py [--frames 500] [--methods ecotta ecotta_plus]
        [--kinds black noise ...] [--plain]

The embedded model drives through the embedded scenes in fog and at night, then through the
stretch, then through rain, snow and a clear day. Printed is the mIoU of each condition after it,
beside that of the same stream without the stretch: with the default settings over all kinds of
faults, and without the check of single frames over noise, where the guard has to hold alone. Exit
code 1 where one differs by more than a point. ``--plain`` also runs the guard alone over all kinds,
and neither, for comparison.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
SCENES = ROOT / 'data' / 'driving_scenes'
KINDS = ('black', 'noise', 'blotches', 'grainy', 'flat', 'stripes')
NOISE = ('noise', 'blotches')
BEFORE, AFTER = ('fog', 'night'), ('rain', 'snow', 'clear')


def fault_frames(count: int, pictures: list, kinds: tuple = KINDS, seed: int = 0):
    """Frames of a broken sensor, runs of ten of a kind, shaped as the pictures.

    Args:
        count: How many.
        pictures: (H, W, 3) uint8 frames that some of the faults lie on.
        kinds: Which faults, in turn.
        seed: Of the faults.

    Yields:
        (H, W, 3) uint8: all black; white noise; noise in blotches of 8 pixels; a picture under
        grain of 60 of 255; one grey with a trace of grain; stripes of failed columns.
    """
    generator = np.random.default_rng(seed)
    height, width = pictures[0].shape[:2]
    for index in range(count):
        kind = kinds[index // 10 % len(kinds)]
        picture = pictures[index % len(pictures)].astype(float)
        if kind == 'black':
            frame = np.zeros((height, width, 3))
        elif kind == 'noise':
            frame = generator.integers(0, 256, (height, width, 3))
        elif kind == 'blotches':
            blocks = generator.integers(0, 256, (height // 8, width // 8, 3))
            frame = np.kron(blocks, np.ones((8, 8, 1)))[:height, :width]
        elif kind == 'grainy':
            frame = picture + generator.normal(0, 60, (height, width, 3))
        elif kind == 'flat':
            frame = 90 + generator.normal(0, 3, (height, width, 1)) * np.ones(3)
        else:
            frame = picture * (generator.random((1, width, 1)) > 0.5)
        yield np.clip(frame, 0, 255).astype(np.uint8)


def scenes(condition: str, count: Optional[int] = None) -> list:
    """Images (H, W, 3) uint8 BGR and labels (H, W) uint8 of the test scenes in a condition."""
    import cv2

    from ecotta_seg.datasets import AdverseWeather

    weather = AdverseWeather(condition, severity=4, seed=0)
    found = []
    for path in sorted((SCENES / 'leftImg8bit' / 'test').rglob('*_leftImg8bit.png'))[:count]:
        label = str(path).replace('leftImg8bit/test', 'gtFine/test')
        label = label.replace('_leftImg8bit.png', '_gtFine_labelTrainIds.png')
        image = weather.transform(dict(img=cv2.imread(str(path)), img_path=str(path)))['img']
        found.append((image, cv2.imread(label, cv2.IMREAD_UNCHANGED)))
    return found


def mean_iou(pairs: list) -> float:
    """mIoU in percent over (prediction, label) pairs, of the classes that occur."""
    counts = np.zeros((19, 19))
    for prediction, label in pairs:
        valid = label < 19
        np.add.at(counts, (label[valid], prediction[valid]), 1)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float(100 * (counts.diagonal()[union > 0] / union[union > 0]).mean())


def drive(
    method: str, faults: int, scenes_each: Optional[int] = None, kinds=KINDS, **options
) -> dict:
    """Runs the stream with a stretch of so many faults.

    Args:
        method: A file in ``configs/_base_/adaptation``.
        faults: Frames of the stretch.
        scenes_each: Scenes of each condition; None for all.
        kinds: Of the faults.
        **options: Of ``init_adaptive_segmentor``.

    Returns:
        ``miou`` by condition after the stretch, ``events`` by kind, ``updates`` in the stretch.
    """
    from ecotta_seg.apis import init_adaptive_segmentor
    from ecotta_seg.config.config import read_config

    torch.manual_seed(0)
    base = ROOT / 'configs' / '_base_' / 'adaptation' / f'{method}.py'
    segmentor = init_adaptive_segmentor(
        ROOT / 'configs' / 'demo.py',
        ROOT / 'data' / 'checkpoints' / 'demo_source.pth',
        method=read_config(base).adaptation.to_dict(),
        **options,
    )
    pictures = []
    for condition in BEFORE:
        for image, _ in scenes(condition, scenes_each):
            segmentor.step(image)
            pictures.append(image)
    before = segmentor.updates
    for frame in fault_frames(faults, pictures, tuple(kinds)):
        segmentor.step(frame)
    updates, result = segmentor.updates - before, {}
    for condition in AFTER:
        pairs = []
        for image, label in scenes(condition, scenes_each):
            pairs.append((segmentor.step(image).pred_sem_seg.data[0].numpy(), label))
        result[condition] = mean_iou(pairs)
    events = {}
    for event in segmentor.events:
        events[event['event']] = events.get(event['event'], 0) + 1
    return dict(miou=result, events=events, updates=updates)


def main() -> int:
    """Compares, for each method, the conditions after the stretch with and without it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=500)
    parser.add_argument('--scenes', type=int, help='scenes of each condition (default: all)')
    parser.add_argument('--kinds', nargs='+', default=list(KINDS), choices=KINDS)
    parser.add_argument('--methods', nargs='+', default=['ecotta', 'ecotta_plus'])
    parser.add_argument(
        '--plain', action='store_true', help='also guard alone on all kinds, and neither'
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    worst = 0.0
    for method in args.methods:
        whole = drive(method, 0, args.scenes)
        print(f'{method}, no stretch: {_shown(whole)}')
        alone = dict(check_frames=False)
        ways = [('check and guard', args.kinds, {}), ('guard alone, noise', NOISE, alone)]
        if args.plain:
            ways.append(('guard alone', args.kinds, alone))
            ways.append(('neither', args.kinds, dict(check_frames=False, guard=False)))
        for number, (way, kinds, options) in enumerate(ways):
            ended = drive(method, args.frames, args.scenes, kinds, **options)
            print(f'{method}, {args.frames} faults, {way}: {_shown(ended)}')
            if number < 2:
                differences = (abs(ended['miou'][c] - whole['miou'][c]) for c in AFTER)
                worst = max(worst, *differences)
    print(f'the largest difference is {worst:.3f} points')
    return 1 if worst > 1 else 0


def _shown(result: dict) -> str:
    scores = ', '.join(f'{name} {score:.2f}' for name, score in result['miou'].items())
    events = ', '.join(f'{count} {name}' for name, count in result['events'].items()) or 'none'
    return f'{scores}; events: {events}; {result["updates"]} updates in the stretch'


if __name__ == '__main__':
    sys.exit(main())
