"""A random change of a frame's colours, which leaves each pixel at its place.

The teachers of the field's methods compare two views of an image. Their published views also turn,
shift and mirror the image. A segmentor's pixels have to stay at their places, and sliding windows
have to cover the same parts of both views, so only the colours change here.
"""

import torch
from torch import Tensor, nn

from .padding import padding_of

# The published ranges of CoTTA's views (arXiv 2203.13591), in this order.
BRIGHTNESS, CONTRAST, SATURATION, GAMMA = (0.6, 1.4), (0.7, 1.3), (0.5, 1.5), (0.7, 1.3)
NOISE = 0.005  # standard deviation, for pixels from 0 to 1


@torch.no_grad()
def photometric_view(
    inputs: Tensor, metas: list[dict], preprocessor: nn.Module, seed: int
) -> Tensor:
    """Frames with other brightness, contrast, saturation and gamma, and with noise.

    All frames of a batch change by the same four factors. CoTTA's public code also changes the hue,
    blurs the image and applies the changes in a random order.

    Args:
        inputs: (N, C, H, W), preprocessed.
        metas: The metainfo of the N samples; the padding stays as it is.
        preprocessor: The segmentor's data preprocessor, whose mean and standard deviation give the
            pixels' values. If it has no mean and standard deviation, the inputs are pixel values.
            If some pixel values lie outside of 0 to 255, the lowest value counts as black and the
            highest as white.
        seed: The same seed gives the same change on all devices.

    Returns:
        (N, C, H, W), a new tensor.
    """
    # A CPU generator on every device.
    generator = torch.Generator().manual_seed(seed)
    ranges = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION, GAMMA], dtype=torch.float64)
    drawn = torch.rand(len(ranges), generator=generator, dtype=torch.float64)
    brightness, contrast, saturation, gamma = torch.lerp(*ranges.T, drawn).tolist()

    rows, columns = padding_of(inputs, metas[0])
    changed = inputs.clone()
    frame = changed[:, :, rows, columns]
    noise = torch.randn(frame.shape, generator=generator).mul_(NOISE).to(frame)
    std, mean = (_of_pixels(preprocessor, name, frame) for name in ('std', 'mean'))
    pixels = frame * std + mean
    low, high = _range(pixels)
    pixels = pixels.sub_(low).div_(high - low).clamp_(0, 1)
    pixels = pixels.mul_(brightness).clamp_(0, 1)
    # The mean of the channels is a pixel's grey, whatever the order of the channels.
    grey = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = torch.lerp(grey, pixels, contrast).clamp_(0, 1)
    pixels = torch.lerp(pixels.mean(dim=1, keepdim=True), pixels, saturation).clamp_(0, 1)
    pixels = pixels.pow_(gamma).add_(noise).clamp_(0, 1)
    frame.copy_(pixels.mul_(high - low).add_(low).sub_(mean).div_(std))
    return changed


def _range(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of pixels: 0 and 255 for 8 bits, else the pixels' own."""
    low, high = pixels.amin(), pixels.amax()
    # The half allows for the preprocessor's rounding.
    eight_bits = (low > -0.5) & (high < 255.5)
    return torch.where(eight_bits, 0.0, low), torch.where(
        eight_bits, 255.0, high.clamp(min=low + 1)
    )


def _of_pixels(preprocessor: nn.Module, name: str, frame: Tensor) -> Tensor:
    """The preprocessor's ``mean`` or ``std`` as a tensor that fits to a frame."""
    values = getattr(preprocessor, name, None)
    if values is None:
        return frame.new_tensor(1.0 if name == 'std' else 0.0)
    return values.to(frame)
