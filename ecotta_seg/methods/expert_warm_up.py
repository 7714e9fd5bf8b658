"""The model that initialises BECoTTA's experts on source data with synthetic weather."""

from typing import Optional

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..datasets.weather.adverse_weather import AdverseWeather
from ..datasets.weather.weather_recipes import SEVERITIES
from ..layers.low_rank_experts import synergy_loss
from .becotta import attach_experts
from .warm_up import MetaNetworkWarmUp

_DOMAIN = 'made_weather'


@MODELS.register_module()
class ExpertWarmUp(MetaNetworkWarmUp):
    """A frozen source segmentor; its experts and routers learn (BECoTTA, arXiv 2402.08712).

    Each frame of a batch gets the synthetic weather of a random domain with a random severity. The
    loss is the decode head's loss plus ``synergy_weight`` times the synergy loss of the routers,
    averaged over the layers. The synergy loss needs the mean probabilities of the experts in every
    domain. If a batch has no frame of a domain, those of the latest batch with such a frame are
    used. The classifier of domains is measured on the same frames.

    Deviations: the public code translates the source images to rain, night and fog with generative
    networks before the training. Its synergy loss has no gradient, because its matrix is detached;
    here the loss is the mutual information of the paper, with gradients. The public weight, 0.0005,
    is for a sum about 20 times as large.

    Args:
        synergy_weight: Weight of the synergy loss, from 0.
        seed: Seed of the experts' initial weights.
        **options: Options of the base class.
    """

    def __init__(self, synergy_weight: float = 0.01, seed: int = 0, **options) -> None:
        self._seed = seed
        super().__init__(**options)
        self.synergy_weight = synergy_weight
        layers = self.encoder.meta_networks
        self.domains = layers[0].domains
        # (layers, D, E), the mean probabilities of the latest batch that had the domain.
        experts = layers[0].route.shape[1]
        self._rows = torch.full((len(layers), len(self.domains), experts), 1 / experts)
        self.data_preprocessor.register_forward_pre_hook(self._add_weather)

    def attach(self, model: nn.Module, frozen_norm: Optional[dict]) -> None:
        """See base class."""
        attach_experts(model, self.encoder_options, self._seed)

    def _add_weather(self, preprocessor: nn.Module, args: tuple) -> Optional[tuple]:
        data, *training = args
        if training != [True]:
            return None
        frames = []
        for frame, sample in zip(data['inputs'], data['data_samples']):
            number = int(torch.randint(len(self.domains), ()))
            severity = SEVERITIES[int(torch.randint(len(SEVERITIES), ()))]
            picture = frame.permute(1, 2, 0).contiguous().cpu().numpy()
            weather = AdverseWeather(self.domains[number], severity)
            picture = weather.transform(dict(img=picture))['img']
            frames.append(torch.from_numpy(picture.copy()).permute(2, 0, 1).to(frame.device))
            sample.set_metainfo({_DOMAIN: number})
        return (dict(data, inputs=frames), True)

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None, mode: str = 'tensor'):
        """See base class; mode 'loss' adds the synergy loss."""
        if mode != 'loss':
            return super().forward(inputs, data_samples, mode)
        numbers = [sample.metainfo[_DOMAIN] for sample in data_samples]
        domains = torch.tensor(numbers, device=inputs.device)
        layers = self.encoder.meta_networks
        layers[0].choice.given = domains
        try:
            losses = super().forward(inputs, data_samples, mode)
        finally:
            layers[0].choice.given = None
        loss = self._synergy([layer.assigned for layer in layers], domains)
        return {**losses, 'loss_synergy': self.synergy_weight * loss}

    def _synergy(self, assigned: list[Tensor], domains: Tensor) -> Tensor:
        """The mean synergy loss of the layers.

        Args:
            assigned: For each layer (N, E).
            domains: (N,) int64.
        """
        member = nn.functional.one_hot(domains, len(self.domains)).to(assigned[0])
        counts = member.sum(dim=0).unsqueeze(1)
        seen = member.T @ torch.stack(assigned) / counts.clamp(min=1)
        rows = torch.where(counts > 0, seen, self._rows.to(seen))
        self._rows = rows.detach()
        return torch.stack([synergy_loss(matrix) for matrix in rows]).mean()
