"""Bad files end in one sentence that names the file and the remedy."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from ecotta_seg.datasets import FrameError, WeatherCityscapesDataset

NAME = 'city0/city0_0001'


@pytest.fixture
def dataset(cityscapes, pipeline):
    """The dataset, the image and the label of its second frame."""
    image = cityscapes / f'leftImg8bit/val/{NAME}_leftImg8bit.png'
    label = cityscapes / f'gtFine/val/{NAME}_gtFine_labelTrainIds.png'
    return WeatherCityscapesDataset(data_root=str(cityscapes), pipeline=pipeline), image, label


def sentence_of(dataset: WeatherCityscapesDataset) -> str:
    with pytest.raises(FrameError) as raised:
        dataset[1]
    message = str(raised.value)
    assert '\n' not in message and 'Traceback' not in message
    return message


def break_file(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == 'missing':
        path.unlink()
    else:
        path.write_bytes({'empty': b'', 'cut': content[:-30], 'text': b'not an image'}[how])


@pytest.mark.parametrize('which', ['image', 'label'])
@pytest.mark.parametrize(
    ('how', 'words'),
    [
        ('missing', 'cannot be read'),
        ('empty', 'is empty'),
        ('cut', 'truncated'),
        ('text', 'cannot be decoded'),
    ],
)
def test_broken_files_are_named(dataset, which, how, words):
    dataset, image, label = dataset
    path = image if which == 'image' else label
    break_file(path, how)
    message = sentence_of(dataset)
    assert message.startswith(str(path)) and words in message
    assert dataset[0]['inputs'].shape[0] == 3  # The others still load.


def test_broken_files_are_not_replaced_by_others_in_training(cityscapes, pipeline):
    dataset = WeatherCityscapesDataset(data_root=str(cityscapes), pipeline=pipeline)
    assert not dataset.test_mode
    break_file(cityscapes / f'leftImg8bit/val/{NAME}_leftImg8bit.png', 'empty')
    sentence_of(dataset)


def test_workers_hand_on_the_sentence_alone(dataset):
    dataset, image, _ = dataset
    break_file(image, 'cut')
    with pytest.raises(FrameError) as raised:
        list(DataLoader(dataset, num_workers=1, collate_fn=list))
    assert str(raised.value).startswith(str(image)) and '\n' not in str(raised.value)


@pytest.mark.slow
def test_label_of_another_size(dataset):
    dataset, image, label = dataset
    cv2.imwrite(str(label), np.zeros((24, 30), np.uint8))
    message = sentence_of(dataset)
    assert str(image) in message and '30x24' in message and '32x24' in message


def test_label_size_is_checked_before_training_crops_too(cityscapes):
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations'},
        {'type': 'RandomCrop', 'crop_size': (8, 8)},
        {'type': 'PackSegInputs'},
    ]
    dataset = WeatherCityscapesDataset(data_root=str(cityscapes), pipeline=pipeline)
    assert dataset[1]['data_samples'].gt_sem_seg.data.shape == (1, 8, 8)
    label = cityscapes / f'gtFine/val/{NAME}_gtFine_labelTrainIds.png'
    cv2.imwrite(str(label), np.zeros((20, 32), np.uint8))
    sentence_of(dataset)


def test_ids_that_are_no_train_ids(dataset):
    dataset, _, label = dataset
    ids = np.zeros((24, 32), np.uint8)
    ids[0, :4] = 18, 19, 33, 255
    cv2.imwrite(str(label), ids)
    message = sentence_of(dataset)
    assert 'the ids 19, 33, but' in message and 'labelTrainIds' in message


def test_colour_label(dataset):
    dataset, _, label = dataset
    cv2.imwrite(str(label), np.zeros((24, 32, 3), np.uint8))
    assert '3 channels' in sentence_of(dataset)


@pytest.mark.parametrize('value', [0, 7, 2560, 26001])
def test_label_of_16_bits(dataset, value):
    # 2560 is 0, road, where only eight bits are kept.
    dataset, _, label = dataset
    cv2.imwrite(str(label), np.full((24, 32), value, np.uint16))
    message = sentence_of(dataset)
    assert message.startswith(str(label)) and '16 bits a pixel' in message


@pytest.mark.parametrize('kind', ['tif', 'png', 'pgm'])
def test_labels_of_16_bits_in_any_container(dataset, kind):
    dataset, _, label = dataset
    ids = np.full((24, 32), 2560, np.uint16)
    # By its content, whatever its name ends with.
    label.write_bytes(cv2.imencode(f'.{kind}', ids)[1].tobytes())
    assert '16 bits a pixel' in sentence_of(dataset) or '32 bits' in sentence_of(dataset)


def test_a_palette_label_is_read_by_its_indices(dataset):
    dataset, _, label = dataset
    ids = np.random.default_rng(0).integers(0, 19, (24, 32), dtype=np.uint8)
    image = Image.fromarray(ids, 'P')
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(label)
    (frame,) = [i for i in range(6) if dataset.get_data_info(i)['seg_map_path'] == str(label)]
    assert np.array_equal(dataset[frame]['data_samples'].gt_sem_seg.data[0].numpy(), ids)


def test_images_of_another_suffix_are_told(cityscapes, caplog, monkeypatch):
    image = cityscapes / f'leftImg8bit/val/{NAME}_leftImg8bit.png'
    image.with_name('other_leftImg8bit.JPG').write_bytes(image.read_bytes())
    told = []
    monkeypatch.setattr(
        'ecotta_seg.datasets.condition_dataset.print_log', lambda text, *_: told.append(text)
    )
    dataset = WeatherCityscapesDataset(data_root=str(cityscapes), pipeline=[])
    assert len(dataset) == 6
    (text,) = told
    assert text.startswith('1 images in') and 'other_leftImg8bit.JPG first' in text
