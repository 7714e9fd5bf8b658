"""What happens to a frame, in order: check, predict, learn, accept or undo, record, save.

A Runner's test loop and ``AdaptiveSegmentor.step`` take each frame through these steps:

1. **Check.** ``check_frame`` marks a bad frame. A bad frame is predicted and not learned from.
2. **Preprocess, predict, learn.** ``run_step`` makes these steps; ``predict_and_learn`` is its
   core. The method proposes an update. The guard accepts or discards the update, or restores
   earlier parameters.
3. **Record.** ``frame_events`` returns the interventions of the guard and of the method.
4. **Save.** ``StreamStateHook`` saves the state of a Runner's stream at intervals.

In a Runner each step is a hook. ``Turn`` is the order of the hooks.
"""

from enum import IntEnum
from typing import Any, Optional

import torch
from torch import Tensor

from ..memory.lean.autograd_ops.autocast import under_autocast


class Turn(IntEnum):
    """The order of the hooks in each stage of a test: the lowest number is first.

    The numbers are mmengine's priorities. In ``before_test`` the order is: copy the source, build
    the method and its guard, load a state, calibrate, score the clear day. After each frame the
    order is: score the source, record, show, save.
    """

    REFERENCE = 10  # The source predicts and scores the frame.
    CHECK = 15  # Marks bad frames, before a state counts the frame as begun.
    KEEP = 20  # Keeps masks, areas, the best and worst frames.
    BUILD = 30  # Replaces the model with the method; after a frame, records the interventions.
    GUARD = 32  # Sets the guard.
    STATE = 35  # Loads a state; marks the frame as begun.
    CALIBRATE = 37  # Needs the loaded state.
    CLEAR_DAY = 40  # Scores the method on the clear day, before and after the stream.
    MEASURE = 50  # Memory, time, and the estimate without labels.
    PANEL = 60  # Draws the panel that ``SHOW`` counts.
    SHOW = 70  # Curves, plots, progress, the exchange of adapters.
    RESULTS = 90  # Writes the results, at the end.
    REPORT = 95  # Needs the results.
    SAVE = 100  # Saves a state, when all other hooks have finished the frame.


def check_frame(checker: Any, image: Tensor, sample: Any) -> Optional[str]:
    """Checks a frame and marks a bad one, so that nothing is learned from it.

    Args:
        checker: A ``FrameChecker``; None for no check.
        image: (C, H, W), of any dtype.
        sample: The sample of the frame. Its metainfo gets ``frame_fault`` if the frame is bad.

    Returns:
        The text of the fault, or None. If the data set has already found a fault, its text is
        returned.
    """
    info = sample.metainfo
    fault = info.get('frame_fault')
    if not fault and checker is not None:
        fault = checker.check(image, info.get('img_path'))
    if fault:
        sample.set_metainfo({'frame_fault': fault})
        if image.is_floating_point():
            torch.nan_to_num_(image, 0.0, 0.0, 0.0)
    return fault or None


def run_step(method: Any, data: dict) -> list:
    """Runs one step on a batch: preprocesses, predicts, learns, estimates and postprocesses.

    Args:
        method: An ``AdaptationMethod``.
        data: A batch of packed samples.

    Returns:
        The predictions (``SegDataSample``).

    Raises:
        ValueError: The frames have several views or differ in size, or the call is under
            ``torch.autocast``.
    """
    _check_batch(data)
    batch = method.segmentor.data_preprocessor(data, False)
    inputs, samples = batch['inputs'], batch['data_samples']
    if under_autocast(inputs):
        raise ValueError(
            'expected the precision of the parameters around a step, but it is run under '
            'torch.autocast (test_cfg.fp16=True does so): leave that out, and set '
            "autocast='bf16' among the method's options"
        )
    metas = [sample.metainfo for sample in samples]
    # ``prepare`` may change the frames in place; the source predicts the unchanged frames.
    untouched = None if method.estimate is None else inputs.clone()
    inputs = method.prepare(inputs, metas)
    others = method.other_views(inputs, metas)
    budget = method.compute_budget
    if budget is not None:
        budget.begin_frame(method, inputs, metas)
    if any(meta.get('frame_fault') for meta in metas):
        logits = method.predict(inputs, metas)
    elif not method.adapting:
        logits = method.predict_frame(inputs, metas)
    else:
        logits = predict_and_learn(method, inputs, metas, method.guard, budget)
    with torch.no_grad():
        if others is not None:
            logits = method.with_views(logits, others)
        if method.estimate is not None:
            logits = method.estimate.choose(method, untouched, inputs, metas, logits)
        return method.segmentor.postprocess_result(logits, samples)


