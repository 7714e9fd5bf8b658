"""The model that warms up meta networks on source data (EcoTTA, arXiv 2303.01904, Section 3.1)."""

from typing import Optional

from mmengine.model import BaseModel
from mmseg.registry import MODELS
from torch import Tensor

from .adaptation import prepare_meta_networks
from .checkpoint import load_source


@MODELS.register_module()
class MetaNetworkWarmUp(BaseModel):
    """A frozen source segmentor whose meta networks alone are trained, with its own head's loss.

    Args:
        segmentor: Config of the source model.
        checkpoint: Its weights.
        meta_networks: Options of ``AdaptedEncoder`` and ``MetaNetwork``.
        frozen_norm: ``mode`` and ``weight`` of ``AdaptiveBatchNorm2d``.
        trust_checkpoint: See ``read_checkpoint``.
    """

    def __init__(
        self,
        segmentor: dict,
        checkpoint: str,
        meta_networks: dict,
        frozen_norm: Optional[dict] = None,
        trust_checkpoint: bool = False,
    ) -> None:
        model = MODELS.build(segmentor)
        load_source(model, checkpoint, trust_checkpoint)
        super().__init__(data_preprocessor=model.data_preprocessor)
        self.encoder_options = dict(meta_networks)
        prepare_meta_networks(model, self.encoder_options, frozen_norm)
        self.segmentor = model

    @property
    def encoder(self):
        """The ``AdaptedEncoder`` whose meta networks are trained."""
        return self.segmentor.backbone

    def init_weights(self) -> None:
        """Nothing: the weights are the source's."""

    def train(self, mode: bool = True) -> 'MetaNetworkWarmUp':
        """Only the meta networks train; frozen norms and dropout stay in evaluation mode."""
        super().train(False)
        self.training = mode
        self.encoder.meta_networks.train(mode)
        return self

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None, mode: str = 'tensor'):
        """mmengine's model interface.

        Args:
            inputs: (N, 3, H, W), preprocessed.
            data_samples: With labels for mode 'loss'.
            mode: 'loss' gives the decode head's losses (cross-entropy in mmseg's configs),
                'predict' data samples, 'tensor' raw logits.
        """
        if mode != 'loss':
            return self.segmentor(inputs, data_samples, mode)
        features = self.segmentor.extract_feat(inputs)
        losses = self.segmentor.decode_head.loss(
            features, data_samples, self.segmentor.train_cfg or {}
        )
        return {f'decode.{name}': value for name, value in losses.items()}
