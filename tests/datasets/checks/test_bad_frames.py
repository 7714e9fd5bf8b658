"""Files damaged byte by byte, through the whole stream: a sample or one clear sentence."""

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_seg.datasets import ContinualStream
from ecotta_seg.datasets.checks.frame_error import FrameError
from tests.damage import damaged

ANY_FIXTURE = dict(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def stream(cityscapes, pipeline):
    return build(cityscapes, pipeline)


def build(root, pipeline, **inner):
    return ContinualStream(
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=str(root),
            data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
            pipeline=pipeline,
            **inner,
        ),
        conditions=('clear',),
        rounds=1,
    )


def image_of(stream, index):
    return stream.get_data_info(index)['img_path']


def label_of(stream, index):
    return stream.get_data_info(index)['seg_map_path']


@pytest.mark.parametrize('content', [b'', b'no image', None, 'cut'])
def test_a_bad_image_is_a_black_frame_that_says_why(stream, content):
    import os

    path = image_of(stream, 2)
    if content is None:
        os.unlink(path)
    else:
        whole = open(path, 'rb').read()
        open(path, 'wb').write(whole[: len(whole) // 2] if content == 'cut' else content)
    with pytest.raises(FrameError):
        stream[2]
    stream.mark_bad_frames = True
    sample, good = stream[2], stream[1]
    info = sample['data_samples'].metainfo
    assert sample['inputs'].shape == good['inputs'].shape and not sample['inputs'].any()
    assert info['frame_fault'].startswith(path) and info['img_path'] == path
    assert (info['stream_index'], info['condition']) == (2, 'clear')
    assert 'gt_sem_seg' not in sample['data_samples']
    assert 'frame_fault' not in good['data_samples'].metainfo


def test_a_bad_label_costs_the_score_alone(stream):
    whole = stream[2]
    open(label_of(stream, 2), 'wb').close()
    stream.mark_bad_frames = True
    sample = stream[2]
    assert 'gt_sem_seg' not in sample['data_samples']
    assert (sample['inputs'] == whole['inputs']).all()
    info = sample['data_samples'].metainfo
    assert 'label_fault' in info and 'frame_fault' not in info


def test_wrong_ids_are_a_mistake_and_never_passed_over(stream):
    cv2.imwrite(label_of(stream, 2), np.full((24, 32), 77, np.uint8))
    stream.mark_bad_frames = True
    with pytest.raises(FrameError, match='ids 77'):
        stream[2]


def test_an_image_of_another_size_is_the_images_fault(stream):
    cv2.imwrite(image_of(stream, 2), np.zeros((10, 12, 3), np.uint8))
    stream.mark_bad_frames = True
    info = stream[2]['data_samples'].metainfo
    assert '12x10' in info['frame_fault']
    cv2.imwrite(label_of(stream, 3), np.zeros((10, 12), np.uint8))
    with pytest.raises(FrameError, match='same size'):
        stream[3]


def test_a_stream_of_bad_frames_alone_is_an_error(stream):
    for index in range(len(stream)):
        open(image_of(stream, index), 'wb').close()
    stream.mark_bad_frames = True
    with pytest.raises(FrameError, match='empty'):
        stream[0]


def test_missing_labels_are_skipped_where_asked_for(cityscapes, pipeline, stream):
    import os

    os.unlink(label_of(stream, 1))
    with pytest.raises(ValueError, match="missing_labels='skip'"):
        build(cityscapes, pipeline, missing_labels='error')
    # A stream goes on without the one or the other, unless told otherwise.
    for partly in (build(cityscapes, pipeline, missing_labels='skip'), build(cityscapes, pipeline)):
        assert len(partly) == 6
        there = ['gt_sem_seg' in partly[index]['data_samples'] for index in range(6)]
        assert there == [True, False, True, True, True, True]
    for index in range(6):
        if index != 1:
            os.unlink(label_of(stream, index))
    with pytest.raises(ValueError, match='has no label'):
        build(cityscapes, pipeline)
    assert len(build(cityscapes, pipeline, missing_labels='skip')) == 6
    with pytest.raises(ValueError, match="'error', 'some' or 'skip'"):
        build(cityscapes, pipeline, missing_labels='maybe')


@pytest.fixture(params=['.png', '.jpg'])
def pictures(request, tmp_path, pipeline):
    """A stream of two unlabelled images of a format."""
    generator = np.random.default_rng(1)
    folder = tmp_path / 'leftImg8bit/val/a'
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        image = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'a_{number}{request.param}'), image)
    return build(tmp_path, pipeline, img_suffix=request.param, missing_labels='skip')


@settings(max_examples=80, **ANY_FIXTURE)
@given(data=st.data())
def test_damage_to_an_image_gives_a_frame_or_a_sentence(pictures, data):
    path = image_of(pictures, 1)
    whole = open(path, 'rb').read()
    content = damaged(whole, data, most=4)
    open(path, 'wb').write(content)
    try:
        pictures.mark_bad_frames = False
        pictures[1]
    except FrameError as error:
        assert str(error).startswith(path) and '\n' not in str(error)
    try:
        pictures.mark_bad_frames = True
        assert pictures[1]['inputs'].shape[0] == 3
    finally:
        open(path, 'wb').write(whole)


@settings(max_examples=60, **ANY_FIXTURE)
@given(data=st.data())
def test_damage_to_a_label_gives_a_frame_or_a_sentence(stream, data):
    path = label_of(stream, 2)
    whole = open(path, 'rb').read()
    content = damaged(whole, data, most=4)
    try:
        open(path, 'wb').write(content)
        stream.mark_bad_frames = True
        sample = stream[2]
        assert sample['inputs'].any()
    except FrameError as error:
        assert str(error).startswith(path)
    finally:
        open(path, 'wb').write(whole)
