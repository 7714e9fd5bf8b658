"""Reads the images of one topic from a rosbag2 or an MCAP file, with the library rosbags."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional, Union

from ..names.printable import printable
from .messages import DEFINITIONS, IMAGE_TYPES
from .sqlite_file import sqlite_fault


def check_rosbags() -> None:
    """Checks that the library rosbags is installed.

    Raises:
        ImportError: The library is not installed.
    """
    if find_spec('rosbags') is None:
        raise ImportError(
            'reading and writing bags needs rosbags, and rosbags is not installed: pip install '
            "'ecotta-seg[ros]', or pip install 'rosbags>=0.11'"
        )


def message_types() -> Any:
    """The message types of ROS 2 Humble and ``DEFINITIONS``, for rosbags' reader and writer."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store, own = get_typestore(Stores.ROS2_HUMBLE), {}
    for name, text in DEFINITIONS.items():
        own.update(get_types_from_msg(text, name))
    store.register(own)
    return store


class BagError(ValueError):
    """The bag cannot be read, or does not contain the requested topic."""


class ImageBag:
    """Reads the images of a topic, in the order in which they were recorded.

    Args:
        path: A folder of a rosbag2, or a single file .mcap or .db3.
        topic: Name of the topic of images. If the bag has only one topic of images, None selects
            it.

    Attributes:
        topic: Name of the topic.
        kind: The type of the image messages.
        count: Number of images.

    Raises:
        BagError: The file is not a bag, is cut off or damaged, or has no images or not this topic.
        ImportError: rosbags is not installed.
    """

    def __init__(self, path: Union[str, Path], topic: Optional[str] = None) -> None:
        check_rosbags()
        self.path = Path(path)
        self._reader = self._opened()
        try:
            self._connections = self._chosen(topic)
        except BaseException:
            self.close()
            raise
        self.topic, self.kind = self._connections[0].topic, self._connections[0].msgtype
        self.count = sum(connection.msgcount for connection in self._connections)
        self._types = message_types()

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()

    def __enter__(self) -> 'ImageBag':
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Yields, for each image, the time of recording in nanoseconds and the message.

        Raises:
            BagError: The bag is damaged after the messages that were already read.
        """
        messages = iter(self._reader.messages(self._connections))
        while True:
            with _as_bag_errors(self.path, 'is damaged or cut off after some of its messages'):
                try:
                    connection, recorded, content = next(messages)
                except StopIteration:
                    return
                message = self._types.deserialize_cdr(content, connection.msgtype)
            yield recorded, message

    def _opened(self) -> Any:
        from rosbags.rosbag2 import Reader

        path = self.path
        if not path.exists():
            raise BagError(f'expected a bag, but {path} does not exist')
        if path.suffix == '.bag':
            raise BagError(
                f'{path} is a bag of ROS 1: convert it with `rosbags-convert --src {path} --dst '
                'NEW`, a command of rosbags'
            )
        if path.is_file() and path.suffix not in ('.mcap', '.db3'):
            raise BagError(f'expected a folder of rosbag2, or a file .mcap or .db3, got {path}')
        if path.is_dir() and not (path / 'metadata.yaml').is_file():
            raise BagError(
                f'{path} is no bag, or its recording was not ended: it has no metadata.yaml. '
                '`ros2 bag reindex` makes one; a single file .mcap or .db3 is read without'
            )
        for file in [path] if path.suffix == '.db3' else sorted(path.glob('*.db3')):
            fault = sqlite_fault(file)
            if fault:
                raise BagError(
                    f'{file} {fault}; `sqlite3 {file.name} .recover` and `ros2 bag reindex` mend it'
                )
        with _as_bag_errors(
            path,
            'cannot be read as a bag: it is damaged, cut off, or of another kind',
            '. `mcap recover` mends MCAP files, `ros2 bag reindex` folders',
        ):
            reader = Reader(path)
            reader.open()
        return reader

    def _chosen(self, topic: Optional[str]) -> list:
        found = {}
        for connection in self._reader.connections:
            found.setdefault(connection.topic, []).append(connection)
        images = {
            name: connections
            for name, connections in found.items()
            if {connection.msgtype for connection in connections} <= set(IMAGE_TYPES)
        }
        listed = ', '.join(
            printable(f'{name} ({connections[0].msgtype}, {_number(connections)} messages)')
            for name, connections in sorted((images or found).items())
        )
        if not images:
            raise BagError(
                f'{self.path} has no topic of sensor_msgs/Image or CompressedImage; it has '
                f'{listed or "no topic at all"}'
            )
        if topic is None and len(images) > 1:
            raise BagError(
                f'{self.path} has several topics of images, name one with --topic: {listed}'
            )
        if topic is None:
            topic = next(iter(images))
        elif topic not in images:
            wrong = f'is of {found[topic][0].msgtype}' if topic in found else 'is not there'
            raise BagError(
                f'{self.path}: the topic {topic} {wrong}; its topics of images are {listed}'
            )
        if not _number(images[topic]):
            raise BagError(f'{self.path}: the topic {topic} has no messages')
        if len({connection.msgtype for connection in images[topic]}) > 1:
            raise BagError(f'{self.path}: the topic {topic} has messages of two types')
        return images[topic]


def _number(connections: list) -> int:
    return sum(connection.msgcount for connection in connections)


class _as_bag_errors:
    """Context manager that turns any error of the library into a ``BagError`` of one sentence."""

    def __init__(self, path: Path, what: str, remedy: str = '') -> None:
        self.path, self.what, self.remedy = path, what, remedy

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        # If a file is damaged, the library can raise errors of many kinds.
        if isinstance(error, Exception) and not isinstance(error, (MemoryError, StopIteration)):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
            raise BagError(f'{self.path} {self.what} ({reason}){self.remedy}') from None
