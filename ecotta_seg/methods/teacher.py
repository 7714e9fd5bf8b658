"""The base class of methods with a teacher: a moving average of the student's parameters."""

from collections.abc import Iterator
from typing import Optional

import torch
from torch import Tensor, nn

from ..inference.windows import learned_regions, predict_frames
from .gradient_adaptation import GradientAdaptation


class TeacherAdaptation(GradientAdaptation):
    """A student learns by gradients; a teacher predicts, and follows the student.

    Student and teacher share one network: inside ``using``, the network has the teacher's
    parameters. After each update the teacher becomes momentum * teacher + (1 - momentum) * student.

    Args:
        segmentor, optimizer: See base class.
        teacher_momentum: 0 to 1. A subclass checks the range.

    Attributes:
        teacher: The teacher's parameters, by the names of ``adaptable_parameters``.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict, teacher_momentum: float) -> None:
        super().__init__(segmentor, optimizer)
        self.teacher_momentum = teacher_momentum
        self.teacher: dict[str, Tensor] = {}
        self._labels: Iterator[Tensor] = iter(())

    def start(self) -> None:
        """See base class. The teacher starts with the student's parameters."""
        super().start()
        self.teacher = {name: tensor.clone() for name, tensor in self._initial.items()}

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Returns the teacher's prediction."""
        with self.using(self.teacher):
            return predict_frames(self.segmentor, inputs, metas)

    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """See base class. Predicts with the initial parameters in place of the teacher's."""
        teacher, self.teacher = self.teacher, self._initial
        try:
            return self.predict(inputs, metas)
        finally:
            self.teacher = teacher

    def give_labels(self, labels: Tensor, inputs: Tensor, metas: list[dict]) -> None:
        """Sets the student's labels for a frame; ``next_labels`` returns them window by window.

        Args:
            labels: (N, ..., H, W), the teacher's classes, logits or probabilities.
            inputs: The frame, (N, 3, H, W).
            metas: The metainfo of the N samples.
        """
        regions = learned_regions(self.segmentor, inputs, metas)
        self._labels = iter([labels[..., t:b, left:right] for t, b, left, right in regions])

    def next_labels(self) -> Tensor:
        """The labels of the window whose logits ``learn`` gets: (N, ..., h, w), without padding."""
        return next(self._labels)

    def free_labels(self) -> None:
        """Frees the labels: an exhausted iterator keeps its list until the next call."""
        self._labels = iter(())

    def after_update(self) -> None:
        """See base class. Moves the teacher towards the student."""
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the teacher towards the student."""
        for name, parameter in self.adaptable_parameters().items():
            self.teacher[name].lerp_(parameter, 1 - self.momentum_of(name))

    def momentum_of(self, name: str) -> float:
        """The teacher's momentum for a parameter, by its name."""
        return self.teacher_momentum

    def learned_beside(self) -> dict[str, dict[str, Tensor]]:
        """See base class. These are the teacher's parameters."""
        return {'teacher': self.teacher}

    @torch.no_grad()
    def reset(self) -> None:
        """See base class; also resets the teacher."""
        super().reset()
        for name, tensor in self.teacher.items():
            tensor.copy_(self._initial[name])


def train_all(segmentor: nn.Module) -> None:
    """Sets ``requires_grad`` of all parameters, except those of an (unused) auxiliary head."""
    segmentor.requires_grad_(True)
    if getattr(segmentor, 'auxiliary_head', None) is not None:
        segmentor.auxiliary_head.requires_grad_(False)
