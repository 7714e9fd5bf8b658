"""Watches each step of an adaptation and takes back what would ruin the model."""

from collections import deque
from typing import Optional

import torch
from torch import Tensor

from ..datasets.frame_check import noise_fault
from .base import AdaptationMethod
from .drift_limits import DriftLimits, PredictionDrift, prediction_drift
from .padding import without_padding
from .prediction_watch import EntropyWatch, entropy_share, largest_share
from .reduced_frame import reduced_frame
from .rest import RestAfterResets


class UpdateGuard:
    """Skips updates, rolls back to the last good parameters, or resets to those at the start.

    Before an update, from the frame and its prediction: the loss, the gradients and the logits must
    be finite, no class may cover nearly all of the frame, the model must have an idea of the frame
    (``max_entropy``), and the frame must not be noise. Else the update is skipped, or rolled back
    if the method has made the update already. After the update the parameters must be finite. Else
    they are rolled back, and the optimizer with them.

    Such a prediction is taken for the frame's fault: however many there are, what was learned
    before them stays. After each ``check_every`` in a row the reference (see below) is asked: where
    it finds nothing wrong with the frame, the model is at fault and is rolled back.

    Every ``check_every`` frames the frame is predicted twice more, at a reduced size: by the
    model as it is and by what it was before its first frame (``predict_reference``: the frozen
    source under the method's own normalisation). Drift is where one of these is below its limit in
    the median of the last ``window`` checks: the two masks' agreement (see ``mask_agreement``) on
    the half of the pixels that the reference is surest of (to differ from it elsewhere is what
    adapting is for), or the share of the reference's entropy that is left; or where more of the
    classes' diversity is lost than may be. It is rolled back to the last parameters that were
    well within the limits; where these have been gone back to before, all is reset. After resets
    that follow each other closely nothing is learned for a while, see ``RestAfterResets``.

    A method that goes back to its start of itself (RDumb, SAR) is watched anew from there: what was
    good before is not gone back to, and where the step of that very frame is at fault, the method
    is reset.

    Args:
        check_every: Frames between two checks of drift.
        min_agreement: 0 to 1. A source that is lost is not agreed with by right: on CamVid's val
            sequence in snow of severity 5 SegFormer-B0 is at 8.6 mIoU and EcoTTA+ at 28, with an
            agreement of 0.46 in the mean and 0.41 in the least median of three. (DeepLabV3+ R18
            at severity 4, under Tent at ten times its rate: 0.56 to 1.)
        min_entropy_share: Of the reference's entropy; entropy minimisation that collapses makes
            the model certain of everything.
        max_diversity_loss: In nats, above 0, see ``DriftLimits``.
        max_class_share: No class may cover more of a frame.
        max_entropy: Of ln C: the highest mean entropy of a frame's prediction that is learned from,
            as the median of the last ``window`` frames. Above it a model has no idea of the frames.
            Real nights are at up to a half. If a model is less sure of ordinary frames, the limit
            is 1.25 times the median of the last 50 frames that were learned from. A method without
            parameters to learn is not judged by it. 1 turns it off.
        window: Checks that the median is taken of.
        margin: How far within ``min_agreement`` parameters are good ones to go back to.
        scale: Size of the check's frames; frames below 256 pixels are not reduced.
        rest: Frames of the first rest, see ``RestAfterResets``; 0 for none. By default
            4 ``window`` ``check_every``: twice the frames that drift takes to be noticed, gone back
            from, and noticed again.

    Raises:
        ValueError: A limit is out of its range.
    """

    def __init__(
        self,
        check_every: int = 10,
        min_agreement: float = 0.3,
        min_entropy_share: float = 0.1,
        max_class_share: float = 0.97,
        window: int = 3,
        margin: float = 0.1,
        scale: float = 0.5,
        max_entropy: float = 0.6,
        max_diversity_loss: float = 0.25,
        rest: Optional[int] = None,
    ) -> None:
        shares = (max_class_share, scale, max_entropy)
        if check_every < 1 or window < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                'the guard expects check_every and window from 1 and max_class_share, scale and '
                'max_entropy from 0 to 1, got '
                f'check_every={check_every}, window={window} and {shares}'
            )
        self.limits = DriftLimits(min_agreement, min_entropy_share, max_diversity_loss, margin)
        self.check_every, self.window, self.margin = check_every, window, margin
        self.max_class_share, self.scale = max_class_share, scale
        self.max_entropy = max_entropy
        if rest is None:
            rest = 4 * window * check_every
        if rest < 0:
            raise ValueError(f'the guard expects rest from 0, got {rest}')
        self.rest = RestAfterResets(rest)
        self.events: list[dict] = []
        self.forget()

    def forget(self) -> None:
        """Starts anew, as before the first frame."""
        self._good: Optional[dict] = None
        self._gone_back = False
        self._frames = self._faults = 0
        self._checks: deque = deque(maxlen=self.window)
        self.entropies = EntropyWatch(self.max_entropy, self.window)
        self.rest.forget()
        self._reason: Optional[str] = None
        self._judged = self._anew = False

    @property
    def kept_bytes(self) -> int:
        """Bytes of the last good parameters and optimizer state."""
        return _tensor_bytes(self._good)

    def watch(self, method: AdaptationMethod, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Runs ``method.adapt`` on a frame and deals with what comes out.

        Args:
            method: The method.
            inputs: (N, 3, H, W), preprocessed.
            metas: Metainfo of the N samples.

        Returns:
            (N, classes, H, W) logits; of the frame's own forward, unless these are not finite and
            the model could be repaired.
        """
        if self._good is None:
            self._good = method.method_state()
        if self.rest.takes():
            return method.predict_frame(inputs, metas)
        self._reason, self._judged, self._anew = None, False, False

        def gate(logits: Tensor) -> bool:
            self._judged = True
            self._see_own_reset(method)
            self._reason = self._fault_of_step(method, inputs, metas, logits)
            return self._reason is None

        method.gate = gate
        try:
            logits = method.adapt(inputs, metas)
        finally:
            method.gate = None
        if not self._judged:
            gate(logits)
        # Of what has just gone, so that nothing is taken from its prediction.
        gone = self._see_own_reset(method)
        broken = not _all_finite(method.learned_tensors().values())
        if self._reason:
            self._undo_fault(method, inputs, metas, broken)
        elif broken:
            self._go_back(method, metas, 'parameters are not finite')
        else:
            self._faults = 0
            self._frames += 1
            if self._anew:
                self._good = method.method_state()
            if not gone:
                self.entropies.learned()
            if self._frames % self.check_every == 0:
                self._check_drift(method, inputs, metas)
        if broken and not without_padding(logits, metas).isfinite().all():
            logits = method.predict(inputs, metas)
        return logits

    def _see_own_reset(self, method: AdaptationMethod) -> bool:
        """Forgets what was seen of a model that has gone back to its start of itself in this frame.

        Returns:
            Whether it has since this was last asked.
        """
        if self._anew or method.last_step.own_reset is None:
            return False
        self._anew, self._gone_back, self._faults = True, False, 0
        self._checks.clear()
        self.entropies.back_to_start()
        return True

    def _undo_fault(self, method, inputs: Tensor, metas: list[dict], broken: bool) -> None:
        """Leaves no trace of a frame whose prediction is at fault, or finds the model at fault."""
        reason = self._reason
        if not broken and not method.last_step.updated:
            if self._anew:
                self._good = method.method_state()
            self._tell('skip', metas, reason)
        elif not self._anew and _all_finite(self._good['tensors'].values()):
            method.load_method_state(self._good)
            method.last_step.updated = False
            self._tell('rollback', metas, reason)
        else:
            self._go_back(method, metas, reason)
        self._faults += 1
        if self._faults % self.check_every:
            return
        reference = method.predict_reference(inputs, metas)
        if reference is None:
            return
        reference = without_padding(reference, metas)
        if self._fault_of_prediction(reference) is not None:
            return
        current = without_padding(method.predict(inputs, metas), metas)
        reason = self._fault_of_prediction(current)
        limit = self.entropies.limit()
        # Well below, so that it is not chance which of the two is above.
        if reason is None and entropy_share(reference) < (1 - self.margin) * limit:
            reason = self.entropies.judge(entropy_share(current))
        if reason is not None:
            self._go_back(method, metas, f'{reason}, and not in the prediction of the source')

    def _fault_of_step(
        self, method: AdaptationMethod, inputs: Tensor, metas: list[dict], logits: Tensor
    ) -> Optional[str]:
        """Why the frame's step must not count; None if it may."""
        logits = without_padding(logits, metas)
        fault = self._fault_of_prediction(logits)
        if fault is not None:
            return fault
        recent = self.entropies.see(entropy_share(logits))
        parameters = list(method.adaptable_parameters().values())
        if parameters:
            fault = self.entropies.judge(recent)
            if fault is None:
                fault = _noise_in(without_padding(inputs, metas))
            if fault is not None:
                return fault
        gradients = [p.grad for p in parameters if p.grad is not None]
        # The loss is nan by right where a method has none and makes no gradients.
        if gradients and method.last_step.loss in (float('inf'), float('-inf')):
            return 'the loss is not finite'
        if not _all_finite(gradients):
            return 'the gradients are not finite'
        return None

    def _fault_of_prediction(self, logits: Tensor) -> Optional[str]:
        """What nothing must be learned from; None where it is a prediction."""
        if not _all_finite([logits]):
            return 'the prediction is not finite'
        share = largest_share(logits)
        if share > self.max_class_share:
            return f'one class covers {share:.0%} of the frame'
        return None

    def _check_drift(self, method: AdaptationMethod, inputs: Tensor, metas: list[dict]) -> None:
        inputs, metas = reduced_frame(inputs, metas, self.scale)
        reference = method.predict_reference(inputs, metas)
        if reference is None:
            return
        drift = prediction_drift(
            without_padding(method.predict(inputs, metas), metas),
            without_padding(reference, metas),
        )
        if drift is None:
            return
        self._checks.append(drift)
        full = len(self._checks) == self.window
        reason = self.limits.exceeded(self._checks) if full else None
        if reason is not None:
            self._go_back(method, metas, reason)
        elif self.limits.well_within(self._checks):
            self._good, self._gone_back = method.method_state(), False
            self.entropies.keep()

    def _go_back(self, method: AdaptationMethod, metas: list[dict], reason: str) -> None:
        if self._gone_back or self._anew or not _all_finite(self._good['tensors'].values()):
            method.reset()
            self._good, self._gone_back = method.method_state(), False
            self.entropies.back_to_start()
            rest = self.rest.after_reset()
            if rest:
                reason += f'; the last reset was close, so {rest} frames are not learned from'
            self._tell('reset', metas, reason)
        else:
            method.load_method_state(self._good)
            self._gone_back = True
            self.entropies.back_to_good()
            self._tell('rollback', metas, reason)
        method.last_step.updated = False
        self._checks.clear()

    def _tell(self, event: str, metas: list[dict], reason: str) -> None:
        self.events.append(
            {'event': event, 'stream_index': metas[0].get('stream_index'), 'reason': reason}
        )

    def take_events(self) -> list[dict]:
        """The events since the last call: ``event``, ``stream_index`` and ``reason`` of each."""
        events, self.events = self.events, []
        return events

    def state_dict(self) -> dict:
        """All that a later frame's verdict depends on: tensors and numbers."""
        return {
            'good': self._good,
            'gone_back': self._gone_back,
            'frames': self._frames,
            'faults': self._faults,
            'checks': [list(check) for check in self._checks],
            'entropies': self.entropies.state_dict(),
            'rest': self.rest.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what ``state_dict`` gave."""
        self.forget()
        self._good, self._gone_back = state['good'], state['gone_back']
        self._frames, self._faults = state['frames'], state['faults']
        self._checks.extend(PredictionDrift(*check) for check in state['checks'])
        self.entropies.load_state_dict(state['entropies'])
        self.rest.load_state_dict(state['rest'])


def _noise_in(frames: Tensor) -> Optional[str]:
    """The sentence on the first of (N, C, H, W) frames that is noise; None if none is."""
    if min(frames.shape[2:]) < 2:
        return None
    return next((fault for fault in map(noise_fault, frames) if fault), None)


def _all_finite(tensors) -> bool:
    """Whether all elements are finite; the sum of a tensor with a nan or inf is neither."""
    sums = [tensor.detach().sum(dtype=torch.float64).cpu() for tensor in tensors]
    return not sums or bool(torch.stack(sums).isfinite().all())


def _tensor_bytes(value) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_tensor_bytes, value)) if isinstance(value, (list, tuple)) else 0
