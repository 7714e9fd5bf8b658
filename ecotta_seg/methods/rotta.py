"""RoTTA: slow statistics, a teacher, and a bank of frames; older frames have smaller weights.

Taken from Yuan, Xie and Li, CVPR 2023 (arXiv 2303.13899), and its port in
mariodoebler/test-time-adaptation: robust batch normalisation (Eq. 2 and 3), category-balanced
sampling with timeliness and uncertainty (Alg. 1), and the teacher-student step with timeliness
reweighting (Eq. 6 to 8). The docstring of the class lists the differences.
"""

from contextlib import AbstractContextManager
from typing import Optional, Union

import torch
from torch import Tensor, nn

from ..inference.padding import padding_of, without_padding
from ..inference.photometric import photometric_view
from ..inference.windows import forward_windows, predict_frames
from ..layers.losses import pixel_entropy
from ..layers.norm_parameters import release_norm_parameters
from ..layers.robust_batch_norm import choosing, robust_batch_norms
from ..registry import ADAPTATION_METHODS
from ..resume.saved_state import misfit
from .frame_bank import BankedFrame, FrameBank, class_shares, timeliness_weight
from .teacher import TeacherAdaptation

_TEACHER, _STUDENT = range(2)


@ADAPTATION_METHODS.register_module(name='rotta')
class RoTTA(TeacherAdaptation):
    """Robust test-time adaptation in dynamic scenarios (Yuan et al., CVPR 2023, arXiv 2303.13899).

    For each frame:

    1. The teacher predicts. **This prediction is scored**, as in the public code.
    2. The frame is offered to a bank (see ``FrameBank``).
    3. Frames are drawn from the bank. The student predicts each of them with changed colours. Its
       loss is the cross-entropy with the teacher's probabilities for the plain frame. A frame of
       age a has the weight e⁻ᵃ / (1 + e⁻ᵃ). Scale and shift of all norms learn. These forward
       passes also update the statistics of the BatchNorms (see ``RobustBatchNorm2d``). Student and
       teacher each have their own statistics.
    4. The teacher moves: ``teacher_momentum`` * teacher + (1 - ``teacher_momentum``) * student.

    Deviations: the bank holds frames, which have many classes. The category of a frame is the class
    whose share of the frame's pixels exceeds the class's mean share over the stream most. The
    uncertainty of a frame is the mean over its pixels. The public code takes one step after every
    64 images, on all 64 images of the bank in one batch. Here each frame of the stream has a step
    on ``frames_per_update`` frames of the bank, one after the other, so that all steps take the
    same time and need the memory of one frame. The changed frame differs only in its colours.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
        norm_momentum: α, the weight of a frame in the statistics, 0 to 1 (0.05 in the paper).
        teacher_momentum: 1 - ν, 0 to 1 (0.999 in the paper).
        capacity: Frames in the bank, from 1 (64 images in the paper). A frame takes 12 bytes a
            pixel.
        frames_per_update: Number of frames that are drawn from the bank for a step, from 1.
        timeliness, uncertainty: λ_t and λ_u of the bank's score (1 in the paper).
        seed: Seed of the draws and the views.

    Raises:
        ValueError: An option is out of range.
    """

    beyond_one_forward = "statistics of the teacher's own"

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        norm_momentum: float = 0.05,
        teacher_momentum: float = 0.999,
        capacity: int = 16,
        frames_per_update: int = 1,
        timeliness: float = 1.0,
        uncertainty: float = 1.0,
        seed: int = 0,
    ) -> None:
        shares = (norm_momentum, teacher_momentum)
        if not all(0 <= share <= 1 for share in shares) or min(capacity, frames_per_update) < 1:
            raise ValueError(
                'expected norm_momentum and teacher_momentum from 0 to 1, capacity and '
                f'frames_per_update from 1, got {norm_momentum}, {teacher_momentum}, {capacity} '
                f'and {frames_per_update}'
            )
        super().__init__(segmentor, optimizer, teacher_momentum)
        self._norms = robust_batch_norms(segmentor, norm_momentum, sets=2)
        release_norm_parameters(segmentor)
        self.frames_per_update, self.seed = frames_per_update, seed
        self.bank = FrameBank(capacity, segmentor.out_channels, timeliness, uncertainty)
        zeros = next(segmentor.parameters()).new_zeros(segmentor.out_channels)
        self.register_buffer('mean_shares', zeros)
        # The number of learned frames; with the seed it chooses draws and views.
        self.register_buffer('updates', zeros.new_zeros((), dtype=torch.int64))
        self.start()

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        """Also moves the frames of the bank."""
        super()._apply(fn, recurse)
        self.bank.apply(fn)
        return self

    def _by(self, chosen: Optional[int], moving: bool = False) -> AbstractContextManager:
        return choosing(self._norms, chosen, moving)

    def use_memory_budget(self, budget: Union[str, int, float]) -> None:
        """See base class.

        Raises:
            ValueError: Always. The step runs on frames of the bank, and memory is planned for the
                current frame only.
        """
        raise ValueError(
            'expected a method that learns from the current frame for a memory_budget, but RoTTA '
            'learns from a bank of frames: leave out memory_budget'
        )

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Returns the teacher's prediction."""
        with self.using(self.teacher), self._by(_TEACHER):
            return predict_frames(self.segmentor, inputs, metas)

    @torch.no_grad()
    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Predicts with the source's parameters and statistics."""
        with self.using(self._initial), self._by(None):
            return predict_frames(self.segmentor, inputs, metas)

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. The teacher predicts. The bank and the student change in ``update``."""
        logits = self.predict(inputs, metas)
        self.last_step.loss, self.last_step.confident_fraction = 0.0, 1.0
        self.last_step.entropy = float(pixel_entropy(without_padding(logits, metas)).mean())
        self._proposed = inputs, metas, logits
        return logits

    def update(self) -> None:
        """See base class. Offers the frame to the bank; then the student learns from the bank."""
        self._offer(*self._proposed)
        for item in self._drawn():
            self._learn_from(item)
        super().update()

    def discard(self) -> None:
        """See base class. Also frees the frame."""
        super().discard()
        self._proposed = None

    def _offer(self, inputs: Tensor, metas: list[dict], logits: Tensor) -> None:
        """Step 2: offers each frame of the batch to the bank."""
        rows, columns = padding_of(inputs, metas[0])
        height, width = inputs.shape[2:]
        sides = (columns.start, width - columns.stop, rows.start, height - rows.stop)
        padding = [int(side) for side in sides]
        for frame, prediction in zip(
            inputs[:, :, rows, columns].split(1), without_padding(logits, metas).split(1)
        ):
            shares = class_shares(prediction)
            category = int((shares - self.mean_shares).argmax())
            uncertainty = float(pixel_entropy(prediction).mean())
            self.bank.add(BankedFrame(frame.clone(), padding, category, uncertainty))
            self.updates += 1
            self.mean_shares += (shares - self.mean_shares) / self.updates

    def _drawn(self) -> list[BankedFrame]:
        """Draws the frames to learn from; the draw is the same on all devices."""
        generator = torch.Generator().manual_seed(self.seed + int(self.updates))
        order = torch.randperm(len(self.bank.items), generator=generator)
        return [self.bank.items[index] for index in order[: self.frames_per_update].tolist()]

    def _learn_from(self, item: BankedFrame) -> None:
        """Step 3 for one frame of the bank."""
        frame, metas, model = item.padded, item.metas, self.segmentor
        with torch.no_grad(), self.using(self.teacher), self._by(_TEACHER, moving=True):
            soft = predict_frames(model, frame, metas).softmax(dim=1)
        self.give_labels(soft, frame, metas)
        drawn = min(self.frames_per_update, len(self.bank.items))
        self._weight = timeliness_weight(item.age / self.bank.capacity) / drawn
        seed = self.seed + int(self.updates)
        view = photometric_view(frame, metas, model.data_preprocessor, seed)
        try:
            with torch.enable_grad(), self._by(_STUDENT, moving=True):
                forward_windows(model, view, metas, self.show)
        finally:
            self.free_labels()

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The loss is the cross-entropy with the teacher's probabilities."""
        losses = -(self.next_labels() * logits.log_softmax(dim=1)).sum(dim=1)
        loss = share * self._weight * losses.mean()
        loss.backward()
        self.last_step.loss += float(loss.detach())

    def method_state(self) -> dict:
        """See base class; includes the bank."""
        return {**super().method_state(), 'bank': self.bank.state()}

    def state_keys(self) -> set[str]:
        """See base class."""
        return super().state_keys() | {'bank'}

    def check_method_state(self, state: dict) -> None:
        """See base class."""
        super().check_method_state(state)
        if not self.bank.fits(state['bank']):
            raise misfit('its bank of frames is another one')

    def take_method_state(self, state: dict) -> None:
        """See base class."""
        super().take_method_state(state)
        self.bank.load(state['bank'], self.mean_shares)

    @torch.no_grad()
    def reset(self) -> None:
        """See base class; also resets all statistics, and empties the bank."""
        super().reset()
        for norm in self._norms:
            norm.forget()
        self.bank.items = []
        self.mean_shares.zero_()
        self.updates.zero_()
