"""A frozen network in an ONNX file that also returns the input of its classifier."""

from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .onnx_file import FEATURES, LOGITS
from .onnx_session import OnnxSession


class Seen(NamedTuple):
    """The outputs of the network for a frame.

    Attributes:
        logits: (1, classes, H, W).
        features: (1, channels, h, w), the classifier's input.
    """

    logits: Tensor
    features: Tensor

    def small_logits(self) -> Tensor:
        """The logits at the size of the features: (1, classes, h, w)."""
        size = self.features.shape[2:]
        return F.interpolate(self.logits, size, mode='bilinear', align_corners=False)


class FrozenEngine:
    """Runs a network that was exported with ``--features``.

    Args:
        path: The ONNX file.
        providers, threads: See ``OnnxSession``.

    Attributes:
        classes: The names of the classes.
        palette: Their RGB colours, 0 to 255.
        classifier: (classes, channels), the weights of the frozen classifier.
        align_corners: Option of the bilinear interpolation by which the network resizes its logits.

    Raises:
        ValueError: The network was exported without ``--features``; see also ``OnnxSession``.
    """

    def __init__(
        self,
        path: Union[str, Path],
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
    ) -> None:
        self.session = OnnxSession(path, providers, threads)
        found = self.session.description
        if FEATURES not in self.session.outputs or not found.get('classifier'):
            raise ValueError(
                f'{path} gives only logits, but an adapter outside of a network reads the '
                "classifier's input: export it with --features"
            )
        classifier = found['classifier']
        self.classes, self.palette = list(found['classes']), list(found['palette'])
        weights = np.frombuffer(b64decode(classifier['weight']), '<f4').astype(np.float32)
        self.classifier = torch.from_numpy(weights.reshape(classifier['shape']))
        self.align_corners = bool(classifier['align_corners'])

    def run(self, frame: Tensor) -> Seen:
        """Runs the network.

        Args:
            frame: A frame (1, C, H, W), 0 to 255.

        Raises:
            ValueError: The network does not accept a frame of this shape.
        """
        found = self.session.run(np.ascontiguousarray(frame.float().cpu().numpy()))
        return Seen(torch.from_numpy(found[LOGITS]), torch.from_numpy(found[FEATURES]))
