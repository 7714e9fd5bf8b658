"""What is written loads as ACDC does, with the pixels of the transform on the fly."""

import cv2
import numpy as np
import pytest

from ecotta_seg.datasets import ACDCDataset, FrameError, WeatherCityscapesDataset
from ecotta_seg.datasets.weather.adverse_writer import AdverseWriter

LOAD = {'type': 'LoadImageFromFile'}
LABEL = {'type': 'LoadAnnotations'}


def write_all(*args, **kwargs) -> list:
    return list(AdverseWriter(*map(str, args), **kwargs).write())


def test_pixels_and_labels_equal_the_transform_on_the_fly(cityscapes, tmp_path):
    out = tmp_path / 'out'
    assert write_all(cityscapes, out, severity=4, seed=2) == [True] * 24
    weather = {'type': 'AdverseWeather', 'seed': 2}
    for condition in ('fog', 'night', 'rain', 'snow'):
        written = ACDCDataset(
            condition, split='val', data_root=str(out), pipeline=[LOAD, LABEL], test_mode=True
        )
        live = WeatherCityscapesDataset(
            condition, 4, data_root=str(cityscapes), pipeline=[LOAD, LABEL, weather]
        )
        assert len(written) == len(live) == 6
        for index in range(6):
            there, here = written[index], live[index]
            assert np.array_equal(there['img'], here['img'])
            assert np.array_equal(there['gt_seg_map'], here['gt_seg_map'])
            assert there['sequence'] == here['sequence']


def test_it_does_not_write_into_what_is_there(cityscapes, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'mine.txt').write_text('keep')
    with pytest.raises(ValueError, match='is not empty'):
        AdverseWriter(str(cityscapes), str(out))
    with pytest.raises(ValueError, match='not begun by this tool'):
        AdverseWriter(str(cityscapes), str(out), resume=True)
    with pytest.raises(ValueError, match='is a file'):
        AdverseWriter(str(cityscapes), str(out / 'mine.txt'))
    assert [path.name for path in out.iterdir()] == ['mine.txt']


def test_resume_writes_the_rest_and_refuses_other_settings(cityscapes, tmp_path):
    out = tmp_path / 'out'
    frames = AdverseWriter(str(cityscapes), str(out), severity=4).write()
    assert [next(frames) for _ in range(5)] == [True] * 5
    with pytest.raises(ValueError, match="was begun with .*'severity': 4"):
        AdverseWriter(str(cityscapes), str(out), severity=3, resume=True)
    rest = write_all(cityscapes, out, severity=4, resume=True)
    assert rest == [False] * 5 + [True] * 19
    whole = tmp_path / 'whole'
    write_all(cityscapes, whole, severity=4)
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob('*.*')} == {
        p.relative_to(whole): p.read_bytes() for p in whole.rglob('*.*')
    }


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'conditions': ['fog', 'hail']}, "unknown condition 'hail'"),
        ({'conditions': []}, 'none given'),
        ({'severity': 0}, 'unknown severity 0'),
        ({'splits': ['train']}, 'leftImg8bit/train does not exist'),
    ],
)
def test_mistakes_leave_no_folder_behind(cityscapes, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        AdverseWriter(str(cityscapes), str(tmp_path / 'out'), **arguments)
    assert not (tmp_path / 'out').exists()


def test_a_broken_source_file_is_named_and_nothing_half_is_left(cityscapes, tmp_path):
    path = cityscapes / 'leftImg8bit/val/city0/city0_0001_leftImg8bit.png'
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FrameError, match='city0_0001_leftImg8bit.png: the file is truncated'):
        write_all(cityscapes, tmp_path / 'out', conditions=['fog'])
    written = [p for p in (tmp_path / 'out').rglob('*.png')]
    assert len(written) == 2 and all(cv2.imread(str(p)) is not None for p in written)


def test_jpeg_sources_are_found(cityscapes, tmp_path):
    for path in list((cityscapes / 'leftImg8bit').rglob('*.png')):
        cv2.imwrite(str(path.with_suffix('.jpg')), cv2.imread(str(path)))
        path.unlink()
    assert len(write_all(cityscapes, tmp_path / 'out', conditions=['snow'])) == 6
