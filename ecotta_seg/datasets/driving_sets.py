"""Data sets of adverse driving whose paths contain the condition of each frame.

Each class describes the files that :class:`~ecotta_seg.datasets.driving_dataset.DrivingDataset`
reads.
"""

from mmseg.registry import DATASETS

from .driving_dataset import DrivingDataset
from .driving_layout import DrivingLayout
from .label_ids import ids_of_polygons

_CITYSCAPES_LABELS = (
    'gtFine/{split}/{frame}_gtFine_labelTrainIds.png',
    'gtFine/{split}/{frame}_gtFine_labelIds.png',
)
_BOTH_KINDS_OF_IDS = ('labelTrainIds', 'labelIds')


# `force` in this file: the import of this package must not fail if an mmseg has a class of the same
# name. mmseg 1.2.2 and onedl-mmsegmentation 1.4.2 have none. Their DarkZurichDataset has no
# conditions and keeps its name.
@DATASETS.register_module(force=True)
class DarkZurichConditionDataset(DrivingDataset):
    """Dark Zurich: day, twilight and night; val has night labels (Sakaridis et al., 2019)."""

    LAYOUT = DrivingLayout(
        images='rgb_anon/{split}/{condition}',
        image='{frame}_rgb_anon.png',
        labels=tuple(
            f'gt/{{split}}/{{condition}}/{{frame}}_gt_{i}.png' for i in _BOTH_KINDS_OF_IDS
        ),
        variable='DARK_ZURICH_ROOT',
        splits=('train', 'val', 'test'),
        labelled=('val',),
        conditions={'day': 'day', 'twilight': 'twilight', 'night': 'night'},
    )


@DATASETS.register_module(force=True)
class NighttimeDrivingDataset(DrivingDataset):
    """Nighttime Driving: 50 coarsely labelled night frames (Dai and Van Gool, 2018)."""

    DEFAULT_SPLIT = 'test'
    LAYOUT = DrivingLayout(
        images='leftImg8bit/{split}/{condition}',
        image='{frame}_leftImg8bit.png',
        labels=tuple(
            f'gtCoarse_daytime_trainvaltest/{{split}}/{{condition}}/{{frame}}_gtCoarse_{i}.png'
            for i in _BOTH_KINDS_OF_IDS
        ),
        variable='NIGHTTIME_DRIVING_ROOT',
        splits=('test',),
        labelled=('test',),
        conditions={'night': 'night'},
    )


@DATASETS.register_module(force=True)
class FoggyZurichDataset(DrivingDataset):
    """Foggy Zurich: 40 labelled frames and two unlabelled splits (Sakaridis et al., ECCV 2018)."""

    DEFAULT_SPLIT = 'testv2'
    LAYOUT = DrivingLayout(
        images='RGB',
        image='{frame}.png',
        labels=('gt_labelTrainIds/{frame}.png',),
        variable='FOGGY_ZURICH_ROOT',
        splits=('testv1', 'testv2', 'light', 'medium'),
        labelled=('testv1', 'testv2'),
        conditions={'fog': 'fog'},
        frame_list='lists_file_names/RGB_{split}_filenames.txt',
    )


@DATASETS.register_module(force=True)
class FoggyDrivingDataset(DrivingDataset):
    """Foggy Driving: 33 finely and 68 coarsely labelled frames, 21 of them in dense fog.

    Frames differ in size: a ``ContinualStream`` over them needs ``sizes_differ=True``.
    (Sakaridis et al., IJCV 2018.)
    """

    DEFAULT_SPLIT = 'testall'
    LAYOUT = DrivingLayout(
        images='leftImg8bit',
        image='{frame}_leftImg8bit.png',
        labels=tuple(
            f'{kind}/{{frame}}_{kind}_{i}.png'
            for kind in ('gtFine', 'gtCoarse')
            for i in _BOTH_KINDS_OF_IDS
        ),
        variable='FOGGY_DRIVING_ROOT',
        splits=('testall', 'testfine', 'testdense'),
        labelled=('testall', 'testfine', 'testdense'),
        conditions={'fog': 'fog'},
        frame_list='lists_file_names/leftImg8bit_{split}_filenames.txt',
    )


@DATASETS.register_module(force=True)
class FoggyCityscapesDataset(DrivingDataset):
    """Foggy Cityscapes: synthetic fog of three densities in 1/m (Sakaridis et al., IJCV 2018)."""

    LAYOUT = DrivingLayout(
        images='leftImg8bit_foggy/{split}',
        image='{frame}_leftImg8bit_foggy_{condition}.png',
        labels=_CITYSCAPES_LABELS,
        variable='CITYSCAPES_ROOT',
        splits=('train', 'val', 'test'),
        labelled=('train', 'val'),
        conditions={name: name for name in ('beta_0.005', 'beta_0.01', 'beta_0.02')},
    )


@DATASETS.register_module(force=True)
class RainyCityscapesDataset(DrivingDataset):
    """Rainy Cityscapes: synthetic rain, three strengths, twelve patterns (Hu et al., CVPR 2019)."""

    LAYOUT = DrivingLayout(
        images='leftImg8bit_rain/{split}',
        image='{frame}_leftImg8bit_rain_{condition}_pattern_*.png',
        labels=_CITYSCAPES_LABELS,
        variable='CITYSCAPES_ROOT',
        splits=('train', 'val'),
        labelled=('train', 'val'),
        conditions={
            'alpha_0.01': 'alpha_0.01_beta_0.005_dropsize_0.01',
            'alpha_0.02': 'alpha_0.02_beta_0.01_dropsize_0.005',
            'alpha_0.03': 'alpha_0.03_beta_0.015_dropsize_0.002',
        },
    )


@DATASETS.register_module(force=True)
class MUSESDataset(DrivingDataset):
    """MUSES: clear, fog, rain and snow, each by day and by night (Brödermann et al., ECCV 2024).

    The condition ``'fog'`` includes fog by day and by night.
    """

    LAYOUT = DrivingLayout(
        images='frame_camera/{split}/{condition}',
        image='{frame}_frame_camera.png',
        labels=tuple(
            f'gt_semantic/{{split}}/{{condition}}/{{frame}}_gt_{i}.png' for i in _BOTH_KINDS_OF_IDS
        ),
        variable='MUSES_ROOT',
        splits=('train', 'val', 'test'),
        labelled=('train', 'val'),
        conditions={
            f'{weather}_{time}': f'{weather}/{time}'
            for time in ('day', 'night')
            for weather in ('clear', 'fog', 'rain', 'snow')
        },
        more_conditions={weather: weather for weather in ('clear', 'fog', 'rain', 'snow')},
    )


@DATASETS.register_module(force=True)
class IDDAWDataset(DrivingDataset):
    """IDD-AW: Indian roads in fog, low light, rain and snow (Shaik et al., WACV 2024).

    The labels are polygons with class names. Classes of Cityscapes are scored, others (for example
    autorickshaw) are ignored. Scores are mIoU, not the data set's own Safe-mIoU.
    """

    decode_label = staticmethod(ids_of_polygons)
    LAYOUT = DrivingLayout(
        images='{split}/{condition}/rgb',
        image='{frame}_rgb.png',
        labels=('{split}/{condition}/gtSeg/{frame}_mask.json',),
        variable='IDDAW_ROOT',
        splits=('train', 'val', 'test'),
        labelled=('train', 'val'),
        conditions={name: name.upper() for name in ('fog', 'lowlight', 'rain', 'snow')},
    )
