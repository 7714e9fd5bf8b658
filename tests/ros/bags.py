"""Bags that are written by the library rosbags and read by the library mcap and by hand."""

import sqlite3
import struct
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
START = 1_700_000_000_000_000_000


def header(number, frame='camera_link'):
    """A header whose stamp is 7 ms before the message was recorded."""
    nanoseconds = stamp_of(number)
    time = STORE.types['builtin_interfaces/msg/Time'](
        sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9
    )
    return STORE.types['std_msgs/msg/Header'](stamp=time, frame_id=frame)


def stamp_of(number):
    return START + number * 100_000_000


def recorded_at(number):
    return stamp_of(number) + 7_000_000


def image(frame, number=0, encoding='bgr8', padding=0):
    """An Image of (H, W, ...) uint8 pixels as they are, with bytes behind each row."""
    rows = frame.reshape(frame.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return STORE.types[IMAGE](
        header=header(number), height=frame.shape[0], width=frame.shape[1], encoding=encoding,
        is_bigendian=0, step=rows.shape[1], data=rows.reshape(-1),
    )  # fmt: skip


def compressed(frame, number=0, ending='.png', told='png'):
    content = np.asarray(cv2.imencode(ending, frame)[1]).reshape(-1)
    return STORE.types[COMPRESSED](header=header(number), format=told, data=content)


def write_bag(path, messages, storage='mcap', little_endian=True):
    """Writes a folder of rosbag2.

    Args:
        path: New folder.
        messages: Topic, time in nanoseconds and message of each.
    """
    path = Path(path)
    with Writer(path, version=8, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections = {}
        for topic, time, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            content = STORE.serialize_cdr(message, kind, little_endian=little_endian)
            writer.write(connections[topic], time, content)
    return path


def camera_bag(path, frames, topic='/camera', **options):
    """A bag of one camera in bgr8."""
    return write_bag(
        path,
        [(topic, recorded_at(n), image(frame, n)) for n, frame in enumerate(frames)],
        **options,
    )


def write_by_mcap(path, frames, topic='/camera'):
    """A file of one camera by the library mcap: compressed chunks with checksums."""
    from mcap.writer import CompressionType, Writer

    with open(path, 'wb') as file:
        writer = Writer(file, chunk_size=200_000, compression=CompressionType.ZSTD)
        writer.start(profile='ros2')
        text = STORE.generate_msgdef(IMAGE, ros_version=2)[0].encode()
        schema = writer.register_schema(IMAGE, 'ros2msg', text)
        channel = writer.register_channel(topic, 'cdr', schema)
        for number, frame in enumerate(frames):
            content = bytes(STORE.serialize_cdr(image(frame, number), IMAGE))
            time = recorded_at(number)
            writer.add_message(channel, time, content, time)
        writer.finish()
    return path


class Cdr:
    """Reads little-endian CDR by hand: what a message's bytes say."""

    def __init__(self, content):
        assert bytes(content[:4]) == b'\x00\x01\x00\x00'
        self.content, self.place = bytes(content[4:]), 0

    def number(self, kind):
        size = struct.calcsize(kind)
        self.place += -self.place % size
        (value,) = struct.unpack_from('<' + kind, self.content, self.place)
        self.place += size
        return value

    def text(self):
        return self.bytes()[:-1].decode()

    def bytes(self):
        size = self.number('I')
        self.place += size
        return self.content[self.place - size : self.place]

    def header(self):
        return self.number('i') * 10**9 + self.number('I'), self.text()

    def image(self):
        stamp, frame = self.header()
        height, width, encoding = self.number('I'), self.number('I'), self.text()
        assert self.number('B') == 0
        step, data = self.number('I'), self.bytes()
        kind = {'mono8': np.uint8, '32FC1': np.dtype('<f4')}[encoding]
        assert step == width * np.dtype(kind).itemsize and self.place == len(self.content)
        return stamp, frame, encoding, np.frombuffer(data, kind).reshape(height, width)

    def label_info(self):
        stamp, frame = self.header()
        classes = [(self.number('H'), self.text()) for _ in range(self.number('I'))]
        return stamp, frame, classes, self.number('f')


def read_mcap(path):
    """Topic, type, definition, time and bytes of each message, by the library mcap."""
    from mcap.reader import make_reader

    with open(path, 'rb') as file:
        return [
            (channel.topic, schema.name, schema.data.decode(), message.log_time, message.data)
            for schema, channel, message in make_reader(file).iter_messages()
        ]


def read_db3(path):
    """The same by SQL, without the definition."""
    with sqlite3.connect(path) as database:
        rows = database.execute(
            'SELECT name, type, timestamp, data FROM messages '
            'JOIN topics ON topics.id = topic_id ORDER BY messages.id'
        )
        return [(topic, kind, '', time, data) for topic, kind, time, data in rows]
