"""Checks each adaptation step and undoes the steps that would ruin the model."""

from collections import deque
from typing import Optional

from torch import Tensor

from ..inference.padding import without_padding
from ..inference.reduced_frame import reduced_frame
from ..layers.prediction_statistics import entropy_share
from ..methods.base import AdaptationMethod
from ..names.old_names import warn_old_name
from .cooldown import Cooldown
from .deviation_limits import DeviationLimits, PredictionDeviation, prediction_deviation
from .entropy_limit import EntropyLimit
from .faults import all_finite, fault_of_prediction, noise_in, tensor_bytes


class UpdateGuard:
    """Skips an update, rolls back to the last good parameters, or resets to the initial ones.

    Before each update the guard checks the frame and its prediction: the loss, the gradients and
    the logits must be finite, no class may cover nearly the whole frame, the entropy must not
    exceed ``max_entropy``, and the frame must not be noise. Otherwise the guard skips the update,
    or rolls it back if the method has already made it. After the update the parameters must be
    finite. Otherwise the guard rolls back the parameters and the optimizer.

    At first the guard assumes that the frame causes the fault: it keeps the parameters that were
    learned earlier, however many such frames follow. After every ``check_every`` faulty frames in a
    row, the guard also checks the reference's prediction (see below). If the reference's prediction
    is sound and the model's is not, the model causes the fault, and the guard rolls it back.

    Every ``check_every`` frames the guard checks for deviation. It predicts the frame at a reduced
    size with the current model and with the reference. The reference is the model before its first
    frame (``predict_reference``: the frozen source under the method's own normalisation). The model
    deviates if the median of the last ``window`` checks exceeds a limit: too little agreement of
    the two masks (see ``mask_agreement``) on the half of the pixels that the reference is surest of
    (adaptation should change the other half), too small a share of the reference's entropy, or too
    high a loss of class diversity. The guard then rolls back to the last parameters that were well
    within the limits. If it has already rolled back to them once, it resets everything. After
    resets in close succession learning pauses, see ``Cooldown``.

    If a method resets itself (RDumb, SAR), the guard discards its earlier observations and the
    earlier good parameters. If the update on the same frame is faulty, too, the guard resets the
    method.

    Args:
        check_every: Number of frames between two checks for deviation.
        min_agreement: Minimum agreement with the reference, 0 to 1. If the source itself fails on
            a frame, a good method rightly disagrees with it.
        min_entropy_share: Minimum entropy as a share of the reference's entropy, 0 to 1.
            Entropy minimisation that collapses makes the model certain of every pixel.
        max_diversity_loss: Maximum loss of class diversity in nats, above 0, see
            ``DeviationLimits``.
        max_class_share: Maximum share of a frame that one class may cover, 0 to 1.
        max_entropy: Maximum mean entropy of a prediction to learn from, as a share of ln C, 0 to 1;
            compared with the median of the last ``window`` frames. Above this limit the model does
            not recognise the frames; real nights stay below the default. If a model is less sure of
            ordinary frames, the limit is 1.25 times the median of the last 50 learned frames. The
            limit does not apply to methods without learnable parameters. 1 turns the limit off.
        window: Number of checks, and number of entropies, in a median.
        margin: Parameters count as good if the agreement is at least ``min_agreement`` plus this
            margin.
        scale: Factor by which a check for deviation scales the sides of the frame, 0 to 1. A frame
            is not reduced if a side would become shorter than 128 pixels.
        cooldown: Number of frames in the first cooldown, see ``Cooldown``; 0 for no cooldowns. None
            for 4 * ``window`` * ``check_every``. This is twice the number of frames that the guard
            needs to notice a deviation, roll back, and notice a deviation again.
        rest: The old name of ``cooldown``; this version reads it with a warning.

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
        cooldown: Optional[int] = None,
        rest: Optional[int] = None,
    ) -> None:
        shares = (max_class_share, scale, max_entropy)
        if check_every < 1 or window < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                'the guard expects check_every and window from 1 and max_class_share, scale and '
                'max_entropy from 0 to 1, got '
                f'check_every={check_every}, window={window} and {shares}'
            )
        self.limits = DeviationLimits(min_agreement, min_entropy_share, max_diversity_loss, margin)
        self.check_every, self.window, self.margin = check_every, window, margin
        self.max_class_share, self.scale = max_class_share, scale
        self.max_entropy = max_entropy
        if rest is not None:
            warn_old_name('rest', 'cooldown', 'the guard')
            cooldown = rest
        if cooldown is None:
            cooldown = 4 * window * check_every
        if cooldown < 0:
            raise ValueError(f'the guard expects cooldown from 0, got {cooldown}')
        self.cooldown = Cooldown(cooldown)
        self.events: list[dict] = []
        self.forget()

    def forget(self) -> None:
        """Restores the guard's state from before the first frame."""
        self._good: Optional[dict] = None
        self._rolled_back = False
        self._frames = self._faults = 0
        self._checks: deque = deque(maxlen=self.window)
        self.entropies = EntropyLimit(self.max_entropy, self.window)
        self.cooldown.forget()
        self._reason: Optional[str] = None
        self._own_reset = False

    @property
    def kept_bytes(self) -> int:
        """Bytes of the last good parameters and optimizer state."""
        return tensor_bytes(self._good)

    def pauses_frame(self, method: AdaptationMethod) -> bool:
        """Whether the method must not learn from the next frame; called once for each frame.

        Args:
            method: The method, before its forward.
        """
        if self._good is None:
            self._good = method.method_state()
        self._reason, self._own_reset = None, False
        return self.cooldown.pauses_frame()

    def accepts(
        self, method: AdaptationMethod, inputs: Tensor, metas: list[dict], logits: Tensor
    ) -> bool:
        """Checks a proposed update: its frame, prediction, loss and gradients.

        Args:
            method: The method, after ``propose``.
            inputs: (N, 3, H, W), preprocessed.
            metas: Metainfo of the N samples.
            logits: (N, classes, H, W), the prediction from which the method computed its update.

        Returns:
            Whether the method may make the update.
        """
        self._see_own_reset(method)
        self._reason = self._fault_of_step(method, inputs, metas, logits)
        return self._reason is None

    def after_update(
        self, method: AdaptationMethod, inputs: Tensor, metas: list[dict], logits: Tensor
    ) -> Tensor:
        """Undoes a faulty update, and checks for deviation every ``check_every`` frames.

        Args:
            method: The method, after its update or without one.
            inputs: (N, 3, H, W), preprocessed.
            metas: Metainfo of the N samples.
            logits: (N, classes, H, W), the prediction before the update.

        Returns:
            The given logits; or the logits of the repaired model, if neither the parameters nor
            the given logits are finite.
        """
        # After a reset the logits belong to the discarded parameters: their entropy does not count.
        gone = self._see_own_reset(method)
        broken = not all_finite(method.learned_tensors().values())
        if self._reason:
            self._undo_fault(method, inputs, metas, broken)
        elif broken:
            self._repair(method, metas, 'parameters are not finite')
        else:
            self._faults = 0
            self._frames += 1
            if self._own_reset:
                self._good = method.method_state()
            if not gone:
                self.entropies.learned()
            if self._frames % self.check_every == 0:
                self._check_deviation(method, inputs, metas)
        if broken and not without_padding(logits, metas).isfinite().all():
            logits = method.predict(inputs, metas)
        return logits

    def _see_own_reset(self, method: AdaptationMethod) -> bool:
        """Discards earlier observations if the method has reset itself in this frame.

        Returns:
            Whether the method has reset itself since the last call.
        """
        if self._own_reset or method.last_step.own_reset is None:
            return False
        self._own_reset, self._rolled_back, self._faults = True, False, 0
        self._checks.clear()
        self.entropies.back_to_start()
        return True

    def _undo_fault(self, method, inputs: Tensor, metas: list[dict], broken: bool) -> None:
        """Undoes the step of a faulty frame, and rolls back the model if the model is at fault."""
        reason = self._reason
        if not broken and not method.last_step.updated:
            if self._own_reset:
                self._good = method.method_state()
            self._record('skip', metas, reason)
        elif not self._own_reset and all_finite(self._good['tensors'].values()):
            method.load_method_state(self._good)
            method.last_step.updated = False
            self._record('rollback', metas, reason)
        else:
            self._repair(method, metas, reason)
        self._faults += 1
        if self._faults % self.check_every:
            return
        reference = method.predict_reference(inputs, metas)
        if reference is None:
            return
        reference = without_padding(reference, metas)
        if fault_of_prediction(reference, self.max_class_share) is not None:
            return
        current = without_padding(method.predict(inputs, metas), metas)
        reason = fault_of_prediction(current, self.max_class_share)
        limit = self.entropies.limit()
        # The reference must be well below the limit. Else chance decides which model exceeds it.
        if reason is None and entropy_share(reference) < (1 - self.margin) * limit:
            reason = self.entropies.judge(entropy_share(current))
        if reason is not None:
            self._repair(method, metas, f'{reason}, and not in the prediction of the source')

    def _fault_of_step(
        self, method: AdaptationMethod, inputs: Tensor, metas: list[dict], logits: Tensor
    ) -> Optional[str]:
        """The reason to reject the frame's step, or None."""
        logits = without_padding(logits, metas)
        fault = fault_of_prediction(logits, self.max_class_share)
        if fault is not None:
            return fault
        recent = self.entropies.see(entropy_share(logits))
        parameters = list(method.adaptable_parameters().values())
        if parameters:
            fault = self.entropies.judge(recent)
            if fault is None:
                fault = noise_in(without_padding(inputs, metas))
            if fault is not None:
                return fault
        gradients = [p.grad for p in parameters if p.grad is not None]
        # If a method has no loss and makes no gradients, a loss of nan is correct.
        if gradients and method.last_step.loss in (float('inf'), float('-inf')):
            return 'the loss is not finite'
        if not all_finite(gradients):
            return 'the gradients are not finite'
        return None

    def _check_deviation(self, method: AdaptationMethod, inputs: Tensor, metas: list[dict]) -> None:
        inputs, metas = reduced_frame(inputs, metas, self.scale)
        reference = method.predict_reference(inputs, metas)
        if reference is None:
            return
        deviation = prediction_deviation(
            without_padding(method.predict(inputs, metas), metas),
            without_padding(reference, metas),
        )
        if deviation is None:
            return
        self._checks.append(deviation)
        full = len(self._checks) == self.window
        reason = self.limits.exceeded(self._checks) if full else None
        if reason is not None:
            self._repair(method, metas, reason)
        elif self.limits.well_within(self._checks):
            self._good, self._rolled_back = method.method_state(), False
            self.entropies.keep()

    def _repair(self, method: AdaptationMethod, metas: list[dict], reason: str) -> None:
        if self._rolled_back or self._own_reset or not all_finite(self._good['tensors'].values()):
            method.reset()
            self._good, self._rolled_back = method.method_state(), False
            self.entropies.back_to_start()
            paused = self.cooldown.after_reset()
            if paused:
                reason += f'; the last reset was recent, so learning pauses for {paused} frames'
            self._record('reset', metas, reason)
        else:
            method.load_method_state(self._good)
            self._rolled_back = True
            self.entropies.back_to_good()
            self._record('rollback', metas, reason)
        method.last_step.updated = False
        self._checks.clear()

    def _record(self, event: str, metas: list[dict], reason: str) -> None:
        self.events.append(
            {'event': event, 'stream_index': metas[0].get('stream_index'), 'reason': reason}
        )

    def take_events(self) -> list[dict]:
        """Returns the events since the last call, with ``event``, ``stream_index``, ``reason``."""
        events, self.events = self.events, []
        return events

    def state_dict(self) -> dict:
        """Returns all tensors and numbers that later decisions depend on."""
        return {
            'good': self._good,
            'gone_back': self._rolled_back,
            'frames': self._frames,
            'faults': self._faults,
            'checks': [list(check) for check in self._checks],
            'entropies': self.entropies.state_dict(),
            'rest': self.cooldown.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self.forget()
        self._good, self._rolled_back = state['good'], state['gone_back']
        self._frames, self._faults = state['frames'], state['faults']
        self._checks.extend(PredictionDeviation(*check) for check in state['checks'])
        self.entropies.load_state_dict(state['entropies'])
        self.cooldown.load_state_dict(state['rest'])