def predict_and_learn(
    method: Any,
    inputs: Tensor,
    metas: list[dict],
    guard: Optional[Any] = None,
    budget: Optional[Any] = None,
) -> Tensor:
    """Predicts frames and learns from them.

    The method proposes an update. The guard accepts or discards the update, and may afterwards
    restore earlier parameters. If a method updates its parameters during the backward pass, the
    update is already made when the guard checks it, so the guard can only undo the update.

    Args:
        method: An ``AdaptationMethod``.
        inputs: (N, 3, H, W), preprocessed and padded.
        metas: The metainfo of the N samples.
        guard: An ``UpdateGuard``; None accepts each update.
        budget: A ``ComputeBudget`` that chooses the frames to learn from; None chooses all.

    Returns:
        Detached (N, classes, H, W) logits of the forward pass before the update, or of one after
        the update if the method ``predicts_after_update``. If the parameters and these logits are
        not finite and the guard restores earlier parameters, the logits of the restored model.
    """
    # A cooldown of the guard counts only frames with a step, so do not ask the guard on others.
    skips = budget is not None and not budget.affords_step(method, inputs, metas)
    if skips or (guard is not None and guard.pauses_frame(method)):
        return method.predict_frame(inputs, metas)
    if budget is not None:
        budget.take_step(len(inputs))
    method.begin_frame()
    try:
        logits = method.propose(inputs, metas)
        judged = logits if method.learned_from is None else method.learned_from
        if guard is None or guard.accepts(method, inputs, metas, judged):
            method.update()
    finally:
        method.discard()
    if guard is not None:
        logits = guard.after_update(method, inputs, metas, logits)
    if method.predicts_after_update and method.last_step.updated:
        logits = method.predict(inputs, metas)
    return logits


def frame_events(method: Any, stream_index: Optional[int]) -> list[dict]:
    """Returns the interventions in the latest frame: resets by the method, and those of the guard.

    Args:
        method: An ``AdaptationMethod``, after its step.
        stream_index: The number of the frame in the stream.

    Returns:
        Dictionaries with ``event`` (``'skip'``, ``'rollback'``, ``'reset'`` or ``'own_reset'``),
        ``stream_index`` and ``reason``. The next call does not return them again.
    """
    events = []
    record = method.last_step
    if record.own_reset is not None:
        reason, record.own_reset = record.own_reset, None
        events.append({'event': 'own_reset', 'stream_index': stream_index, 'reason': reason})
    return events if method.guard is None else events + method.guard.take_events()


def _check_batch(data: dict) -> None:
    """Refuses several views of a frame, and frames of different sizes in a batch."""
    if any(isinstance(sample, (list, tuple)) for sample in data['data_samples']):
        raise ValueError(
            'expected one sample a frame, got several views of it (test-time augmentation): '
            'leave TestTimeAug out of the pipeline, and set `views` (--views N)'
        )
    shapes = [tuple(image.shape) for image in data['inputs']]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            (first, one), (second, two) = [
                (data['data_samples'][i].metainfo.get('img_path', f'frame {i}'), shapes[i])
                for i in (0, index)
            ]
            raise ValueError(
                f'expected frames of one size in a batch, but {first} is {one[2]}x{one[1]} and '
                f'{second} is {two[2]}x{two[1]} pixels (width x height): set batch_size=1, or '
                'resize them in the pipeline'
            )
