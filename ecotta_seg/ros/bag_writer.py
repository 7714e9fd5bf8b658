"""Writes a new bag with the answers to images, completely or not at all, with rosbags."""

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional, Union

from ..files.atomic_folder import atomic_folder, move_new
from .bag_reader import message_types
from .messages import Messages

STORAGES = ('mcap', 'sqlite3')
_SUFFIXES = {'.mcap': 'mcap', '.db3': 'sqlite3'}


def check_output(path: Union[str, Path]) -> None:
    """Checks that a new bag can have this name.

    Raises:
        ValueError: A file or folder of this name exists, or the suffix is not that of a bag.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise ValueError(f'{path} exists: a bag is not written over, choose another name')
    if path.suffix and path.suffix not in _SUFFIXES:
        raise ValueError(f'expected a folder without a suffix, or a file .mcap or .db3, got {path}')


class AnswerBag:
    """Writes messages to a new bag, which gets its name only after it is complete.

    Args:
        path: The new bag: a folder of a rosbag2, or a single file .mcap or .db3.
        topics: For each kind of message, under a name that the caller chooses, the topic and the
            type.
        latched: Names of those kinds whose last message late subscribers also get.
        storage: Storage of a folder: ``'mcap'`` or ``'sqlite3'``. A single file has that of its
            suffix.

    Attributes:
        messages: The ``Messages`` object that makes messages for ``write``.
        written: Number of written messages.

    Raises:
        ValueError: See ``check_output``.
    """

    def __init__(
        self,
        path: Union[str, Path],
        topics: dict[str, tuple[str, str]],
        latched: tuple[str, ...] = (),
        storage: str = 'mcap',
    ) -> None:
        import numpy as np

        check_output(path)
        self.path, self.topics, self.latched = Path(path), topics, latched
        self.storage = _SUFFIXES.get(self.path.suffix, storage)
        self._types = message_types()
        self.messages = Messages(self._types.types.get, lambda data: np.frombuffer(data, np.uint8))
        self.written = 0
        self._stack = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> 'AnswerBag':
        from rosbags.rosbag2 import StoragePlugin, Writer

        folder = self._stack.enter_context(atomic_folder(self.path))
        try:
            # All distributions from Humble on can read this version.
            self._bag = folder / self.path.stem
            plugin = StoragePlugin[self.storage.upper()]
            self._writer = Writer(self._bag, version=8, storage_plugin=plugin)
            self._writer.open()
            self._connections = {
                name: self._writer.add_connection(
                    topic,
                    kind,
                    typestore=self._types,
                    offered_qos_profiles=[_quality(name in self.latched)],
                )
                for name, (topic, kind) in self.topics.items()
            }
        except BaseException as error:
            self._leave(error)
            raise self._plain(error) or error from None
        return self

    def write(self, name: str, recorded: int, message: Any) -> None:
        """Adds a message.

        Args:
            name: A key of ``topics``.
            recorded: Time of recording in nanoseconds.
            message: A message of the topic's type, made by ``messages``.

        Raises:
            OSError: The message cannot be written. The incomplete bag is then removed.
        """
        kind = self.topics[name][1]
        try:
            content = self._types.serialize_cdr(message, kind, little_endian=True)
            self._writer.write(self._connections[name], recorded, content)
        except (OSError, sqlite3.Error) as error:
            raise self._plain(error) from None
        self.written += 1

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if error is not None:
            self._leave(error)
            return
        try:
            self._writer.close()
            self._check()
            file = next(self._bag.glob(f'*{self.path.suffix}')) if self.path.suffix else self._bag
            move_new(file, self.path)
        except (OSError, sqlite3.Error) as failed:
            self._leave(failed)
            raise self._plain(failed) from None
        self._stack.close()

    def _leave(self, error: BaseException) -> None:
        """Closes the writer and removes the incomplete bag."""
        try:
            if self._writer is not None:
                self._writer.abort()
        except (OSError, sqlite3.Error):
            pass  # A full disk: the first error says so.
        self._stack.close()

    def _check(self) -> None:
        """Opens the bag again and checks that it has all messages."""
        from rosbags.rosbag2 import Reader, ReaderError

        try:
            with Reader(self._bag) as reader:
                there = reader.message_count
        except ReaderError as error:
            raise OSError(f'it cannot be read back, {error}') from None
        if there != self.written:
            raise OSError(f'{there} of {self.written} messages are in it')

    def _plain(self, error: BaseException) -> Optional[OSError]:
        if not isinstance(error, (OSError, sqlite3.Error)):
            return None
        reason = getattr(error, 'strerror', None) or str(error)
        return OSError(
            f'{self.path} could not be written ({reason.rstrip(".")}): the incomplete bag was '
            'removed'
        )


def _quality(latched: bool) -> Any:
    """Reliable quality of service; late subscribers get the last message of a latched topic."""
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    forever = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
