"""Hybrid-TTA: learns on masked frames; the trend of the loss selects the parameters that learn.

Taken from Park et al., ICCV 2025 (arXiv 2409.08566), and their public code: dynamic domain shift
detection by the moving mean of the loss, and masked image modelling adaptation. The docstring of
the class lists the differences.
"""

from math import ceil
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inference.padding import padding_of, without_padding
from ..inference.windows import over_windows
from ..layers.losses import pixel_entropy
from ..layers.norm_parameters import is_norm
from ..layers.replace_norms import replace_trained_norms
from ..meta_networks.input_channels import input_channels
from ..meta_networks.output_encoder import trial_outputs
from ..registry import ADAPTATION_METHODS
from .teacher import TeacherAdaptation, train_all

COLOUR, RECONSTRUCTION = 'mask_colour', 'reconstruction'


class _Window(NamedTuple):
    """The data for the student's loss on one sliding window.

    Attributes:
        frame: (N, C, h, w), not masked, without padding.
        mask: (N, 1, h, w), 1 at pixels that the mask covers, else 0.
        labels: (N, h, w), the teacher's classes.
        place: Rows and columns of the window that are not padding.
    """

    frame: Tensor
    mask: Tensor
    labels: Tensor
    place: tuple[slice, slice]


@ADAPTATION_METHODS.register_module(name='hybrid_tta')
class HybridTTA(TeacherAdaptation):
    """Dynamic domain shift detection and masked frames (Park et al., arXiv 2409.08566).

    For each frame:

    1. The teacher predicts. **This prediction is scored**, as in the public code.
    2. A mask of a learned colour covers ``mask_ratio`` of the patches. The student predicts the
       masked frame and learns the teacher's classes by cross-entropy on all pixels. A small
       network, the reconstruction, predicts the colours of the covered pixels from the backbone's
       maps of the same forward pass; its mean absolute error is the second loss.
    3. If the mean cross-entropy of the last ``window`` frames is below (1 + ``margin``) times the
       slow average of the cross-entropy, the domain does not shift. Then only the norms of the
       backbone learn, together with everything outside of the backbone (the efficient step).
       Otherwise all parameters learn.
    4. The teacher moves: ``teacher_momentum`` * teacher + (1 - ``teacher_momentum``) * student.

    Deviations: the norms take the place of the public code's adapters, which are built for a ViT's
    blocks. The mask covers the frame and not the tokens, so it works on any backbone. A 1x1
    convolution makes three colours from each map of the backbone; the results are enlarged to the
    frame and added (the public code has a head for a SegFormer's four maps). The teacher predicts
    the labels on one view.

    Args:
        segmentor: The source model. All its parameters are trained except an auxiliary head's.
        optimizer: A config of a torch optimizer.
        mask_ratio: Share of the patches, 0 to below 1 (0.6 in the public code).
        patch: Side of a patch in pixels, from 1 (32 in the public code).
        reconstruction_weight: Weight of the second loss, from 0 (1 in the public code).
        window: Number of frames in the short average, from 1 (10 in the public code).
        margin: From 0 (0.1 in the public code).
        loss_momentum: Momentum of the slow average, 0 to 1 (0.999 in the public code).
        teacher_momentum: 0 to 1.
        batch_norm: As in ``CoTTA``, but None means the source's statistics, as in the public code.
        seed: Seed of the masks and of the reconstruction's initial weights.

    Raises:
        ValueError: An option is out of range.
        TypeError: The backbone gives no maps.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        mask_ratio: float = 0.6,
        patch: int = 32,
        reconstruction_weight: float = 1.0,
        window: int = 10,
        margin: float = 0.1,
        loss_momentum: float = 0.999,
        teacher_momentum: float = 0.999,
        batch_norm: Optional[dict] = None,
        seed: int = 0,
    ) -> None:
        momenta = (loss_momentum, teacher_momentum)
        if (
            not 0 <= mask_ratio < 1
            or min(patch, window) < 1
            or min(reconstruction_weight, margin) < 0
            or not all(0 <= momentum <= 1 for momentum in momenta)
        ):
            raise ValueError(
                'expected mask_ratio from 0 to below 1, patch and window from 1, '
                'reconstruction_weight and margin from 0, loss_momentum and teacher_momentum from '
                f'0 to 1, got {mask_ratio}, {patch}, {window}, {reconstruction_weight}, {margin}, '
                f'{loss_momentum} and {teacher_momentum}'
            )
        super().__init__(segmentor, optimizer, teacher_momentum)
        replace_trained_norms(segmentor, batch_norm or dict(mode='source'))
        one, channels = next(segmentor.parameters()).new_ones(()), input_channels(segmentor)
        segmentor.register_parameter(COLOUR, nn.Parameter(one.new_zeros(channels)))
        segmentor.add_module(RECONSTRUCTION, _reconstruction(segmentor, one, seed))
        train_all(segmentor)
        self.mask_ratio, self.patch, self.seed = mask_ratio, patch, seed
        self.reconstruction_weight, self.margin = reconstruction_weight, margin
        self.loss_momentum = loss_momentum
        # The number of updates; with the seed it chooses the mask of the next frame.
        self.register_buffer('updates', torch.zeros_like(one, dtype=torch.int64))
        # The cross-entropy of the last frames, the latest frame first.
        self.register_buffer('recent_losses', one.new_zeros(window))
        self.register_buffer('slow_loss', torch.zeros_like(one))
        self._maps: list[Tensor] = []
        self._windows: list[_Window] = []
        norms = {id(p) for m in segmentor.modules() if is_norm(m) for p in m.parameters()}
        self._blocks = [p for p in segmentor.backbone.parameters() if id(p) not in norms]
        self.start()

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class. These are the mask's colour and the reconstruction."""
        parts = (COLOUR, f'{RECONSTRUCTION}.')
        return {n: p for n, p in self.adaptable_parameters().items() if n.startswith(parts)}

    def mask(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Draws the mask of (N, C, H, W) frames: (N, 1, H, W), 1 at covered pixels, else 0.

        The patches begin at the frame's first pixel; the padding is not covered.
        """
        place = padding_of(inputs, metas[0])
        mask = torch.zeros_like(inputs[:, :1])
        frame = mask[:, :, place[0], place[1]]
        rows, columns = (ceil(side / self.patch) for side in frame.shape[2:])
        covered = ceil(rows * columns * self.mask_ratio)
        # The generator is on the CPU for every device, so that the draws are the same.
        generator = torch.Generator().manual_seed(self.seed + int(self.updates))
        grid = inputs.new_zeros(len(inputs), rows * columns)
        for patches in grid:
            drawn = torch.randperm(rows * columns, generator=generator)[:covered]
            patches[drawn.to(inputs.device)] = 1
        grid = grid.view(-1, 1, rows, columns)
        grid = grid.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        frame.copy_(grid[:, :, : frame.shape[2], : frame.shape[3]])
        return mask

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. The teacher predicts, and the student learns from the masked frame."""
        logits = self.predict(inputs, metas)
        self._mask = self.mask(inputs, metas)
        self._windows = self._cut(inputs, self._mask, logits.argmax(dim=1), metas)
        colour = self.adaptable_parameters()[COLOUR].detach().view(1, -1, 1, 1)
        self._shown = torch.lerp(inputs, colour.expand_as(inputs), self._mask)
        self._shown.requires_grad_(True)
        record = self.last_step
        record.loss, record.regularisation, record.confident_fraction = 0.0, 0.0, 1.0
        record.entropy = float(pixel_entropy(without_padding(logits, metas)).mean())
        self._cross_entropy = 0.0
        hook = self.segmentor.backbone.register_forward_hook(self._keep_maps)
        try:
            super().propose(self._shown, metas)
        finally:
            hook.remove()
        return logits

    def discard(self) -> None:
        """See base class. Also frees the frame."""
        super().discard()
        self._maps, self._windows, self._mask, self._shown = [], [], None, None

    def _cut(
        self, inputs: Tensor, mask: Tensor, labels: Tensor, metas: list[dict]
    ) -> list[_Window]:
        """The data of all sliding windows of a frame, in reverse order for ``learn``."""
        windows = []
        whole = torch.cat([inputs, mask, labels.unsqueeze(1).to(inputs)], dim=1)

        def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
            frame, seen, classes = without_padding(crop, window_metas).split(
                [inputs.shape[1], 1, 1], dim=1
            )
            place = padding_of(crop, window_metas[0])
            windows.append(_Window(frame, seen, classes[:, 0].long(), place))
            return crop.new_zeros(())

        over_windows(self.segmentor, whole, metas, run)
        return windows[::-1]

    def _keep_maps(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._maps = _maps(output)
        self._side = args[0].shape[2:]

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. Computes both losses of step 2 for one window."""
        window = self._windows.pop()
        cross_entropy = F.cross_entropy(logits, window.labels)
        colours = self.segmentor.get_submodule(RECONSTRUCTION)(self._maps, self._side)
        away = (colours[:, :, window.place[0], window.place[1]] - window.frame).abs()
        error = (away * window.mask).sum() / (away.shape[1] * window.mask.sum()).clamp(min=1)
        self._maps = []
        (share * (cross_entropy + self.reconstruction_weight * error)).backward()
        self._cross_entropy += share * float(cross_entropy.detach())
        record = self.last_step
        record.regularisation += share * float(error.detach())
        record.loss = self._cross_entropy + self.reconstruction_weight * record.regularisation

    def shifts(self) -> bool:
        """Whether the latest losses show a shift of the domain. If so, all parameters learn."""
        if int(self.updates) + 1 < len(self.recent_losses):
            return True
        return float(self.recent_losses.mean()) >= (1 + self.margin) * float(self.slow_loss)

    @torch.no_grad()
    def update(self) -> None:
        """See base class. First makes the choice of step 3 and computes the colour's gradient."""
        loss = self._cross_entropy
        self.recent_losses.copy_(self.recent_losses.roll(1))
        self.recent_losses[0] = loss
        if not self.shifts():
            for parameter in self._blocks:
                parameter.grad = None
        self.slow_loss.mul_(self.loss_momentum).add_(loss, alpha=1 - self.loss_momentum)
        colour = self.adaptable_parameters()[COLOUR]
        colour.grad = (self._shown.grad * self._mask).sum(dim=(0, 2, 3))
        super().update()
        self.updates += 1

    @torch.no_grad()
    def reset(self) -> None:
        """See base class; also resets the losses and the masks."""
        super().reset()
        self.recent_losses.zero_()
        self.slow_loss.zero_()
        self.updates.zero_()


class _Reconstruction(nn.Module):
    """Predicts colours: a 1x1 convolution on each map of the backbone, enlarged and summed."""

    def __init__(self, channels: list[int], colours: int, generator: torch.Generator) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(number, colours, 1) for number in channels)
        for conv in self.convs:
            nn.init.zeros_(conv.bias)
            start = torch.randn(conv.weight.shape, generator=generator) * 0.02
            conv.weight.data.copy_(start)

    def forward(self, maps: list[Tensor], side: tuple[int, int]) -> Tensor:
        """Maps (N, C_i, h_i, w_i) to (N, colours, H, W)."""
        # Under autocast the maps are narrower than the weights.
        colours = (conv(x.to(conv.weight)) for conv, x in zip(self.convs, maps))
        return sum(F.interpolate(c, side, mode='bilinear', align_corners=False) for c in colours)


def _maps(output: Any) -> list[Tensor]:
    """The (N, C, h, w) maps among the outputs of a backbone, in order."""
    if isinstance(output, Tensor):
        return [output] if output.dim() == 4 else []
    if isinstance(output, (list, tuple)):
        return [x for item in output for x in _maps(item)]
    return []


def _reconstruction(segmentor: nn.Module, like: Tensor, seed: int) -> _Reconstruction:
    """Builds the reconstruction network for the maps of a segmentor's backbone."""
    widths = [x.shape[1] for x in _maps(trial_outputs(segmentor.backbone))]
    if not widths:
        raise TypeError(
            'expected a backbone that gives its decode head feature maps (N, C, H, W), from which '
            f'frames can be reconstructed, but a {type(segmentor.backbone).__name__} gives none: '
            'choose another method, such as tent'
        )
    generator = torch.Generator().manual_seed(seed)
    return _Reconstruction(widths, input_channels(segmentor), generator).to(like)
