"""Bags of all kinds give the same images, in their order and in little memory."""

import tracemalloc

import numpy as np
import pytest

bags = pytest.importorskip('tests.ros.bags', reason='rosbags has no build for this Python')
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer  # noqa: E402

from ecotta_seg.ros.bag_reader import BagError, ImageBag  # noqa: E402
from ecotta_seg.ros.bag_writer import AnswerBag  # noqa: E402
from ecotta_seg.ros.image_message import frame_of  # noqa: E402
from ecotta_seg.ros.sqlite_file import sqlite_fault  # noqa: E402
from ecotta_seg.ros.topics import answer_topics  # noqa: E402

FRAMES = [np.random.default_rng(n).integers(0, 256, (6, 8, 3)).astype(np.uint8) for n in range(4)]


def check(path, **options):
    with ImageBag(path, **options) as bag:
        assert (bag.topic, bag.kind, len(bag)) == ('/camera', bags.IMAGE, 4)
        found = list(bag)
    assert [time for time, _ in found] == [bags.recorded_at(n) for n in range(4)]
    for (_, message), frame in zip(found, FRAMES):
        assert np.array_equal(frame_of(message, bags.IMAGE), frame)
        assert message.header.frame_id == 'camera_link'


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('little_endian', [True, False])
def test_both_storages_and_byte_orders(tmp_path, storage, little_endian):
    bag = bags.camera_bag(tmp_path / 'bag', FRAMES, storage=storage, little_endian=little_endian)
    check(bag)
    check(str(bag), topic='/camera')


@pytest.mark.parametrize('mode', ['FILE', 'MESSAGE', 'STORAGE'])
def test_compressed_bags(tmp_path, mode):
    writer = Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        camera = writer.add_connection('/camera', bags.IMAGE, typestore=bags.STORE)
        for number, frame in enumerate(FRAMES):
            content = bags.STORE.serialize_cdr(bags.image(frame, number), bags.IMAGE)
            writer.write(camera, bags.recorded_at(number), content)
    check(tmp_path / 'bag')


def test_a_file_of_another_writer_and_topics_that_are_not_images(tmp_path):
    check(bags.write_by_mcap(tmp_path / 'a.mcap', FRAMES))
    messages = [('/head', 1, bags.header(0))]
    messages += [('/camera', bags.recorded_at(n), bags.image(f, n)) for n, f in enumerate(FRAMES)]
    check(bags.write_bag(tmp_path / 'more', messages))
    # Recorded out of order: the images come by their time.
    check(bags.write_bag(tmp_path / 'mixed', messages[::-1]))


def test_a_topic_without_messages_and_one_of_two_types(tmp_path):
    with Writer(tmp_path / 'bag', version=8) as writer:
        writer.add_connection('/camera', bags.IMAGE, typestore=bags.STORE)
    with pytest.raises(BagError, match='/camera has no messages'):
        ImageBag(tmp_path / 'bag')
    both = [('/a', 1, bags.image(FRAMES[0])), ('/b', 2, bags.compressed(FRAMES[0]))]
    bag = bags.write_bag(tmp_path / 'both', both)
    with pytest.raises(BagError, match=r'several topics of images.*: /a \(.*Image, 1 .*, /b \('):
        ImageBag(bag)


def test_memory_does_not_grow_with_the_bag(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    bag_path = bags.camera_bag(tmp_path / 'bag', [frame] * 120)
    size = (bag_path / 'bag.mcap').stat().st_size
    assert size > 120 * frame.nbytes
    topics = answer_topics('/s', 'none')
    with ImageBag(bag_path) as bag, AnswerBag(tmp_path / 'out.mcap', topics) as answers:
        tracemalloc.start()
        for recorded, message in bag:
            mask = frame_of(message, bag.kind)[..., 0]
            answers.write('mask', recorded, answers.messages.mask(message.header, mask))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < size / 3, 'a few chunks of a megabyte, not the bag'


def test_what_a_database_says_of_its_size(tmp_path):
    bag = bags.camera_bag(tmp_path / 'bag', FRAMES, storage='sqlite3')
    file = bag / 'bag.db3'
    assert sqlite_fault(file) is None
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert sqlite_fault(file) == f'is cut off: {len(content) - 1} of {len(content)} bytes are there'
    file.write_bytes(b'no database' * 20)
    assert 'no database' in sqlite_fault(file)
    file.write_bytes(content)
    (bag / 'bag.db3-journal').touch()
    assert sqlite_fault(file) is None
    (bag / 'bag.db3-journal').write_bytes(b'pages')
    assert 'not closed by its recorder' in sqlite_fault(file)
