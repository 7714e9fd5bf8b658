"""Archives for servers: what is written is what they take, and each fault is found."""

import io
import zipfile

import cv2
import numpy as np
import pytest
from mmseg.datasets import CityscapesDataset
from PIL import Image

from ecotta_seg.masks import SERVERS, MaskFolder, check_submission, write_submission
from ecotta_seg.masks.submission import frames_of_images
from tests.files.test_png_file import full_disk

CLASSES = list(CityscapesDataset.METAINFO['classes'])
NAMES = {
    'acdc': ['GOPR0475_frame_000260_rgb_anon', 'GP020402_frame_000001_rgb_anon'],
    'muses': ['REC0006_frame_043451_frame_camera', 'REC0124_frame_208369_frame_camera'],
    'cityscapes': ['berlin_000000_000019_leftImg8bit', 'munich_000397_000019_leftImg8bit'],
}
# Made by hand from each server's rules.
EXPECTED = {
    'acdc': [f'labelTrainIds/{name}.png' for name in NAMES['acdc']],
    'muses': [f'labelTrainIds/{name}.png' for name in NAMES['muses']],
    'cityscapes': [f'{name}.png' for name in NAMES['cityscapes']],
}
SIZES = {'acdc': (1920, 1080), 'muses': (1920, 1080), 'cityscapes': (2048, 1024)}
LABEL_IDS = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]


def stripes(width, height, ids):
    """(H, W) uint8 with each of the ids."""
    return np.repeat(np.resize(np.array(ids, np.uint8), (1, width)), height, axis=0)


@pytest.fixture
def masks(tmp_path):
    """A function that writes a run's folder for a server."""

    def write(server, mask_format='train_ids', complete=True, rounds=(1,), **settings):
        folder = MaskFolder(tmp_path / 'masks')
        manifest = dict(
            format=mask_format, size='label', source=False, classes=CLASSES, frames=2,
            rounds=len(rounds), run='a',
        )  # fmt: skip
        folder.start({**manifest, **settings}, again=False)
        ids = range(19) if mask_format == 'train_ids' else LABEL_IDS
        for number in rounds:
            for condition, name in zip(('fog', 'night'), NAMES[server]):
                path = folder.mask(number, condition, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), stripes(*SIZES[server], ids))
        if complete:
            folder.end()
        return folder.path

    return write


@pytest.fixture
def images(tmp_path):
    def write(server, names=None):
        for name in names or NAMES[server]:
            path = tmp_path / 'images' / name[:4] / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / 'images'

    return write


@pytest.mark.parametrize('server', SERVERS)
@pytest.mark.parametrize('mask_format', ['train_ids', 'label_ids'])
def test_the_archive_of_each_server(masks, images, tmp_path, server, mask_format):
    out = tmp_path / 'out.zip'
    write = (masks(server, mask_format), out, server)
    assert write_submission(*write, images=images(server)) == 2
    ids = LABEL_IDS if server == 'cityscapes' else list(range(19))
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == EXPECTED[server]
        for name in archive.namelist():
            picture = Image.open(io.BytesIO(archive.read(name)))
            assert picture.mode == 'L' and picture.size == SIZES[server]
            assert np.array_equal(np.asarray(picture), stripes(*SIZES[server], ids))
    first = out.read_bytes()
    write_submission(*write, images=images(server))
    assert out.read_bytes() == first


def test_without_images_their_number_is_checked(masks, tmp_path):
    with pytest.raises(ValueError, match='all 2000 images of its test split, but the archive hol'):
        write_submission(masks('acdc'), tmp_path / 'out.zip', 'acdc')
    assert [path.name for path in tmp_path.iterdir()] == ['masks']


