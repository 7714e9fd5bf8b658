"""SVDP: CoTTA with a sparse prompt on the pixels that the teacher is most uncertain of.

Taken from Yang et al., AAAI 2024 (arXiv 2303.09792), and their public code: the sparse visual
prompt, its placement by MC dropout (Domain Prompt Placement) and the teacher's rate for the prompt
by the uncertainty of the frame (Domain Prompt Updating). The docstring of the class lists the
differences.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..inference.dropout_variance import dropout_variance
from ..inference.padding import padding_of
from ..meta_networks.input_channels import input_channels
from ..registry import ADAPTATION_METHODS
from .cotta import CoTTA

PROMPT = 'prompt'


class _Placement(NamedTuple):
    """The pixels to which the prompt of a frame is added.

    Attributes:
        pixels: (N, k), indices into the H W pixels of each frame, the most uncertain first.
        uncertainty: Mean variance over the frame.
    """

    pixels: Tensor
    uncertainty: float


@ADAPTATION_METHODS.register_module(name='svdp')
class SVDP(CoTTA):
    """Sparse visual domain prompts (Yang et al., AAAI 2024, arXiv 2303.09792) on CoTTA.

    A prompt is a list of colours. The variance of the teacher's prediction under dropout is the
    uncertainty of a pixel. The i-th colour is added to the i-th most uncertain pixel of the frame.
    Student and teacher each have their own prompt, at the same pixels; the anchor predicts the
    plain frame. The student learns its prompt together with all its parameters. The teacher's
    prompt follows the student's with the momentum ``teacher_momentum`` - ``prompt_scale`` * mean
    uncertainty. CoTTA's random restoring does not change the prompt. Everything else is as in
    CoTTA.

    Deviations: the prompt starts at 0, so that the first prediction is the source's; in the public
    code it starts at random. A frame of any size has the same number of prompted pixels; the public
    code takes 0.001 of 960x540 pixels. The views are made from the frame with the prompt; the
    public code adds the prompt to the frame at each scale. The dropout removes channels (see
    ``dropout_variance``), and its random numbers depend on ``seed`` and the number of updates
    alone.

    Args:
        segmentor, optimizer: See ``CoTTA``.
        prompts: Number of prompted pixels, from 1 (518 in the public code: 0.001 of 960x540).
        prompt_scale: Factor of the uncertainty in the momentum, from 0 (0.1 in the public code).
        dropout_samples: Number of predictions under dropout, from 2 (10 in the public code).
        dropout_rate: 0 to below 1 (0.5 in the public code).
        **options: Options of ``CoTTA``.

    Raises:
        ValueError: An option is out of range.
    """

    beyond_one_forward = 'a prompt with a place of its own in each frame'

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        prompts: int = 518,
        prompt_scale: float = 0.1,
        dropout_samples: int = 10,
        dropout_rate: float = 0.5,
        **options,
    ) -> None:
        if prompts < 1 or prompt_scale < 0 or dropout_samples < 2 or not 0 <= dropout_rate < 1:
            raise ValueError(
                'expected prompts from 1, prompt_scale from 0, dropout_samples from 2 and '
                f'dropout_rate from 0 to below 1, got {prompts}, {prompt_scale}, '
                f'{dropout_samples} and {dropout_rate}'
            )
        like, channels = next(segmentor.parameters()), input_channels(segmentor)
        segmentor.register_parameter(PROMPT, nn.Parameter(like.new_zeros(prompts, channels)))
        self.prompt_scale = prompt_scale
        self.dropout_samples, self.dropout_rate = dropout_samples, dropout_rate
        self._placed: Optional[_Placement] = None
        super().__init__(segmentor, optimizer, **options)
        self.register_buffer('updates', like.new_zeros((), dtype=torch.int64))

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class. This is the prompt."""
        return {PROMPT: self.adaptable_parameters()[PROMPT]}

    @torch.no_grad()
    def place(self, inputs: Tensor, metas: list[dict]) -> _Placement:
        """Finds the pixels that the teacher is most uncertain of.

        Args:
            inputs: (N, 3, H, W).
            metas: Metainfo of the N samples.
        """
        with self.using(self.teacher):
            variance = dropout_variance(
                self.segmentor, inputs, metas,
                self.dropout_samples, self.dropout_rate, self.seed + int(self.updates),
            )  # fmt: skip
        rows, columns = padding_of(inputs, metas[0])
        frame = variance[:, :, rows, columns]
        # The padding ranks last, and at most as many pixels are chosen as the frame has, so no
        # pixel of the padding is chosen.
        ranked = torch.full_like(variance, -1.0)
        ranked[:, :, rows, columns] = frame
        count = min(len(self.teacher[PROMPT]), frame[0].numel())
        # Some pixels at the edges are equally uncertain. A stable sort orders them alike on all
        # devices.
        order = ranked.flatten(1).argsort(dim=1, descending=True, stable=True)
        return _Placement(order[:, :count], float(frame.mean()))

    def _prompted(self, inputs: Tensor, prompt: Tensor, pixels: Tensor) -> Tensor:
        """A copy of (N, 3, H, W) frames with the colours of a prompt added at some pixels."""
        colours = prompt[: pixels.shape[1]].T.expand(len(inputs), -1, -1)
        places = pixels.unsqueeze(1).expand_as(colours)
        flat = inputs.flatten(2)
        return flat.scatter_add(2, places, colours.to(flat)).view_as(inputs)

    def teacher_inputs(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Adds the teacher's prompt to a copy of the frames."""
        placed = self._placed or self.place(inputs, metas)
        return self._prompted(inputs, self.teacher[PROMPT], placed.pixels)

    def student_inputs(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Adds the student's prompt to a copy, which is a leaf with a gradient."""
        prompt = self.adaptable_parameters()[PROMPT].detach()
        prompted = self._prompted(inputs, prompt, self._placed.pixels)
        self._shown = prompted.requires_grad_(True)
        return self._shown

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. First finds the pixels for the prompt."""
        self._placed = self.place(inputs, metas)
        return super().propose(inputs, metas)

    def discard(self) -> None:
        """See base class. Also frees the frame."""
        super().discard()
        self._placed = self._shown = None

    def update(self) -> None:
        """See base class. First computes the prompt's gradient from that of the frame."""
        gradient = self._shown.grad.flatten(2)
        places = self._placed.pixels.unsqueeze(1).expand(-1, gradient.shape[1], -1)
        prompt = self.adaptable_parameters()[PROMPT]
        prompt.grad = torch.zeros_like(prompt)
        prompt.grad[: places.shape[2]] = gradient.gather(2, places).sum(dim=0).T
        super().update()
        self.updates += 1

    def momentum_of(self, name: str) -> float:
        """See base class. The teacher's prompt follows faster if the frame is more uncertain."""
        if name != PROMPT:
            return super().momentum_of(name)
        return max(0.0, self.teacher_momentum - self.prompt_scale * self._placed.uncertainty)

    @torch.no_grad()
    def restore(self) -> None:
        """See base class; does not change the prompt."""
        prompt = self.adaptable_parameters()[PROMPT]
        kept = prompt.detach().clone()
        super().restore()
        prompt.copy_(kept)

    def reset(self) -> None:
        """See base class. Also resets the counter of updates, which seeds the dropout."""
        super().reset()
        self.updates.zero_()
