"""tools/ros2_bag.py from a bag to a bag, and what it says of bags that it cannot read."""

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ecotta_seg.apis.frame_answer import frame_confidence
from ecotta_seg.cli.command_line import run_tool
from ecotta_seg.cli.console import load_tool
from tests.apis.small_segmentor import built, checkpoint_of, frames, write_config

bags = pytest.importorskip('tests.ros.bags', reason='rosbags has no build for this Python')
ROOT = Path(__file__).resolve().parents[2]
tool = load_tool(ROOT / 'tools' / 'ros2_bag.py')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Arguments that name a tiny model, and its config."""
    config = write_config(tmp_path_factory.mktemp('model'), 'ecotta')
    return ['--config', str(config), '--checkpoint', str(checkpoint_of(config))], config


def run(bag, out, model, *more):
    torch.manual_seed(0)
    return run_tool(tool.main, [str(bag), str(out), *model[0], *map(str, more)])


def expected(model, count=3):
    """Mask and probability of each frame, by the segmentor itself."""
    segmentor = built(model[1])
    found = []
    for frame in frames(count):
        sample = segmentor.step(frame)
        probability = sample.seg_logits.data.softmax(0).max(0).values.numpy()
        assert np.allclose(frame_confidence(sample), probability, atol=1e-6)
        found.append((sample.pred_sem_seg.data[0].numpy(), probability))
    return found


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('single', [True, False])
def test_a_bag_becomes_masks_with_its_stamps(model, tmp_path, capsys, storage, single):
    bag = bags.camera_bag(tmp_path / 'drive', frames(3), storage=storage)
    suffix = {'mcap': '.mcap', 'sqlite3': '.db3'}[storage]
    source = bag / f'drive{suffix}' if single else bag
    out = tmp_path / ('out' + suffix * single)
    assert run(source, out, model, '--storage', storage) == 0
    assert '/camera: 3 images, 3 updates' in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ['drive', out.name]
    read = {'mcap': bags.read_mcap, 'sqlite3': bags.read_db3}[storage]
    messages = read(out if single else out / f'out{suffix}')
    labels = [m for m in messages if m[0] == '/segmentation/label_info']
    masks = [m for m in messages if m[0] == '/segmentation/mask']
    sure = [m for m in messages if m[0] == '/segmentation/confidence']
    assert (len(labels), len(masks), len(sure)) == (1, 3, 3) and messages[0] == labels[0]
    assert {m[1] for m in masks + sure} == {'sensor_msgs/msg/Image'}
    for number, (mask, probability) in enumerate(expected(model)):
        assert masks[number][3] == sure[number][3] == bags.recorded_at(number)
        stamp, frame, encoding, pixels = bags.Cdr(masks[number][4]).image()
        assert (stamp, frame, encoding) == (bags.stamp_of(number), 'camera_link', 'mono8')
        assert np.array_equal(pixels, mask)
        stamp, frame, encoding, pixels = bags.Cdr(sure[number][4]).image()
        assert (stamp, encoding) == (bags.stamp_of(number), 'mono8')
        assert np.abs(pixels / 255.0 - probability).max() <= 0.5 / 255 + 1e-6
    assert labels[0][1] == 'vision_msgs/msg/LabelInfo'
    stamp, frame, classes, threshold = bags.Cdr(labels[0][4]).label_info()
    assert (stamp, frame, threshold) == (bags.stamp_of(0), 'camera_link', 0)
    assert classes[:2] == [(0, 'road'), (1, 'sidewalk')] and len(classes) == 19
    if storage == 'mcap':
        assert 'vision_msgs/VisionClass[] class_map' in labels[0][2]
        assert 'uint16 class_id' in labels[0][2]


def test_topics_confidence_and_a_number_of_frames(model, tmp_path):
    first, second = list(frames(3)), list(frames(3, seed=4, shape=(32, 48)))
    messages = []
    for number in range(3):
        time = bags.recorded_at(number)
        messages.append(('/left', time, bags.image(first[number], number)))
        messages.append(('/right', time + 1, bags.compressed(second[number], number)))
    bag = bags.write_bag(tmp_path / 'two', messages)
    options = ['--topic', '/right', '--prefix', '/seg', '--confidence', '32FC1', '--max-frames', 2]
    assert run(bag, tmp_path / 'a.mcap', model, *options) == 0
    found = bags.read_mcap(tmp_path / 'a.mcap')
    assert [m[0] for m in found].count('/seg/mask') == 2
    images = [bags.Cdr(m[4]).image() for m in found if m[0] == '/seg/confidence']
    assert all(encoding == '32FC1' and p.shape == (32, 48) for _, _, encoding, p in images)
    assert all(1 / 19 - 1e-6 <= p.min() and p.max() <= 1 for _, _, _, p in images)
    assert run(bag, tmp_path / 'b.mcap', model, '--topic', '/left', '--confidence', 'none') == 0
    assert {m[0] for m in bags.read_mcap(tmp_path / 'b.mcap')} == {
        '/segmentation/mask', '/segmentation/label_info',
    }  # fmt: skip


def test_two_bags_are_one_stream_by_a_saved_state(model, tmp_path, capsys):
    stream = list(frames(4))
    parts = {'all': stream, 'one': stream[:2], 'two': stream[2:]}
    for name, part in parts.items():
        bags.camera_bag(tmp_path / name, part)
    state = tmp_path / 'state.pth'
    assert run(tmp_path / 'all', tmp_path / 'all.mcap', model) == 0
    assert run(tmp_path / 'one', tmp_path / 'one.mcap', model, '--save-state', state) == 0
    capsys.readouterr()
    assert run(tmp_path / 'two', tmp_path / 'two.mcap', model, '--load-state', state) == 0
    assert '/camera: 2 images, 2 updates' in capsys.readouterr().out, 'those of this bag alone'
    masks = {
        name: [
            bags.Cdr(m[4]).image()[3]
            for m in bags.read_mcap(tmp_path / f'{name}.mcap')
            if m[0] != '/segmentation/label_info'
        ]
        for name in parts
    }
    both = masks['one'] + masks['two']
    assert len(both) == 8 and all(map(np.array_equal, both, masks['all']))


def test_messages_without_a_whole_image_are_told(model, tmp_path, capsys):
    stream = list(frames(3))
    messages = [bags.compressed(frame, n, '.jpg', 'jpeg') for n, frame in enumerate(stream)]
    messages[1].data = messages[1].data[:-300]
    bag = bags.write_bag(
        tmp_path / 'bag', [('/c', bags.recorded_at(n), m) for n, m in enumerate(messages)]
    )
    assert run(bag, tmp_path / 'out.mcap', model) == 0
    text = capsys.readouterr().out
    assert '/c: 2 images' in text and '1 messages hold no whole image: a jpeg picture' in text
    found = bags.read_mcap(tmp_path / 'out.mcap')
    assert [m[3] for m in found if m[0].endswith('mask')] == [
        bags.recorded_at(0), bags.recorded_at(2),
    ]  # fmt: skip
    for message in messages:
        message.data = message.data[:50]
    bag = bags.write_bag(tmp_path / 'bad', [('/c', 1, m) for m in messages])
    assert_refused(model, bag, tmp_path, capsys, 'none of the 3 messages of /c holds a whole image')


def assert_refused(model, bag, folder, capsys, text, *more, out='refused'):
    """One sentence, exit code 2, and nothing that was not there."""
    before = sorted(folder.rglob('*'))
    capsys.readouterr()
    assert run(bag, folder / out, model, *more) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith('error: ')]
    assert text in line and 'Traceback' not in error, line
    assert sorted(folder.rglob('*')) == before


def test_topics_that_are_not_there(model, tmp_path, capsys):
    (frame,) = frames(1)
    two = bags.write_bag(tmp_path / 'two', [(t, 1, bags.image(frame)) for t in ('/left', '/right')])
    header = bags.header(0)
    other = bags.write_bag(tmp_path / 'other', [('/head', 1, header), ('/c', 1, bags.image(frame))])
    none = bags.write_bag(tmp_path / 'none', [('/head', 1, header)])
    empty = bags.write_bag(tmp_path / 'empty', [])

    def refused(bag, text, *more):
        assert_refused(model, bag, tmp_path, capsys, text, *more)

    refused(two, 'several topics of images, name one with --topic: /left (sensor_msgs/msg/Image, 1')
    refused(two, 'the topic /top is not there; its topics of images are /left', '--topic', '/top')
    refused(other, 'the topic /head is of std_msgs/msg/Header', '--topic', '/head')
    refused(none, 'no topic of sensor_msgs/Image or CompressedImage; it has /head (std_msgs')
    refused(empty, 'it has no topic at all')
    refused(two, '--prefix: expected the name of a topic', '--prefix', 'a b', '--topic', '/left')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bags_that_are_cut_off(model, tmp_path, capsys, storage):
    suffix = {'mcap': 'mcap', 'sqlite3': 'db3'}[storage]
    bag = bags.camera_bag(tmp_path / 'drive', frames(6, shape=(256, 384)), storage=storage)
    file = bag / f'drive.{suffix}'
    content = file.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 20):
        file.write_bytes(content[:size])
        for source in (file, bag):
            assert_refused(model, source, tmp_path, capsys, str(source))
    file.unlink()
    assert_refused(model, bag, tmp_path, capsys, 'Some database files are missing')
    (bag / 'metadata.yaml').unlink()
    assert_refused(model, bag, tmp_path, capsys, 'it has no metadata.yaml')


def test_a_bag_that_is_damaged_in_the_middle(model, tmp_path, capsys):
    file = bags.write_by_mcap(tmp_path / 'drive.mcap', frames(6, shape=(128, 192)))
    assert run(file, tmp_path / 'whole.mcap', model) == 0
    assert sum(m[0] == '/segmentation/mask' for m in bags.read_mcap(tmp_path / 'whole.mcap')) == 6
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    adapters = tmp_path / 'adapters.pth'
    capsys.readouterr()
    assert run(file, tmp_path / 'out', model, '--save-adapters', adapters) == 2
    error = capsys.readouterr().err
    assert 'is damaged or cut off after some of its messages' in error and 'Traceback' not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'adapters.pth', 'drive.mcap', 'whole.mcap',
    ]  # fmt: skip


def test_a_recording_that_was_killed(model, tmp_path, capsys):
    bag = bags.camera_bag(tmp_path / 'drive', frames(1), storage='sqlite3')
    (bag / 'drive.db3-wal').write_bytes(b'messages')
    assert_refused(model, bag, tmp_path, capsys, 'was not closed by its recorder: drive.db3-wal')


def test_other_files_and_names(model, tmp_path, capsys):
    (tmp_path / 'a.bag').write_bytes(b'#ROSBAG V2.0')
    (tmp_path / 'a.mp4').write_bytes(b'video')
    (tmp_path / 'a.mcap').write_bytes(os.urandom(1000))
    bag = bags.camera_bag(tmp_path / 'drive', frames(1))
    for name, text in (
        ('a.bag', 'is a bag of ROS 1: convert it'),
        ('a.mp4', 'expected a folder of rosbag2, or a file .mcap or .db3'),
        ('a.mcap', 'cannot be read as a bag'),
        ('nowhere', 'does not exist'),
    ):
        assert_refused(model, tmp_path / name, tmp_path, capsys, text)
    assert_refused(model, bag, tmp_path, capsys, 'exists: a bag is not written', out='drive')
    assert_refused(model, bag, tmp_path, capsys, 'exists: a bag is not written', out='a.mcap')
    assert_refused(model, bag, tmp_path, capsys, 'a folder without a suffix', out='x.txt')


def test_encodings_that_are_not_read(model, tmp_path, capsys):
    (frame,) = frames(1)
    wide = bags.image(np.zeros((4, 8), np.uint8), encoding='16UC1')
    depth = bags.compressed(frame, told='16UC1; compressedDepth png')
    video = bags.compressed(frame, told='h264')
    for number, (message, text) in enumerate((
        (wide, "got '16UC1'"),
        (depth, "got the format '16UC1; compressedDepth png'"),
        (video, "got the format 'h264'"),
    )):  # fmt: skip
        bag = bags.write_bag(tmp_path / f'bag{number}', [('/c', 1, message)])
        assert_refused(model, bag, tmp_path, capsys, text)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_full_disk_leaves_nothing(model, tmp_path, capsys, storage):
    bag = bags.camera_bag(tmp_path / 'drive', frames(4, shape=(256, 384)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
        assert_refused(
            model, bag, tmp_path, capsys, 'refused could not be written', '--storage', storage
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_signal_leaves_no_half_of_a_bag_and_saves(model, tmp_path, monkeypatch):
    from ecotta_seg.ros.frame_loop import FrameLoop

    bag = bags.camera_bag(tmp_path / 'drive', frames(3))
    answer, handler = FrameLoop.answer, signal.getsignal(signal.SIGTERM)

    def stop(self, message):
        yield from answer(self, message)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(FrameLoop, 'answer', stop)
    with pytest.raises(SystemExit) as raised:
        run(bag, tmp_path / 'out', model, '--save-state', tmp_path / 'state.pth')
    assert raised.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    assert sorted(p.name for p in tmp_path.iterdir()) == ['drive', 'state.pth']


def test_without_rosbags_one_sentence(model, tmp_path, capsys, monkeypatch):
    from ecotta_seg.ros import bag_reader

    monkeypatch.setattr(bag_reader, 'find_spec', lambda name: None)
    assert_refused(model, tmp_path, tmp_path, capsys, "pip install 'ecotta-seg[ros]'")
