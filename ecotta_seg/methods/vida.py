"""ViDA: low-rank and high-rank adapters, weighed by the uncertainty of the teacher.

Taken from Liu et al., ICLR 2024 (arXiv 2306.04344), and their public code for classification: the
adapters (Eq. 1), the uncertainty (Eq. 4), homeostatic knowledge allotment (Eq. 5) and the
consistency loss of teacher and student (Eq. 6). The docstring of the class lists the differences.
"""

from typing import Optional

import torch
from torch import Tensor, nn

from ..inference.dropout_variance import dropout_variance
from ..inference.padding import without_padding
from ..inference.windows import predict_frames
from ..layers.losses import pixel_entropy, symmetric_cross_entropy
from ..layers.rank_adapters import RankAdapters
from ..layers.replace_norms import replace_trained_norms
from ..registry import ADAPTATION_METHODS
from .teacher import TeacherAdaptation, train_all

ADAPTERS = 'rank_adapters'


@ADAPTATION_METHODS.register_module(name='vida')
class ViDA(TeacherAdaptation):
    """Homeostatic visual domain adapters (Liu et al., ICLR 2024, arXiv 2306.04344).

    For each frame:

    1. The uncertainty U is the mean over pixels of the standard deviation of the teacher's
       probabilities under dropout. If U is at least ``threshold``, the high-rank adapters have the
       weight 1 + U and the low-rank adapters 1 - U. Otherwise the high-rank adapters have the
       weight 1 - U and the low-rank adapters 1 + U.
    2. The teacher predicts. **This prediction is scored**, as in the public code.
    3. The student learns by the symmetric cross-entropy with the teacher's probabilities. All its
       parameters learn; the adapters have ``adapter_rate`` times the learning rate of the others.
    4. The teacher moves: momentum * teacher + (1 - momentum) * student, with ``adapter_momentum``
       for the adapters and ``teacher_momentum`` for all other parameters.

    Deviations: all linear layers, convolutions and attention projections of the backbone have
    adapters, as the paper allows; in the public code only the attention of a ViT has them. The
    adapters are merged into the weights (see ``RankAdapters``). There is no warm-up on source data,
    so at first the adapters change nothing and the first prediction is the source's. While the
    uncertainty is measured, both adapters have the weight 1. The dropout removes channels (see
    ``dropout_variance``); the public code measures the variance over ten views instead.

    Args:
        segmentor: The source model. All its parameters are trained except an auxiliary head's.
        optimizer: A config of a torch optimizer.
        low_rank, high_rank: Ranks of the adapters, from 1 (1 and 128 in the public code).
        adapter_rate: Learning rate of the adapters as a multiple of that of the other parameters,
            from 0.
        threshold: Θ, the limit of the uncertainty in step 1, from 0 (0.2 in the paper).
        teacher_momentum, adapter_momentum: 0 to 1.
        dropout_samples: Number of predictions under dropout, from 2 (10 in the paper).
        dropout_rate: 0 to below 1.
        batch_norm: As in ``CoTTA``, but None means the source's statistics, so that the first
            prediction is the source's.
        seed: Seed of the adapters' initial weights and of the dropout.

    Raises:
        ValueError: An option is out of range.
    """

    beyond_one_forward = 'adapters that each frame weighs'

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        low_rank: int = 1,
        high_rank: int = 128,
        adapter_rate: float = 1.0,
        threshold: float = 0.2,
        teacher_momentum: float = 0.999,
        adapter_momentum: float = 0.999,
        dropout_samples: int = 10,
        dropout_rate: float = 0.5,
        batch_norm: Optional[dict] = None,
        seed: int = 0,
    ) -> None:
        momenta = (teacher_momentum, adapter_momentum)
        if (
            min(low_rank, high_rank) < 1
            or min(adapter_rate, threshold) < 0
            or not all(0 <= momentum <= 1 for momentum in momenta)
            or dropout_samples < 2
            or not 0 <= dropout_rate < 1
        ):
            raise ValueError(
                'expected low_rank and high_rank from 1, adapter_rate and threshold from 0, '
                'teacher_momentum and adapter_momentum from 0 to 1, dropout_samples from 2 and '
                f'dropout_rate from 0 to below 1, got {low_rank}, {high_rank}, {adapter_rate}, '
                f'{threshold}, {teacher_momentum}, {adapter_momentum}, {dropout_samples} and '
                f'{dropout_rate}'
            )
        super().__init__(segmentor, optimizer, teacher_momentum)
        replace_trained_norms(segmentor, batch_norm or dict(mode='source'))
        self.adapters = RankAdapters(segmentor.backbone, 'backbone.', low_rank, high_rank, seed)
        segmentor.add_module(ADAPTERS, self.adapters)
        train_all(segmentor)
        self.adapter_rate, self.threshold, self.seed = adapter_rate, threshold, seed
        self.adapter_momentum = adapter_momentum
        self.dropout_samples, self.dropout_rate = dropout_samples, dropout_rate
        one = next(segmentor.parameters()).new_ones(())
        # The number of updates; with the seed it chooses the dropout of the next frame.
        self.register_buffer('updates', torch.zeros_like(one, dtype=torch.int64))
        self.start()

    def build_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """See base class. The adapters have their own learning rate."""
        optimizer = super().build_optimizer(parameters)
        if self.layer_weights is None and self.adapter_rate != 1:
            own = {id(p) for p in self.adapters.parameters()}
            rest = [p for p in parameters if id(p) not in own]
            rate = self.adapter_rate * optimizer.param_groups[0]['lr']
            groups = [dict(params=rest), dict(params=list(self.adapters.parameters()), lr=rate)]
            optimizer = super().build_optimizer(groups)
        return optimizer

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class."""
        return {f'{ADAPTERS}.{name}': p for name, p in self.adapters.named_parameters()}

    def merged(self, tensors: dict[str, Tensor], scales: tuple[float, float]) -> dict[str, Tensor]:
        """Returns the parameters with the adapters merged into the weights, for ``using``.

        Args:
            tensors: The parameters by name.
            scales: The weights of the low-rank and the high-rank adapters.
        """
        return self.adapters.merged(tensors, f'{ADAPTERS}.', *scales)

    @torch.no_grad()
    def scales(self, inputs: Tensor, metas: list[dict]) -> tuple[float, float]:
        """Step 1: the weights of the low-rank and the high-rank adapters.

        Args:
            inputs: (N, 3, H, W).
            metas: Metainfo of the N samples.
        """
        with self.using(self.merged(self.teacher, (1.0, 1.0))):
            variance = dropout_variance(
                self.segmentor, inputs, metas,
                self.dropout_samples, self.dropout_rate, self.seed + int(self.updates),
            )  # fmt: skip
        uncertainty = float(without_padding(variance, metas).sqrt().mean())
        if uncertainty >= self.threshold:
            return 1 - uncertainty, 1 + uncertainty
        return 1 + uncertainty, 1 - uncertainty

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Returns the teacher's prediction."""
        return self._teaching(inputs, metas, self.scales(inputs, metas))

    def _teaching(self, inputs: Tensor, metas: list[dict], scales: tuple[float, float]) -> Tensor:
        with self.using(self.merged(self.teacher, scales)):
            return predict_frames(self.segmentor, inputs, metas)

    @torch.no_grad()
    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. The initial adapters change nothing, so they are not merged."""
        with self.using(self._initial):
            return predict_frames(self.segmentor, inputs, metas)

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. The teacher predicts, and the student learns."""
        self._scales = self.scales(inputs, metas)
        with torch.no_grad():
            logits = self._teaching(inputs, metas, self._scales)
        self.give_labels(logits, inputs, metas)
        record = self.last_step
        record.loss, record.confident_fraction = 0.0, 1.0
        record.entropy = float(pixel_entropy(without_padding(logits, metas)).mean())
        own = {name: p.data for name, p in self.adaptable_parameters().items()}
        self._give(self.merged(own, self._scales))
        try:
            super().propose(inputs, metas)
        finally:
            self._give(own)
        self.free_labels()
        return logits

    def _give(self, tensors: dict[str, Tensor]) -> None:
        """Makes ``tensors`` the data of the adaptable parameters, without a copy."""
        for name, parameter in self.adaptable_parameters().items():
            parameter.data = tensors[name]

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The loss is the symmetric cross-entropy with the teacher (Eq. 6)."""
        loss = share * symmetric_cross_entropy(logits, self.next_labels()).mean()
        loss.backward()
        self.last_step.loss += float(loss.detach())

    def update(self) -> None:
        """See base class. First computes the adapters' gradients from the merged weights'."""
        self.adapters.give_gradients(self.adaptable_parameters(), *self._scales)
        super().update()
        self.updates += 1

    def momentum_of(self, name: str) -> float:
        """See base class. Returns the momentum in step 4."""
        own = name.startswith(f'{ADAPTERS}.')
        return self.adapter_momentum if own else self.teacher_momentum

    @torch.no_grad()
    def reset(self) -> None:
        """See base class. Also resets the counter of updates, which seeds the dropout."""
        super().reset()
        self.updates.zero_()
