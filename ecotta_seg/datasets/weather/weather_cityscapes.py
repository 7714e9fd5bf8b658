"""A dataset in Cityscapes' layout with synthetic weather of one condition."""

from typing import Any, Optional

from mmseg.registry import DATASETS

from ..condition_dataset import ConditionDataset
from .adverse_weather import AdverseWeather


@DATASETS.register_module()
class WeatherCityscapesDataset(ConditionDataset):
    """``CityscapesDataset`` with a condition for the ``AdverseWeather`` transform.

    The images are ``leftImg8bit/<split>/<sequence>/*<img_suffix>``. The labels are
    ``gtFine/<split>/<sequence>/*_gtFine_labelTrainIds.png``, or ``*_gtFine_labelIds.png`` as
    downloaded. If the pipeline has no ``AdverseWeather``, the condition is only a name. For
    example, ``condition='dusk'`` can name a folder of frames taken at dusk.

    Args:
        condition: Name of the condition, written to each data info and sample.
        severity: 1 (light) to 5 (severe), written to each data info for the transform; None keeps
            the transform's own severity.
        data_prefix: Image and label folders under ``data_root``; the validation split by default.
        **kwargs: Arguments of mmseg's ``CityscapesDataset``; ``img_suffix`` is
            ``'_leftImg8bit.png'`` by default.

    Raises:
        ValueError: The pipeline's ``AdverseWeather`` does not know this condition or severity, an
            image folder is missing or empty, or an image has no label.
    """

    def __init__(
        self,
        condition: str = 'clear',
        severity: Optional[int] = None,
        data_prefix: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        self.severity = severity
        super().__init__(
            condition=condition,
            data_prefix=data_prefix
            or {'img_path': 'leftImg8bit/val', 'seg_map_path': 'gtFine/val'},
            **kwargs,
        )
        for transform in self.pipeline.transforms:
            if isinstance(transform, AdverseWeather):
                transform.check({'condition': condition, 'severity': severity})

    def load_data_list(self) -> list:
        """Lists the frames, sorted by path, each with its condition, severity and sequence."""
        frames = super().load_data_list()
        if self.severity is not None:
            for frame in frames:
                frame['severity'] = self.severity
        return frames

    def _layout_hint(self) -> str:
        return (
            f'set data_root (now {self.data_root!r}) and data_prefix to a dataset in the layout '
            f'leftImg8bit/<split>/<sequence>/*{self.img_suffix} and gtFine/'
        )
