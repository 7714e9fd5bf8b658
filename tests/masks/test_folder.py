"""Names of files, and what a folder of masks knows of its run."""

import json

import pytest

from ecotta_seg.masks import MaskFolder, frame_names

SETTINGS = {
    'format': 'train_ids', 'size': 'label', 'source': False, 'classes': ['road', 'car'],
    'frames': 2, 'rounds': 1, 'run': 'a',
}  # fmt: skip


def test_a_file_has_the_name_of_its_image():
    paths = ['d/GOPR1/GOPR1_frame_000001_rgb_anon.png', 'd/GOPR1/GOPR1_frame_000002_rgb_anon.png']
    assert list(frame_names(paths * 2).values()) == [
        'GOPR1_frame_000001_rgb_anon',
        'GOPR1_frame_000002_rgb_anon',
    ]
    assert frame_names([]) == {}


def test_images_of_the_same_name_get_files_of_their_own():
    names = frame_names(['d/a/1.png', 'd/b/1.png', 'd/b/2.png'])
    assert list(names.values()) == ['a_1', 'b_1', 'b_2']
    names = frame_names(['d/x/a/1.png', 'd/y/a/1.png', 'd/y/a_1.png'])
    assert len(set(names.values())) == 3
    names = frame_names(['d/1.png', 'd/1.jpg', 'd/A.png', 'd/a.png'])
    assert len({name.lower() for name in names.values()}) == 4
    for name in frame_names(['../../etc/\x1b[31m', '/']).values():
        assert '/' not in name and '\x1b' not in name and not name.startswith('.')


def test_nothing_lands_outside(tmp_path):
    folder = MaskFolder(tmp_path / 'out')
    path = folder.mask(1, '../../up', 'name')
    assert path.resolve().is_relative_to((tmp_path / 'out' / 'round_1').resolve())
    assert folder.mask(None, 'fog', 'name') == tmp_path / 'out' / 'source' / 'fog' / 'name.png'


def test_a_run_starts_in_a_folder_of_its_own(tmp_path):
    folder = MaskFolder(tmp_path / 'out')
    folder.refuse_other_run()
    folder.start(SETTINGS, again=False)
    assert folder.read() == dict(SETTINGS, complete=False)
    with pytest.raises(ValueError, match='masks of another run'):
        folder.start(dict(SETTINGS, run='b'), again=False)
    # Stopped before its first state: the same frames come again.
    folder.start(dict(SETTINGS, run='b'), again=True)
    with pytest.raises(ValueError, match=r'another format \(train_ids, not colours\)'):
        folder.start(dict(SETTINGS, format='colours'), again=True)
    folder.end()
    assert folder.read() == dict(SETTINGS, run='b', complete=True)


def test_only_the_same_run_goes_on(tmp_path):
    folder = MaskFolder(tmp_path / 'out')
    files = [folder.mask(1, 'fog', name) for name in 'ab']
    with pytest.raises(ValueError, match='lacks 2 of the 2 masks'):
        folder.go_on(SETTINGS, files)
    folder.start(SETTINGS, again=False)
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder.go_on(SETTINGS, files)
    with pytest.raises(ValueError, match='another run than the resumed one'):
        folder.go_on(dict(SETTINGS, run=None), files)
    with pytest.raises(ValueError, match='another size'):
        folder.go_on(dict(SETTINGS, size='frame'), files)
    files[1].unlink()
    with pytest.raises(ValueError, match='lacks 1 of the 2 masks'):
        folder.go_on(SETTINGS, files)


@pytest.mark.parametrize('text', ['', '{', '[]', json.dumps({'format': 'train_ids'}), '\udcff'])
def test_a_damaged_manifest_is_said(tmp_path, text):
    (tmp_path / 'masks.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(ValueError, match='masks.json is damaged'):
        MaskFolder(tmp_path).read()
