"""Unique file names for outputs of each frame, by condition and round."""

import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Optional

import mmengine.fileio as fileio
from mmseg.engine.hooks import SegVisualizationHook

from ..datasets.checks.frame_error import FrameError, check_image_bytes
from ..names.file_names import safe_file_name


def distinct_names(dataset: Any) -> Optional[Callable[[Mapping], str]]:
    """Returns a function from a frame's metainfo to a unique file name.

    Returns None if the names of the image files are unique already, or if the data set has no
    ``get_data_info``.

    Args:
        dataset: The tested data set. If several frames have the same file name, the new names
            begin with round and condition. If they are still not unique, the sequence or the
            folder follows.
    """
    if not hasattr(dataset, 'get_data_info'):
        return None
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    infos = [info for info in infos if info.get('img_path')]
    for parts in ((), ('round', 'condition'), ('round', 'condition', 'sequence')):
        if _all_differ(_name(info, parts) for info in infos):
            return (lambda info, parts=parts: _name(info, parts)) if parts else None
    return lambda info: _name(info, ('round', 'condition', 'folder'))


def prepare_pictures(runner: Any) -> None:
    """Makes mmseg's ``SegVisualizationHook`` write a separate picture for each frame.

    Frames with unreadable files are left out.

    Args:
        runner: The Runner, in ``before_test``.
    """
    for hook in runner.hooks:
        if not isinstance(hook, SegVisualizationHook) or not hook.draw:
            continue
        if isinstance(hook._visualizer, _Named):
            continue
        hook._visualizer = _Named(
            hook._visualizer, distinct_names(runner.test_dataloader.dataset) or _plain_name
        )
        hook.after_test_iter = _of_readable_files(hook.after_test_iter, hook.backend_args)


def _plain_name(info: Mapping) -> str:
    return osp.basename(info['img_path'])


def _of_readable_files(draw: Callable, backend_args: Optional[dict]) -> Callable:
    def after_test_iter(runner, batch_idx, data_batch=None, outputs=None) -> None:
        draw(runner, batch_idx, data_batch, [s for s in outputs if _readable(s, backend_args)])

    return after_test_iter


def _readable(sample: Any, backend_args: Optional[dict]) -> bool:
    """Whether a frame's file can be read. Files of frames without a fault are not opened."""
    path = sample.metainfo.get('img_path')
    if not sample.metainfo.get('frame_fault'):
        return True
    try:
        check_image_bytes(path, fileio.get(path, backend_args=backend_args))
    except (OSError, FrameError):
        return False
    return True


class _Named:
    """Wraps a visualizer and names each picture with ``rename``; nothing else changes."""

    def __init__(self, visualizer: Any, rename: Callable[[Mapping], str]) -> None:
        self._visualizer, self._rename = visualizer, rename

    def __getattr__(self, name: str) -> Any:
        return getattr(self._visualizer, name)

    def add_datasample(self, name: str, image: Any, data_sample: Any = None, **kwargs: Any) -> None:
        """Calls the visualizer with the new name."""
        if data_sample is not None and 'img_path' in data_sample:
            path = data_sample.img_path
            name = name.replace(osp.basename(path), self._rename(data_sample.metainfo))
        self._visualizer.add_datasample(name, image, data_sample=data_sample, **kwargs)


def _all_differ(names: Iterable[str]) -> bool:
    names = list(names)
    # Names that differ only in their extension give the same output file.
    return len({osp.splitext(name)[0] for name in names}) == len(names)


def _name(info: Mapping, parts: Sequence[str]) -> str:
    path = str(info['img_path'])
    values = []
    for part in parts:
        if part == 'folder':
            value = safe_file_name('_'.join(osp.dirname(path).replace('\\', '/').split('/')))
        elif part == 'sequence':
            value = info.get('sequence') or osp.basename(osp.dirname(path))
        else:
            value = info.get(part)
        if value:
            values.append(f'round{value}' if part == 'round' else safe_file_name(str(value)))
    return '_'.join([*values, osp.basename(path)])
