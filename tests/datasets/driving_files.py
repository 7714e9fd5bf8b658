"""Tiny data sets of the field, with the folders and file names that their archives unpack to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

SIZE = (8, 12)
# Rows of one id each: Cityscapes' own ids of road, person, pole and parking, as train ids.
CITYSCAPES_ROWS, TRAIN_ROWS = (7, 24, 17, 9), (0, 11, 5, 255)


def rows(ids, size=SIZE) -> np.ndarray:
    """(H, W) uint8: equally high stripes, one for each id, from the top."""
    return np.repeat(np.uint8(ids), size[0] // len(ids))[:, None].repeat(size[1], 1)


def write_image(path: Path, size=SIZE) -> None:
    """A picture that is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path)))
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)


def write_label(path: Path, ids=TRAIN_ROWS, size=SIZE) -> None:
    """A label of stripes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rows(ids, size))


def write_text(path: Path, text: str) -> None:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dark_zurich(root: Path) -> None:
    for number in (176, 178):
        stem = f'GOPR0356/GOPR0356_frame_{number:06d}'
        write_image(root / f'rgb_anon/val/night/{stem}_rgb_anon.png')
        write_label(root / f'gt/val/night/{stem}_gt_labelTrainIds.png')
        write_label(root / f'gt/val/night/{stem}_gt_labelIds.png', CITYSCAPES_ROWS)
    write_image(root / 'rgb_anon/val_ref/day/GOPR0356_ref/GOPR0356_frame_000002_ref_rgb_anon.png')
    for time in ('day', 'twilight', 'night'):
        write_image(root / f'rgb_anon/train/{time}/GOPR0345/GOPR0345_frame_000001_rgb_anon.png')


def nighttime_driving(root: Path) -> None:
    for number in (30, 205):
        stem = f'test/night/0_frame_{number:04d}'
        write_image(root / f'leftImg8bit/{stem}_leftImg8bit.png')
        labels = root / 'gtCoarse_daytime_trainvaltest'
        write_label(labels / f'{stem}_gtCoarse_labelTrainIds.png')
        write_label(labels / f'{stem}_gtCoarse_labelIds.png', CITYSCAPES_ROWS)


def foggy_zurich(root: Path) -> None:
    names = [f'GOPR0119/1508039851.0_frame_{number:06d}.png' for number in (157, 200, 300)]
    for name in names:
        write_image(root / 'RGB' / name)
    for name in names[:2]:
        write_label(root / 'gt_labelTrainIds' / name)
        write_label(root / 'gt_labelIds' / name, CITYSCAPES_ROWS)
    for split, some in (('testv1', names[:1]), ('testv2', names[:2]), ('medium', names[2:])):
        lines = ''.join(f'RGB/{name}\n' for name in some)
        write_text(root / f'lists_file_names/RGB_{split}_filenames.txt', lines)


def foggy_driving(root: Path) -> None:
    fine, coarse = 'test/public/public_001_x', 'test_extra/web/web_002_y'
    write_image(root / f'leftImg8bit/{fine}_leftImg8bit.png')
    write_image(root / f'leftImg8bit/{coarse}_leftImg8bit.png', (16, 20))
    # The archive has Cityscapes' own ids alone.
    write_label(root / f'gtFine/{fine}_gtFine_labelIds.png', CITYSCAPES_ROWS)
    write_label(root / f'gtCoarse/{coarse}_gtCoarse_labelIds.png', CITYSCAPES_ROWS, (16, 20))
    for split, some in (('testall', (coarse, fine)), ('testfine', (fine,)), ('testdense', ())):
        lines = ''.join(f'leftImg8bit/{stem}_leftImg8bit.png\n' for stem in some)
        write_text(root / f'lists_file_names/leftImg8bit_{split}_filenames.txt', lines)


def _cityscapes_labels(root: Path, kind: str) -> list[str]:
    stems = [f'val/lindau/lindau_{number:06d}_000019' for number in (0, 1)]
    for stem in stems:
        ids = CITYSCAPES_ROWS if kind == 'labelIds' else TRAIN_ROWS
        write_label(root / f'gtFine/{stem}_gtFine_{kind}.png', ids)
    return stems


def foggy_cityscapes(root: Path) -> None:
    # As downloaded, with no file of train ids.
    for stem in _cityscapes_labels(root, 'labelIds'):
        for beta in ('0.005', '0.01', '0.02'):
            write_image(root / f'leftImg8bit_foggy/{stem}_leftImg8bit_foggy_beta_{beta}.png')


def rainy_cityscapes(root: Path) -> None:
    stems = _cityscapes_labels(root, 'labelTrainIds')
    strengths = (('0.01', '0.005', '0.01'), ('0.02', '0.01', '0.005'), ('0.03', '0.015', '0.002'))
    for alpha, beta, drop in strengths:
        for stem, pattern in ((stems[0], 1), (stems[0], 12), (stems[1], 7)):
            name = f'alpha_{alpha}_beta_{beta}_dropsize_{drop}_pattern_{pattern}.png'
            write_image(root / f'leftImg8bit_rain/{stem}_leftImg8bit_rain_{name}')


def bdd100k(root: Path) -> None:
    frames = [
        ('0a0a-1', 'rainy', 'daytime'),
        ('0a0a-2', 'rainy', 'night'),
        ('0a0a-3', 'snowy', 'daytime'),
        ('0a0a-4', 'partly cloudy', 'dawn/dusk'),
        ('0a0a-5', 'overcast', 'daytime'),
    ]
    for name in [*(name for name, _, _ in frames), '0a0a-6']:
        write_image(root / f'images/10k/val/{name}.jpg')
        write_label(root / f'labels/sem_seg/masks/val/{name}.png')
    table = [
        {'name': f'{name}.jpg', 'attributes': {'weather': weather, 'timeofday': time, 'scene': 'x'}}
        for name, weather, time in frames
    ]
    # Some frames of one split are in the other split's table.
    write_text(root / 'labels/det_20/det_train.json', json.dumps(table[:2]))
    write_text(root / 'labels/det_20/det_val.json', json.dumps(table[2:]))
    polygons = [{'name': '0a0a-1.jpg', 'timestamp': 1, 'labels': []}]
    write_text(root / 'labels/sem_seg/polygons/sem_seg_val.json', json.dumps(polygons))


def muses(root: Path) -> None:
    for weather in ('clear', 'fog', 'rain', 'snow'):
        for place, time in enumerate(('day', 'night')):
            stem = f'val/{weather}/{time}/REC000{place}_frame_079714'
            write_image(root / f'frame_camera/{stem}_frame_camera.png')
            write_label(root / f'gt_semantic/{stem}_gt_labelTrainIds.png')
            write_label(root / f'gt_semantic/{stem}_gt_labelIds.png', CITYSCAPES_ROWS)
    write_image(root / 'frame_camera/test/fog/day/REC0009_frame_000001_frame_camera.png')


SHIFT_SEQUENCES = {
    '0003-17fb': ('clear', 'daytime'),
    '007b-4e72': ('cloudy', 'daytime'),
    '0088-0c3a': ('overcast', 'daytime'),
    '0098-d0bd': ('rainy', 'daytime'),
    '0099-aaaa': ('foggy', 'daytime'),
    '0100-bbbb': ('clear', 'night'),
    '0101-cccc': ('rainy', 'dawn/dusk'),
}


def shift(root: Path) -> None:
    front = root / 'images/val/front'
    for sequence in SHIFT_SEQUENCES:
        write_image(front / f'img/{sequence}/00000000_img_front.jpg')
        label = front / f'semseg/{sequence}/00000000_semseg_front.png'
        label.parent.mkdir(parents=True)
        # Red holds the id: road line, pedestrian, pole, vehicle.
        pixels = np.zeros((*SIZE, 4), np.uint8)
        pixels[..., 2], pixels[..., 1], pixels[..., 3] = rows((6, 4, 5, 10)), 77, 255
        cv2.imwrite(str(label), pixels)
    lines = [f'{name},{w},{time}' for name, (w, time) in SHIFT_SEQUENCES.items()]
    header = 'video,start_weather_coarse,start_timeofday_coarse'
    write_text(front / 'seq.csv', '\n'.join([header, *lines]) + '\n')


def box(top: int, bottom: int) -> list:
    """A rectangle over the whole width, as PIL draws it: with its edges."""
    return [[0, top], [SIZE[1] - 1, top], [SIZE[1] - 1, bottom - 1], [0, bottom - 1]]


def iddaw(root: Path) -> None:
    objects = [
        # All road at first; what comes later is on top.
        {'label': 'road', 'polygon': box(0, 8), 'draw': True, 'user': 'x', 'deleted': 0},
        {'label': 'person', 'polygon': box(2, 4)},
        {'label': 'sky', 'polygon': box(2, 4), 'deleted': 1},
        {'label': 'pole', 'polygon': box(4, 6)},
        {'label': 'autorickshaw', 'polygon': box(6, 8)},
        {'label': 'car', 'polygon': []},
    ]
    for condition in ('FOG', 'LOWLIGHT', 'RAIN', 'SNOW'):
        folder = root / 'val' / condition
        write_image(folder / 'rgb/12/100_rgb.png')
        write_image(folder / 'nir/12/100_nir.png')
        document = {'imgHeight': SIZE[0], 'imgWidth': SIZE[1], 'objects': objects}
        write_text(folder / 'gtSeg/12/100_mask.json', json.dumps(document))


class FieldSet(NamedTuple):
    """One data set of the field.

    Attributes:
        name: Of its files in ``configs``.
        write: Makes it in a folder.
        variable: The environment variable of its root.
        frames: For each condition of its config the number of frames.
        rows: Train ids of each label's stripes.
    """

    name: str
    write: Callable[[Path], None]
    variable: str
    frames: dict[str, int]
    rows: Optional[tuple] = TRAIN_ROWS


_MUSES = [
    f'{weather}_{t}' for t in ('day', 'night') for weather in ('clear', 'fog', 'rain', 'snow')
]
_BDD100K = ('overcast_daytime', 'rainy_daytime', 'snowy_daytime', 'night')
_SHIFT = [f'{weather}_daytime' for weather in ('clear', 'cloudy', 'overcast', 'rainy', 'foggy')]
FIELD = [
    FieldSet('dark_zurich', dark_zurich, 'DARK_ZURICH_ROOT', {'night': 2}),
    FieldSet('nighttime_driving', nighttime_driving, 'NIGHTTIME_DRIVING_ROOT', {'night': 2}),
    FieldSet('foggy_zurich', foggy_zurich, 'FOGGY_ZURICH_ROOT', {'fog': 2}),
    FieldSet('foggy_driving', foggy_driving, 'FOGGY_DRIVING_ROOT', {'fog': 2}),
    FieldSet(
        *('foggy_cityscapes', foggy_cityscapes, 'CITYSCAPES_ROOT'),
        {'beta_0.005': 2, 'beta_0.01': 2, 'beta_0.02': 2},
    ),
    FieldSet(
        *('rainy_cityscapes', rainy_cityscapes, 'CITYSCAPES_ROOT'),
        {'alpha_0.01': 3, 'alpha_0.02': 3, 'alpha_0.03': 3},
    ),
    FieldSet(*('bdd100k', bdd100k, 'BDD100K_ROOT'), dict.fromkeys(_BDD100K, 1)),
    FieldSet('muses', muses, 'MUSES_ROOT', dict.fromkeys(_MUSES, 1)),
    FieldSet(
        *('shift', shift, 'SHIFT_ROOT'), dict.fromkeys([*_SHIFT, 'clear_night'], 1), (0, 11, 5, 255)
    ),
    FieldSet('iddaw', iddaw, 'IDDAW_ROOT', dict.fromkeys(('fog', 'lowlight', 'rain', 'snow'), 1)),
]
