"""The model that warms up meta networks on source data (EcoTTA, arXiv 2303.01904, Section 3.1)."""

from typing import Optional

from mmengine.model import BaseModel
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import ModuleList

from ..files.checkpoint import load_source
from ..memory.lean.autograd_ops.gelu import mend_gelus
from ..meta_networks import prepare_meta_networks


def source_model(segmentor: dict, checkpoint: str, trust_checkpoint: bool = False) -> nn.Module:
    """Builds a segmentor and loads the source's weights; see ``MetaNetworkWarmUp``."""
    model = MODELS.build(segmentor)
    load_source(model, checkpoint, trust_checkpoint)
    return model


@MODELS.register_module()
class MetaNetworkWarmUp(BaseModel):
    """A frozen source segmentor whose meta networks alone are trained, with the decode head's loss.

    Args:
        segmentor: Config of the source model.
        checkpoint: Path of the source model's weights.
        meta_networks: See ``prepare_meta_networks``.
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
        model = source_model(segmentor, checkpoint, trust_checkpoint)
        super().__init__(data_preprocessor=model.data_preprocessor)
        self.encoder_options = dict(meta_networks)
        self.attach(model, frozen_norm)
        mend_gelus(model)
        self.segmentor = model

    def attach(self, model: nn.Module, frozen_norm: Optional[dict]) -> None:
        """Attaches the meta networks to the source model."""
        prepare_meta_networks(model, self.encoder_options, frozen_norm)

    @property
    def encoder(self):
        """The ``MetaEncoder`` whose meta networks are trained."""
        return self.segmentor.backbone

    def init_weights(self) -> None:
        """Does nothing, because the source's weights are already loaded."""

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
            data_samples: The samples of the frames. Mode 'loss' needs samples with labels.
            mode: 'loss' returns the decode head's losses (cross-entropy in mmseg's configs),
                'predict' returns data samples, and 'tensor' returns raw logits.

        Raises:
            TypeError: The head's loss needs outputs that exist only in training mode (DDRNet,
                PIDNet, K-Net); here all frozen modules stay in evaluation mode.
        """
        if mode != 'loss':
            return self.segmentor(inputs, data_samples, mode)
        features = self.segmentor.extract_feat(inputs)
        head = self.segmentor.decode_head
        if isinstance(head, ModuleList):
            # Each head runs on the output of the previous head (OCRNet, PointRend).
            return self.segmentor._decode_head_forward_train(features, data_samples)
        try:
            losses = head.loss(features, data_samples, self.segmentor.train_cfg or {})
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            if type(head).loss_by_feat is BaseDecodeHead.loss_by_feat:
                raise
            raise TypeError(
                'expected a decode head whose loss uses only its output in evaluation mode, but '
                f'the loss of {type(head).__name__} uses more: an identity start '
                "(start='identity') needs no warm-up"
            ) from error
        return {f'decode.{name}': value for name, value in losses.items()}