def test_a_mask_too_many_or_too_few(masks, images, tmp_path):
    folder = masks('acdc')
    names = [*NAMES['acdc'], 'GOPR0001_frame_000001_rgb_anon']
    with pytest.raises(ValueError, match='lacks masks of GOPR0001_frame_000001: run on the whole'):
        write_submission(folder, tmp_path / 'o.zip', 'acdc', images=images('acdc', names))
    with pytest.raises(ValueError, match='not of the test split: GP020402_frame_000001'):
        (tmp_path / 'images' / 'GP02' / f'{NAMES["acdc"][1]}.png').unlink()
        (tmp_path / 'images' / 'GOPR' / f'{names[2]}.png').unlink()
        write_submission(folder, tmp_path / 'o.zip', 'acdc', images=tmp_path / 'images')
    assert not (tmp_path / 'o.zip').exists()
    with pytest.raises(ValueError, match='holds no image of the test split of muses'):
        frames_of_images(tmp_path / 'images', 'muses')


def test_of_a_whole_data_set_the_test_split_alone_counts(tmp_path):
    for name in (
        'rgb_anon/fog/train/GOPR0475/GOPR0475_frame_000001_rgb_anon.png',
        'rgb_anon/fog/test/GOPR0475/GOPR0475_frame_000002_rgb_anon.png',
        'rgb_anon/fog/test_ref/GOPR0475/GOPR0475_frame_000003_rgb_ref_anon.png',
        'rgb_anon/snow/test/GP010176/GP010176_frame_000418_rgb_anon.png',
        'rgb_anon/snow/test/GP010176/Thumbs.db',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = ['GOPR0475_frame_000002', 'GP010176_frame_000418']
    assert frames_of_images(tmp_path / 'rgb_anon', 'acdc') == expected
    assert frames_of_images(tmp_path / 'rgb_anon/fog/test', 'acdc') == expected[:1]


@pytest.mark.parametrize(
    ('settings', 'says'),
    [
        (dict(complete=False), 'has not ended'),
        (dict(mask_format='colours'), 'are colours: run again'),
        (dict(size='frame'), '--out-size label'),
        (dict(classes=CLASSES[:11]), 'are of 11 classes'),
        (dict(classes=CLASSES[::-1]), 'in their order'),
        (dict(rounds=(1, 2)), 'round_1, round_2: name one of them with --part'),
    ],
)
def test_masks_that_make_no_archive(masks, images, tmp_path, settings, says):
    folder = masks('acdc', **settings)
    with pytest.raises(ValueError, match=says):
        write_submission(folder, tmp_path / 'out.zip', 'acdc', images=images('acdc'))
    assert not (tmp_path / 'out.zip').exists()


def test_a_round_can_be_chosen_and_a_folder_without_a_run_cannot(masks, images, tmp_path):
    folder = masks('acdc', rounds=(1, 2))
    arguments = (tmp_path / 'out.zip', 'acdc')
    write_submission(folder, *arguments, part='round_2', images=images('acdc'))
    with pytest.raises(ValueError, match='masks.json: name the folder'):
        write_submission(tmp_path, *arguments)
    with pytest.raises(ValueError, match='a .zip file'):
        write_submission(folder, tmp_path / 'out.tar', 'acdc')
    with pytest.raises(ValueError, match='expected one of acdc, muses, cityscapes'):
        write_submission(folder, tmp_path / 'out.zip', 'kitti')


def test_masks_of_a_wrong_size_make_no_archive(masks, images, tmp_path):
    folder, out = masks('acdc'), tmp_path / 'out.zip'
    out.write_bytes(b'an earlier archive')
    wrong = folder / 'round_1' / 'night' / f'{NAMES["acdc"][1]}.png'
    cv2.imwrite(str(wrong), stripes(960, 540, [0]))
    with pytest.raises(ValueError, match='960x540 pixels, but acdc takes 1920x1080') as raised:
        write_submission(folder, out, 'acdc', images=images('acdc'))
    assert str(raised.value).startswith(str(wrong))
    assert out.read_bytes() == b'an earlier archive'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images', 'masks', 'out.zip']


def test_names_are_checked_before_a_mask_is_read(masks, tmp_path, monkeypatch):
    folder = masks('acdc')
    monkeypatch.setattr(cv2, 'imread', None)
    with pytest.raises(ValueError, match='all 2000 images'):
        write_submission(folder, tmp_path / 'out.zip', 'acdc')
    with pytest.raises(ValueError, match='muses takes labelTrainIds/ with PNG files'):
        write_submission(folder, tmp_path / 'out.zip', 'muses')


def test_a_full_disk_leaves_the_earlier_archive(masks, images, tmp_path):
    out = tmp_path / 'out.zip'
    arguments = (masks('acdc'), out, 'acdc', None, images('acdc'))
    write_submission(*arguments)
    earlier = out.read_bytes()
    with full_disk(len(earlier) // 2), pytest.raises(OSError) as raised:
        write_submission(*arguments)
    assert raised.value.filename == str(out)
    assert out.read_bytes() == earlier
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.out')]


def _archive(path, entries):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def _png(image):
    return cv2.imencode('.png', image)[1].tobytes()


FRAMES = ['GOPR0475_frame_000260']
NAME = 'labelTrainIds/GOPR0475_frame_000260.png'
GOOD = _png(stripes(1920, 1080, range(19)))


def test_any_place_below_the_folder_will_do(tmp_path):
    name = 'labelTrainIds/fog/GOPR0475/GOPR0475_frame_000260_rgb_anon.png'
    path = _archive(tmp_path / 'a.zip', [('labelTrainIds/', ''), (name, GOOD)])
    check_submission(path, 'acdc', FRAMES)


@pytest.mark.parametrize(
    ('entries', 'says'),
    [
        ([(NAME, _png(stripes(960, 540, [0])))], '960x540 pixels, but acdc takes 1920x1080'),
        ([(NAME, _png(stripes(1080, 1920, [0])))], '1080x1920 pixels'),
        ([(NAME, _png(stripes(1920, 1080, LABEL_IDS)))], r'the ids \[19, 20'),
        ([(NAME, _png(stripes(1920, 1080, [0, 255])))], r'the ids \[255\]'),
        ([(NAME, _png(np.zeros((1080, 1920, 3), np.uint8)))], 'one channel of 8 bits'),
        ([(NAME, _png(np.zeros((1080, 1920), np.uint16)))], 'one channel of 8 bits'),
        ([(NAME, GOOD[: len(GOOD) // 3])], 'is damaged'),
        ([(NAME, b'')], 'is damaged'),
        ([(NAME[14:], GOOD)], 'labelTrainIds/ with PNG files'),
        ([('x/' + NAME, GOOD)], 'labelTrainIds/ with PNG files'),
        ([(NAME, GOOD), ('labelTrainIds/README.txt', b'')], 'holds labelTrainIds/README.txt'),
        ([(NAME, GOOD), ('labelTrainIds/x/GOPR0475_frame_000260_a.png', GOOD)], 'one mask a frame'),
        ([], 'lacks masks of GOPR0475_frame_000260'),
    ],
)
def test_each_fault_of_an_archive_is_found(tmp_path, entries, says):
    path = _archive(tmp_path / 'a.zip', entries)
    with pytest.raises(ValueError, match=says):
        check_submission(path, 'acdc', FRAMES)


def test_what_is_no_archive_or_a_broken_one(tmp_path):
    path = tmp_path / 'a.zip'
    for content in (None, b'', b'no archive'):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match='is no zip archive'):
            check_submission(path, 'acdc')
    whole = bytearray(_archive(path, [(NAME, GOOD)]).read_bytes())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='is no zip archive'):
        check_submission(path, 'acdc')
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(ValueError, match='is damaged'):
        check_submission(path, 'acdc', FRAMES)


def test_an_archive_that_is_too_large(tmp_path, monkeypatch):
    small = SERVERS['cityscapes']._replace(most_bytes=1000)
    monkeypatch.setitem(SERVERS, 'cityscapes', small)
    path = _archive(tmp_path / 'a.zip', [('x', bytes(2000))])
    with pytest.raises(ValueError, match='cityscapes takes 1000 at most'):
        check_submission(path, 'cityscapes')
