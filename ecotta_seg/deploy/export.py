"""Exports a method's network to a file; before that, compares the result with torch."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor

from ..files.atomic_io import atomic_write
from ..methods import AdaptationMethod
from ..version import __version__
from .agreement import Agreement, compare, predicted
from .check_frames import resized, scaled, unpadded
from .onnx_file import LOGITS, onnx_model
from .onnx_session import OnnxSession
from .plain_network import PlainNetwork
from .torch_export_file import check_torch, exported_program, loaded_program, takes

# The largest allowed difference of two logits in float32, and in half precision the same as a share
# of the largest logit.
TOLERANCE, HALF_TOLERANCE = 1e-4, 0.02


class Exported(NamedTuple):
    """The result of an export.

    Attributes:
        network: The exported network as a module.
        agreement: The comparison of the exported network with the method.
        size: Size of the file in bytes.
    """

    network: PlainNetwork
    agreement: Agreement
    size: int


def export_network(
    method: AdaptationMethod,
    path: Union[str, Path],
    frames: Sequence[Tensor],
    format: str = 'onnx',
    *,
    half: bool = False,
    features: bool = False,
    strength: Optional[float] = None,
    fixed_size: bool = False,
    tolerance: float = TOLERANCE,
    description: Optional[Mapping[str, Any]] = None,
) -> Exported:
    """Exports the network with which a method would predict the next frame.

    Args:
        method: The adapted method, on the CPU. It is not changed.
        path: The file.
        frames: At least one frame (C, H, W) uint8, for the comparison. Unless ``fixed_size`` is
            set, two of three frames are resized first.
        format: 'onnx' or 'torch_export'.
        half: If True, weights and maps are in half precision. Input, outputs and the statistics of
            frames stay in float32.
        features: Whether the network also returns the classifier's input.
        strength: See ``PlainNetwork``.
        fixed_size: If True, the exported network accepts only frames in the size of the first
            frame.
        tolerance: The largest difference of two logits in float32. In half precision it is 2 % of
            the largest logit.
        description: Entries that are added to the description in the file.

    Raises:
        ValueError: The method cannot be exported, or the exported network differs by more than the
            tolerance. No file is written then.
        OSError: The file cannot be written. An earlier file of that name is not changed.
    """
    if format == 'torch_export':
        check_torch()
    preprocessor = method.segmentor.data_preprocessor
    frames = [unpadded(frame, preprocessor) for frame in frames]
    sample = frames[0][None].float()
    # After a first prediction the method knows whether it can run at half size (``probes_whole``).
    predicted(method, frames[0])
    network = PlainNetwork(method, sample, strength, features)
    said = dict(_described(network, sample, half, fixed_size), **(description or {}))
    if format == 'onnx':
        content = onnx_model(network, sample, said, features, fixed_size, half)
        session = OnnxSession(content, threads=1)

        def run(frame: Tensor) -> Tensor:
            return torch.from_numpy(session.run(frame.numpy())[LOGITS])
    else:
        network = network.to_half_precision() if half else network
        content = exported_program(network, sample, said, fixed_size)
        program = loaded_program(content)

        def run(frame: Tensor) -> Tensor:
            found = program(frame)
            return found if isinstance(found, Tensor) else found[0]

    if fixed_size:
        frames = [resized(frame, frames[0].shape[1:]) for frame in frames]
    else:
        others = [_of_another_size(method, frame, index) for index, frame in enumerate(frames)]
        limited = format == 'torch_export'
        frames = [
            frame if limited and not takes(other) else other for frame, other in zip(frames, others)
        ]
    agreement = compare(run, method, frames, strength)
    limit = HALF_TOLERANCE * agreement.largest if half else tolerance
    if not agreement.difference <= limit:
        raise ValueError(
            'the exported network differs from the network in torch, so nothing is written: on '
            f'{agreement.sentence()}; expected at most {limit:.1e}'
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return Exported(network, agreement, len(content))


def _of_another_size(method: AdaptationMethod, frame: Tensor, index: int) -> Tensor:
    """Resizes a frame with ``scaled``, or returns it if the method cannot run on that size."""
    other = unpadded(scaled(frame, index), method.segmentor.data_preprocessor)
    try:
        predicted(method, other)
    except (AssertionError, RuntimeError, ValueError):
        # A BEiT accepts one size only, a UNet multiples of 16.
        return frame
    return other


def _described(network: PlainNetwork, sample: Tensor, half: bool, fixed_size: bool) -> dict:
    """The description of a network that is written to the file."""
    size = 'x'.join(map(str, sample.shape[2:])) if fixed_size else 'any height and width'
    return {
        'version': __version__,
        'input': (
            f'frame (1, {sample.shape[1]}, height, width), {size}, float32, 0 to 255, channels in '
            "the order that the config's data preprocessor takes (BGR in mmseg); the mean and the "
            'standard deviation are in the network'
        ),
        'outputs': {
            'logits': '(1, classes, height, width) float32, of the size of the frame',
            'features': "(1, channels, h, w) float32, the classifier's input, if it is there",
        },
        'precision': 'float16' if half else 'float32',
        'norms_in_convolutions': network.folded,
        'norms_by_frame': network.by_frame,
        'meta_networks': network.kept,
        'gate': network.gate_in_float32 is not None,
        'classifier': _classifier(network),
    }


def _classifier(network: PlainNetwork) -> Optional[dict]:
    """The classifier's weights, for an adapter outside of the network; None without features."""
    if network.classifier is None:
        return None
    weight = network.classifier.weight.detach()[:, :, 0, 0]
    if network.classifier.kernel_size != (1, 1):
        raise ValueError(
            'expected a classifier that is a 1x1 convolution for --features, got a kernel of '
            f'{network.classifier.kernel_size}: leave out --features'
        )
    if len(weight) == 1:
        # A model with one logit z: the exported network returns the two logits 0 and z.
        weight = torch.cat([torch.zeros_like(weight), weight])
    head = network.segmentor.decode_head
    head = head[-1] if isinstance(head, torch.nn.ModuleList) else head
    numbers = weight.float().contiguous().numpy().astype('<f4').tobytes()
    return {
        'weight': b64encode(numbers).decode('ascii'),
        'shape': list(weight.shape),
        'align_corners': bool(head.align_corners),
    }
