"""CoTTA: a student learns from an averaged teacher and is partly restored to the source."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inference.padding import without_padding
from ..inference.views import (
    averaged_logits,
    mean_logits,
    prediction_views,
    summed_probabilities,
)
from ..inference.windows import predict_frames
from ..layers.replace_norms import replace_trained_norms
from ..registry import ADAPTATION_METHODS
from ..resume.random_state import CopiedGenerator
from ..resume.saved_state import misfit
from .teacher import TeacherAdaptation, train_all


@ADAPTATION_METHODS.register_module(name='cotta')
class CoTTA(TeacherAdaptation):
    """Continual test-time adaptation with a teacher and stochastic restoring.

    Wang et al., arXiv 2203.13591. If the paper leaves a detail open, this class follows the
    authors' segmentation code. For each frame:

    1. The teacher predicts ``views`` views (Eq. 2 and 3); the anchor (the source model) predicts
       the plain frame. On pixels where the anchor's largest probability exceeds
       ``anchor_threshold``, the result is the teacher's prediction of the plain frame. On the other
       pixels the result is the teacher's average over the views (Eq. 4; the public code decides per
       pixel, too). **This result, made before the update, is scored**, as in the public code. If
       the number of views is set for all methods (``use_views``, ``--views``), the teacher's
       average over these views is scored on every pixel instead.
    2. The student predicts the plain frame and takes a step on the cross-entropy. The labels are
       the most likely classes of the result of step 1. (Eq. 1 has soft labels, the segmentation
       code has hard labels.)
    3. The teacher moves: ``teacher_momentum`` * teacher + (1 - ``teacher_momentum``) * student
       (Eq. 5).
    4. Each element of the student returns to its source value with probability
       ``restore_probability`` (Eq. 7 and 8).

    Deviations: the teacher's labels have the size of the network's input, not of the image file.
    All trained parameters are restored; the public code restores those called weight or bias. The
    anchor predicts only the one view that is used. Three sets of weights share one network, so the
    memory cost is three times the parameters (plus the optimizer's state) and one student's
    activations.

    Args:
        segmentor: The source model. All its parameters are trained except an auxiliary head's.
        optimizer: A config of a torch optimizer.
        teacher_momentum: 0 to 1.
        anchor_threshold: A probability, 0 to 1. With 1, the average over the views is used on every
            pixel.
        restore_probability: 0 to 1.
        views: Number of the teacher's views in step 1, see ``prediction_views``; 14 in the paper.
        batch_norm: ``mode`` and ``weight`` of ``AdaptiveBatchNorm2d``, for student, teacher and
            anchor. None means the frame's statistics, as in the paper's classification. The
            segmentation code runs SegFormer, whose BatchNorms are all in the head, in evaluation
            mode (``dict(mode='source')``).
        seed: Seed of the random restoring.

    Attributes:
        label_views: The option ``views``; learning depends on this number alone.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        teacher_momentum: float = 0.999,
        anchor_threshold: float = 0.69,
        restore_probability: float = 0.01,
        views: int = 14,
        batch_norm: Optional[dict] = None,
        seed: int = 0,
    ) -> None:
        shares = (teacher_momentum, anchor_threshold, restore_probability)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                'expected teacher_momentum, anchor_threshold and restore_probability from 0 to 1, '
                f'got {teacher_momentum}, {anchor_threshold} and {restore_probability}'
            )
        train_all(segmentor)
        super().__init__(segmentor, optimizer, teacher_momentum)
        replace_trained_norms(segmentor, batch_norm or dict(mode='frame'))
        prediction_views(views)
        self.views = self.label_views = views
        self._views_asked_for = False
        self.anchor_threshold, self.restore_probability = anchor_threshold, restore_probability
        self.seed = seed
        # The generator is on the CPU for every device, so that all devices restore the same
        # elements.
        self._generator = CopiedGenerator().manual_seed(seed)
        self.start()

    def use_views(self, number: int) -> None:
        """See base class. Changes only the scored prediction; labels still use ``label_views``."""
        super().use_views(number)
        self._views_asked_for = True

    @torch.no_grad()
    def other_views(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """See base class. Sums all views, including the plain frame; None without ``use_views``.

        The plain frame is included because ``predict`` and ``propose`` return the teacher's plain
        prediction on some pixels only.
        """
        if not self._views_asked_for:
            return None
        views = prediction_views(self.views)
        inputs = self.teacher_inputs(inputs, metas)
        with self.using(self.teacher):
            return summed_probabilities(self._inference, inputs, metas, views)

    def with_views(self, logits: Tensor, others: Tensor) -> Tensor:
        """See base class. Averages ``others``, which has all views; ``logits`` are not used."""
        return mean_logits(others, self.views)

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Returns the result of step 1 in the docstring of the class."""
        with self.using(self._initial):
            anchor = self._inference(inputs, metas)
        confident = anchor.softmax(dim=1).amax(dim=1, keepdim=True) > self.anchor_threshold
        self._confident_fraction = float(without_padding(confident, metas).float().mean())
        del anchor
        views = prediction_views(self.label_views)[1:]
        inputs = self.teacher_inputs(inputs, metas)
        with self.using(self.teacher):
            logits = self._inference(inputs, metas)
            if not views:
                return logits
            others = summed_probabilities(self._inference, inputs, metas, views)
        averaged = averaged_logits(logits, others, self.label_views)
        return torch.where(confident, logits.log_softmax(dim=1), averaged)

    def teacher_inputs(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Returns the teacher's input: the frames, or in a subclass a changed copy of them."""
        return inputs

    def student_inputs(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Returns the frames that the student predicts; a subclass may return a changed copy."""
        return inputs

    def _inference(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        return predict_frames(self.segmentor, inputs, metas)

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. The teacher predicts, and the student learns."""
        logits = self.predict(inputs, metas)
        self.give_labels(logits.argmax(dim=1), inputs, metas)
        self.last_step.loss, self.last_step.confident_fraction = 0.0, self._confident_fraction
        super().propose(self.student_inputs(inputs, metas), metas)
        self.free_labels()
        return logits

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The loss is the student's cross-entropy with the teacher's classes."""
        loss = share * F.cross_entropy(logits, self.next_labels())
        loss.backward()
        self.last_step.loss += float(loss.detach())

    def update(self) -> None:
        """See base class. Then the teacher moves (step 3) and the student is restored (step 4)."""
        super().update()
        if self.last_step.updated:
            self.follow()
            self.restore()

    def after_update(self) -> None:
        """Does nothing: ``update`` moves the teacher, and only if the student has changed."""

    @torch.no_grad()
    def restore(self) -> None:
        """Resets a random share of the student's elements to the values of the source."""
        for name, parameter in self.adaptable_parameters().items():
            drawn = torch.rand(parameter.shape, generator=self._generator)
            chosen = (drawn < self.restore_probability).to(parameter.device)
            torch.where(chosen, self._initial[name], parameter, out=parameter.data)

    def method_state(self) -> dict:
        """See base class; includes the state of the random generator."""
        return {**super().method_state(), 'generator': self._generator.get_state()}

    def state_keys(self) -> set[str]:
        """See base class."""
        return super().state_keys() | {'generator'}

    def check_method_state(self, state: dict) -> None:
        """See base class."""
        super().check_method_state(state)
        own, saved = self._generator.get_state(), state['generator']
        if not isinstance(saved, Tensor) or (saved.dtype, saved.shape) != (own.dtype, own.shape):
            raise misfit('it belongs to another random generator')

    def take_method_state(self, state: dict) -> None:
        """See base class."""
        super().take_method_state(state)
        self._generator.set_state(state['generator'].cpu())

    def reset(self) -> None:
        """See base class; also resets the random generator."""
        super().reset()
        self._generator = CopiedGenerator().manual_seed(self.seed)
