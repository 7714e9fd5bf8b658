"""Files that are written for each frame: a name of its own for each condition and round."""

import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Optional

from mmseg.engine.hooks import SegVisualizationHook

from ..visualization.file_names import safe_file_name


def distinct_names(dataset: Any) -> Optional[Callable[[Mapping], str]]:
    """How to name a frame's file; None where the plain names do.

    Args:
        dataset: The tested one. Where several of its frames have the same file name, the names
            begin with round and condition, and with more where that does not do.
    """
    if not hasattr(dataset, 'get_data_info'):
        return None
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    infos = [info for info in infos if info.get('img_path')]
    for parts in ((), ('round', 'condition'), ('round', 'condition', 'sequence')):
        if _all_differ(_name(info, parts) for info in infos):
            return (lambda info, parts=parts: _name(info, parts)) if parts else None
    return lambda info: _name(info, ('round', 'condition', 'folder'))


def name_pictures(runner: Any) -> None:
    """Has mmseg's ``SegVisualizationHook`` write a picture of its own for each frame.

    Args:
        runner: The Runner, in ``before_test``.
    """
    for hook in runner.hooks:
        if not isinstance(hook, SegVisualizationHook) or not hook.draw:
            continue
        if isinstance(hook._visualizer, _Named):
            continue
        rename = distinct_names(runner.test_dataloader.dataset)
        if rename is not None:
            hook._visualizer = _Named(hook._visualizer, rename)


class _Named:
    """A visualizer that names a sample's picture by ``rename``; all else is the visualizer's."""

    def __init__(self, visualizer: Any, rename: Callable[[Mapping], str]) -> None:
        self._visualizer, self._rename = visualizer, rename

    def __getattr__(self, name: str) -> Any:
        return getattr(self._visualizer, name)

    def add_datasample(self, name: str, image: Any, data_sample: Any = None, **kwargs: Any) -> None:
        """As the visualizer's."""
        if data_sample is not None and 'img_path' in data_sample:
            path = data_sample.img_path
            name = name.replace(osp.basename(path), self._rename(data_sample.metainfo))
        self._visualizer.add_datasample(name, image, data_sample=data_sample, **kwargs)


def _all_differ(names: Iterable[str]) -> bool:
    names = list(names)
    # Files of one name but for its ending are written as one.
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
