"""Adaptation around an exported network, as a method that can be scored on a stream."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.classifier import find_classifier
from ..methods import AdaptationMethod
from ..registry import ADAPTATION_METHODS
from .ahead_of_frame import swaps_channels
from .classifier_adapter import build_adapter
from .frozen_engine import FrozenEngine, Seen

# Least cosine between an exported classifier and the checkpoint's. Float16, and methods that train
# the classifier, change it only a little.
_ALIKE = 0.9


@ADAPTATION_METHODS.register_module(name='around_engine')
class AroundEngine(AdaptationMethod):
    """Predicts with a network in an ONNX file, and learns an adapter beside its classifier.

    The config's segmentor gives the data preprocessor, and elsewhere the source's prediction for
    comparison. None of its layers runs in this method.

    Args:
        segmentor: The source model.
        onnx: Path of a file that ``tools/export.py --features`` wrote.
        adapter: 'statistics' or 'entropy', see ``build_adapter``; None for no adapter.
        threads: See ``OnnxSession``.
        adapter_options: Options of the adapter.

    Raises:
        ValueError: The file does not contain such a network, or the network is not that of the
            config and the checkpoint.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        onnx: str,
        adapter: Optional[str] = 'statistics',
        threads: Optional[int] = 1,
        adapter_options: Optional[dict] = None,
    ) -> None:
        super().__init__(segmentor.requires_grad_(False))
        self._pending: list[Seen] = []
        self._engine = FrozenEngine(onnx, threads=threads)
        if len(self._engine.classes) != self.segmentor.out_channels:
            raise ValueError(
                f'{onnx} belongs to another network: it has {len(self._engine.classes)} classes, '
                f'and the model of the config has {self.segmentor.out_channels}'
            )
        if not _is_the_classifier_of(segmentor, self._engine.classifier):
            raise ValueError(
                f'{onnx} belongs to another network: its classifier is not that of the checkpoint, '
                'so the adapted and the source predictions cannot be compared; export the '
                'checkpoint with tools/export.py --features'
            )
        self.adapter = None
        if adapter is not None:
            weight = self._engine.classifier
            self.adapter = build_adapter(adapter, weight, **(adapter_options or {}))

    @torch.no_grad()
    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Keeps the features of the frame for the adapter's update."""
        self._pending, logits = self._predicted(inputs)
        return logits

    @torch.no_grad()
    def update(self) -> None:
        """See base class. The adapter learns from the features of the frame."""
        if self.adapter is not None:
            self._learn(self._pending)

    def discard(self) -> None:
        """See base class."""
        super().discard()
        self._pending = []

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        return self._predicted(inputs)[1]

    @torch.no_grad()
    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. If the adapter only measures statistics, it updates them."""
        seen, logits = self._predicted(inputs)
        if self.adapter is not None and self.adapter.follows:
            self._learn(seen)
        return logits

    @contextmanager
    def adaptation_disabled(self) -> Iterator[None]:
        """See base class. On exit the adapter has the values from before the context."""
        tensors = {} if self.adapter is None else self.adapter.tensors()
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        with super().adaptation_disabled():
            yield
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(before[name])

    def _predicted(self, inputs: Tensor) -> tuple[list[Seen], Tensor]:
        """The results of the engine for each frame, and the adapted logits."""
        seen = [self._seen(frame[None]) for frame in inputs]
        return seen, torch.cat([self._adapted(one) for one in seen]).to(inputs.device)

    def _learn(self, seen: list[Seen]) -> None:
        for one in seen:
            updated = self.adapter.learn(one.features, one.small_logits())
            self.last_step.updated = updated or self.last_step.updated

    @torch.no_grad()
    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Returns the prediction of the exported network without the adapter."""
        return torch.cat([self._seen(frame[None]).logits for frame in inputs]).to(inputs.device)

    def _seen(self, frame: Tensor) -> Seen:
        """Runs the engine on a preprocessed frame (1, C, H, W), after undoing the preprocessing."""
        preprocessor = self.segmentor.data_preprocessor
        if getattr(preprocessor, 'mean', None) is not None:
            # Pixels are whole numbers: rounding restores them exactly.
            frame = (frame * preprocessor.std + preprocessor.mean).round().clamp(0, 255)
        return self._engine.run(frame[:, [2, 1, 0]] if swaps_channels(preprocessor) else frame)

    def _adapted(self, seen: Seen) -> Tensor:
        if self.adapter is None:
            return seen.logits
        return self.adapter.added(seen.features, seen.logits, self._engine.align_corners)

    def adaptable_parameters(self) -> dict[str, nn.Parameter]:
        """See base class. These are the adapter's parameters."""
        return {} if self.adapter is None else dict(self.adapter.named_parameters())

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class."""
        return self.adaptable_parameters()

    @property
    def uses_clear_frames(self) -> bool:
        """See base class."""
        return self.adapter is not None

    @torch.no_grad()
    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """See base class. Calibrates the adapter on the features of the clear frames."""
        super().calibrate(frames)
        if self.adapter is not None:
            self.adapter.calibrate([self._seen(inputs).features for inputs, _ in frames])

    def reset(self) -> None:
        """See base class."""
        if self.adapter is not None:
            self.adapter.reset()


def _is_the_classifier_of(segmentor: nn.Module, weight: Tensor) -> bool:
    """Whether an engine's classifier is like that of a segmentor; True if the latter has none."""
    own = find_classifier(segmentor)
    if own is None:
        return True
    own = own.weight.detach().float().cpu().flatten()
    return own.numel() == weight.numel() and bool(
        F.cosine_similarity(own, weight.flatten(), dim=0) > _ALIKE
    )
