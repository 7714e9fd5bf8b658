"""EcoTTA+'s exposure and shift gate, as ordinary operations that can be exported."""

from math import log
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inference.reduced_frame import SMALLEST_SIDE
from ..methods.ecotta_plus import DRIFT, ENTROPY, EcoTTAPlus


def swaps_channels(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor turns BGR into RGB, or the other way round."""
    # The attribute's name in mmseg, and its name in mmengine.
    names = ('channel_conversion', '_channel_conversion')
    return any(getattr(preprocessor, name, False) for name in names)


class PlainInput(nn.Module):
    """Converts a frame from a camera to the input of the network.

    Args:
        preprocessor: The segmentor's data preprocessor, whose padding is left out.
        target: The mean pixel value of darker frames after the correction, 0 to 255, see
            ``Exposure``. None does not change the brightness.
    """

    def __init__(self, preprocessor: nn.Module, target: Optional[float] = None) -> None:
        super().__init__()
        mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
        self.register_buffer('mean', None if mean is None else mean.detach().clone()[None])
        self.register_buffer('std', None if std is None else std.detach().clone()[None])
        self.swaps = swaps_channels(preprocessor)
        self.target = target

    def forward(self, frame: Tensor) -> Tensor:
        """(1, C, H, W), 0 to 255, to the same shape."""
        image = frame[:, [2, 1, 0]] if self.swaps else frame
        if self.target is not None:
            image = self._brightened(image, self.target)
        return image if self.mean is None else (image - self.mean) / self.std

    def _brightened(self, image: Tensor, target: float) -> Tensor:
        """Computes the same as ``Exposure.brighten_``."""
        brightness = image.mean((2, 3), keepdim=True).mean(1, keepdim=True)
        dark = (brightness >= 1) & (brightness < target)
        # If the frame is not dark, the exponent is not used, but it must not be NaN.
        usable = torch.where(dark, brightness, torch.full_like(brightness, target))
        gamma = log(target / 255) / torch.log(usable / 255)
        return torch.where(dark, 255 * torch.pow((image / 255).clamp(0, 1), gamma), image)


class PlainGate(nn.Module):
    """Computes the strength of ``EcoTTAPlus`` from the frozen model's drift and entropy.

    Args:
        method: The method, with a shift gate.
        classes: The number of classes.
        sample: A frame (1, C, H, W) in a size that the exported network has to accept.

    Attributes:
        scale: Scale of the sides of the frame on which the frozen model runs (the probe).
    """

    def __init__(self, method: EcoTTAPlus, classes: int, sample: Tensor) -> None:
        super().__init__()
        self.half, self.exponent = method.shift_gate.half, method.shift_gate.exponent
        self.usual_drift = float(method.usual_values[DRIFT])
        self.usual_entropy = float(method.usual_values[ENTROPY])
        self.most = log(max(2, classes))
        self.scale = 1.0 if method.probes_whole(sample) else method.probe_scale

    def probe(self, frame: Tensor) -> Tensor:
        """Reduces a frame (1, C, H, W) as ``reduced_frame`` does for a frame without padding."""
        if self.scale == 1:
            return frame
        sides, parts = frame.shape[2:], round(1 / self.scale)
        if isinstance(sides[0], int):
            small = min(sides) * self.scale < SMALLEST_SIDE
            size = sides if small else [side // parts for side in sides]
        elif isinstance(sides[0], Tensor):  # Of a tracer, which cannot branch.
            small = torch.minimum(*sides) * self.scale < SMALLEST_SIDE
            size = [torch.where(small, side, (side * self.scale).long()) for side in sides]
        else:  # Symbols of torch.export.
            small = torch.sym_min(*sides) < SMALLEST_SIDE * parts
            size = [torch.sym_ite(small, side, side // parts) for side in sides]
        return F.interpolate(frame, size=size, mode='bilinear', align_corners=False)

    def forward(self, logits: Tensor, drift: Optional[Tensor]) -> Tensor:
        """Computes ``ShiftGate.strength`` as a scalar tensor.

        Args:
            logits: (1, classes, h, w), the frozen model's logits of the probe.
            drift: The mean drift, a scalar; None if the model has no norms that measure drift.
        """
        logits = logits[:, :, ::4, ::4]
        chances = logits.softmax(1)
        entropy = -(chances * logits.log_softmax(1)).sum(1).mean()
        ratio = entropy / (self.most * self.usual_entropy * self.half)
        if drift is not None:
            ratio = ratio * drift / self.usual_drift
        # r^p / (1 + r^p), written as a logistic function of ln r, so that a large r does not
        # overflow.
        return torch.sigmoid(self.exponent * torch.log(ratio.clamp(min=1e-12)))
