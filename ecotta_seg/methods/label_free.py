"""Estimates the mIoU of the adapted and the source's predictions during a stream."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from ..evaluation.label_free import (
    SOURCE,
    both_areas,
    clear_share,
    common_classes,
    estimated_mIoU,
    expected_areas,
    level_factor,
    own_difference,
)
from ..inference.padding import without_padding
from ..inference.views import View, view_probabilities
from ..registry import check_keys
from ..resume.saved_state import expect_keys, misfit
from .source_copy import part_from, shared_source

# Estimates use every fourth row and column.
_STRIDE = 4


class Estimate(NamedTuple):
    """Estimated running mIoU in percent.

    Attributes:
        adapted: mIoU of the adapted prediction.
        source: mIoU of the source's prediction.
    """

    adapted: float
    source: float


class LabelFreeEstimate:
    """Estimates running mIoU without labels, and chooses the adapted or the source's prediction.

    The source model also predicts each estimated frame, and both models predict it once more at
    ``scale``; see :mod:`ecotta_seg.evaluation.label_free` for the estimate. So an estimated frame
    costs one extra forward pass at full size and two at ``scale``. Any other frame costs nothing
    extra, or one forward pass at full size if the source's prediction is returned.

    Args:
        segmentor: The source model, before a method is built around it. Call ``attach`` when the
            method is built.
        every: Estimate every n-th frame of the stream.
        fallback: If True, the source's prediction is returned whenever its running estimate,
            including the current frame, is above that of the adapted prediction.
        scale: Scale of the sides of the second prediction's frame, above 0, not 1.
        decay: Weight of a frame in the running estimate relative to the next frame, at least 0 and
            below 1. The running difference of the two models is the weighted mean of the
            differences of single frames. It is not computed from summed areas, because a difference
            of summed areas over two conditions can have the opposite sign of the difference in each
            condition.

    Raises:
        ValueError: An option is out of range.

    Attributes:
        latest: (N, 2, 2, 3, C), the areas of the frames in the latest call of ``choose``; None if
            these frames were not estimated.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        every: int = 1,
        fallback: bool = False,
        scale: float = 0.5,
        decay: float = 0.8,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f'expected `every` of the estimate to be a whole number from 1, got '
                             f'{every!r}')  # fmt: skip
        if not scale > 0 or scale == 1 or not 0 <= decay < 1:
            raise ValueError(
                'expected the scale of the estimate above 0 and not 1, and decay from 0 to below '
                f'1, got {scale} and {decay}'
            )
        self.every, self.fallback, self.decay = every, bool(fallback), decay
        self.view = View(scale, False)
        self.source = shared_source(segmentor)
        self.classes: Optional[Tensor] = None
        self.share = self.factor = 1.0
        self.latest: Optional[Tensor] = None
        self.forget()

    @classmethod
    def from_options(cls, options: Union[dict, bool], segmentor: nn.Module) -> 'LabelFreeEstimate':
        """Builds an estimate from a config's dictionary, or from True with the default options.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        if options is True:
            options = {}
        if not isinstance(options, Mapping):
            raise ValueError(
                f'expected `estimate` to be True, False or a dictionary of options, got {options!r}'
            )
        check_keys('estimate', options, ['every', 'fallback', 'scale', 'decay'])
        return cls(segmentor, **dict(options))

    def attach(self, method) -> None:
        """Copies those source parameters that the method changes; call before the first frame."""
        part_from(self.source, method)

    def forget(self) -> None:
        """Restores the estimate before the first frame; keeps the calibration."""
        self._areas: Optional[Tensor] = None
        self._frames = 0
        # The weighted sum of the frames' differences, and the sum of the weights.
        self._difference = self._weight = 0.0

    @torch.no_grad()
    def calibrate(self, method, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """Measures on clear frames which classes count, ``clear_share`` and ``level_factor``.

        Args:
            method: The ``AdaptationMethod``, already calibrated, before the first frame.
            frames: See ``AdaptationMethod.calibrate``.
        """
        total, own = None, torch.zeros(())
        with method.adaptation_disabled():
            for inputs, metas in frames:
                prepared = method.prepare(inputs.clone(), metas)
                logits = method.predict_frame(prepared, metas)
                source = self.source.predict(inputs, metas)
                seen = self._seen(method, inputs, prepared, metas, logits, source).sum(0)
                total = seen if total is None else total + seen
                sure = _thinned(source, metas).softmax(1)
                own = own + sum(expected_areas(frame.argmax(0), frame) for frame in sure)
        if total is not None:
            self.classes = common_classes(total)
            self.share = clear_share(total, self.classes)
            self.factor = level_factor(own, total[SOURCE, SOURCE], self.classes)

    def calibration(self) -> dict[str, Tensor]:
        """The results of ``calibrate`` as tensors; empty before a calibration."""
        if self.classes is None:
            return {}
        numbers = {'share': self.share, 'factor': self.factor}
        return {
            'classes': self.classes,
            **{name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()},
        }

    def take_calibration(self, saved: Mapping[str, Tensor]) -> None:
        """Loads the result of ``calibration``.

        Raises:
            ValueError: The names or shapes of the tensors do not fit this estimate.
        """
        number = self.source.segmentor.out_channels
        if set(saved) != {'classes', 'share', 'factor'} or saved['classes'].shape != (number,):
            raise ValueError(
                f'the calibration of the estimate does not fit: expected classes ({number},), '
                f'share and factor, got { {n: tuple(t.shape) for n, t in saved.items()} }. Write '
                'the file again with tools/warm_up.py'
            )
        self.classes = saved['classes'].bool()
        self.share, self.factor = float(saved['share']), float(saved['factor'])

    def running(self) -> Optional[Estimate]:
        """The running estimate; None before the first frame."""
        if self._areas is None:
            return None
        difference = self._difference / self._weight
        return Estimate(
            *estimated_mIoU(self._areas, self.classes, self.share, self.factor, difference)
        )

    def of(self, areas: Tensor) -> Estimate:
        """The estimate of (2, 2, 3, C) areas, summed over any number of frames."""
        return Estimate(*estimated_mIoU(areas, self.classes, self.share, self.factor))

    @torch.no_grad()
    def choose(
        self, method, inputs: Tensor, prepared: Tensor, metas: list[dict], logits: Tensor
    ) -> Tensor:
        """Adds the stream's next frame to the estimate and chooses the prediction to return.

        Args:
            method: The method, after its step on the frame.
            inputs: (N, 3, H, W), preprocessed.
            prepared: The same frames after ``AdaptationMethod.prepare``.
            metas: Metainfo of the N samples.
            logits: (N, C, H, W), the adapted prediction.

        Returns:
            ``logits``, or the logits of the source. ``method.last_step`` records the choice and the
            estimates.
        """
        self.latest, source = None, None
        due = self.is_due(method, metas)
        self._frames += method.estimating
        if due:
            source = self._of_source(method, inputs, metas)
            self.latest = self._seen(method, inputs, prepared, metas, logits, source)
            self._add(self.latest.sum(0))
        running, record = self.running(), method.last_step
        if running is not None:
            record.estimated_mIoU, record.source_estimated_mIoU = running
            record.source_given = self.gives_source
        if not record.source_given:
            return logits
        return self._of_source(method, inputs, metas) if source is None else source

    def is_due(self, method, metas: list[dict]) -> bool:
        """Whether ``choose`` estimates the stream's next frame."""
        due = method.estimating and self._frames % self.every == 0
        # A bad frame does not represent the stream.
        return due and not any(meta.get('frame_fault') for meta in metas)

    @property
    def gives_source(self) -> bool:
        """Whether, by the estimate so far, the source's prediction is returned (``fallback``)."""
        return self.fallback and self._difference < 0

    def _add(self, areas: Tensor) -> None:
        old = self.decay**self.every
        self._areas = areas if self._areas is None else old * self._areas + areas
        # Without a calibration, use the common classes of the stream so far.
        classes = common_classes(self._areas) if self.classes is None else self.classes
        difference = own_difference(areas, classes, self.share)
        self._difference = old * self._difference + difference
        self._weight = old * self._weight + 1.0

    def _of_source(self, method, inputs: Tensor, metas: list[dict]) -> Tensor:
        self.source.views = method.views
        others = self.source.other_views(inputs, metas)
        logits = self.source.predict(inputs, metas)
        return logits if others is None else self.source.with_views(logits, others)

    def _seen(
        self, method, inputs: Tensor, prepared: Tensor, metas: list[dict], logits, source
    ) -> Tensor:
        """(N, 2, 2, 3, C) areas of frames."""
        masks = [_thinned(both, metas).argmax(1) for both in (logits, source)]
        # The models run one after the other to save memory: each result is as large as the frame's
        # logits.
        chances = [
            _thinned(view_probabilities(predict, frame, metas, self.view), metas)
            for predict, frame in ((method.predict, prepared), (self.source.predict, inputs))
        ]
        return torch.stack([both_areas(*frame) for frame in zip(*masks, *chances)])

    @contextmanager
    def stream_kept(self) -> Iterator[None]:
        """Context manager for frames of another stream: on exit, the estimate is restored."""
        before = self._areas, self._frames, self.latest, self._difference, self._weight
        try:
            yield
        finally:
            self._areas, self._frames, self.latest, self._difference, self._weight = before

    def state_dict(self) -> dict:
        """All state that later choices depend on: tensors and numbers."""
        return {
            'areas': self._areas,
            'frames': self._frames,
            'difference': self._difference,
            'weight': self._weight,
            'classes': self.classes,
            'share': self.share,
            'factor': self.factor,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a state from ``state_dict``.

        Raises:
            ValueError: The state is not an estimate's, or is of a model with other classes.
        """
        expect_keys(state, self.state_dict(), 'the estimate')
        areas, number = state['areas'], self.source.segmentor.out_channels
        if areas is not None and tuple(areas.shape) != (2, 2, 3, number):
            raise misfit(f'its estimate covers {areas.shape[-1]} classes instead of {number}')
        self._areas, self._frames = areas, int(state['frames'])
        self._difference, self._weight = float(state['difference']), float(state['weight'])
        self.classes = state['classes']
        self.share, self.factor = float(state['share']), float(state['factor'])


def _thinned(maps: Tensor, metas: list[dict]) -> Tensor:
    """Subsamples (N, C, H, W) maps without the padding to (N, C, h, w)."""
    of_frame = without_padding(maps, metas)
    return of_frame[:, :, _STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE].contiguous()
