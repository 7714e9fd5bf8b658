"""The models, frames and methods that the memory benchmark compares, built from one config."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from math import isfinite
from typing import Callable, NamedTuple, Optional, Union

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..files.checkpoint import load_source
from ..meta_networks import input_channels
from ..methods import build_method
from ..startup.memory_budget import parse_budget
from .full_fine_tuning import FullFineTuning

METHODS = (
    'inference', 'tent_plain', 'tent', 'full', 'cotta_plain', 'cotta', 'ecotta_plain',
    'ecotta_lean', 'ecotta',
)  # fmt: skip
# About the standard deviation of a trained head's logits over the classes. The logits of a random
# head are almost equal.
_SPREAD = 4.0


class Frame(NamedTuple):
    """A frame as a method receives it.

    Attributes:
        inputs: (1, C, H, W), preprocessed; C is the model's number of input channels.
        metas: The metainfo of one sample.
    """

    inputs: Tensor
    metas: list[dict]


def make_frame(height: int, width: int, device='cpu', seed: int = 0, channels: int = 3) -> Frame:
    """A frame of noise; the memory and time of a step do not depend on the frame's content."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(1, channels, height, width, generator=generator).to(device)
    size = (height, width)
    return Frame(inputs, [dict(img_shape=size, ori_shape=size, pad_shape=size)])


def channels_of(cfg: Config) -> int:
    """The number of input channels of a config's model.

    Raises:
        ValueError: The config has no mmseg model.
    """
    return input_channels(_built(_model_config(cfg)))


def _model_config(cfg: Config) -> Mapping:
    if not isinstance(cfg.get('model'), Mapping):
        raise ValueError('expected a config with a `model`')
    return cfg.model


def _built(config: Mapping) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(deepcopy(config))


class ModelSource:
    """Builds copies of the same segmentor.

    Without a checkpoint the weights are random, and the classifier's weights are scaled so that the
    logits differ as much as a trained model's. Without the scale, a method that learns from
    confident pixels would find none and skip its backward, and its measured memory would be too
    low.

    Args:
        cfg: A loaded config with a ``model``.
        frame: The frame on which the scale is determined.
        checkpoint: Path of the weights; None for random weights.
        trust: If True, a checkpoint that runs code when it is loaded is allowed.
        seed: Seed of the random weights.

    Raises:
        ValueError: The config has no mmseg model, or the checkpoint belongs to another model.
    """

    def __init__(
        self,
        cfg: Config,
        frame: Frame,
        checkpoint: Optional[str] = None,
        trust: bool = False,
        seed: int = 0,
    ) -> None:
        self.config = deepcopy(_model_config(cfg))
        # The model runs on the whole frame, independent of the config's test mode.
        self.config['test_cfg'] = dict(mode='whole')
        self.device, self.seed = frame.inputs.device, seed
        self.checkpoint, self.trust = checkpoint, trust
        self._scale: Optional[float] = None
        if checkpoint is None:
            with torch.no_grad():
                logits = self.build().encode_decode(*frame)
            spread = float(logits.std(dim=1).mean())
            if isfinite(spread) and spread > 0:
                self._scale = _SPREAD / spread

    def build(self) -> nn.Module:
        """A new, unadapted ``EncoderDecoder`` in evaluation mode."""
        torch.manual_seed(self.seed)
        segmentor = _built(self.config)
        if self.checkpoint is not None:
            load_source(segmentor, self.checkpoint, self.trust)
        if self._scale is not None:
            heads = segmentor.decode_head
            head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
            # Some heads have no ``conv_seg`` (Segmenter's mask head); their logits stay unscaled.
            if isinstance(getattr(head, 'conv_seg', None), nn.Module):
                with torch.no_grad():
                    for parameter in head.conv_seg.parameters():
                        parameter.mul_(self._scale)
        return revert_sync_batchnorm(segmentor).to(self.device).eval()


class Candidate(NamedTuple):
    """A row to measure: a name, a function that builds the method, and a memory budget or None."""

    name: str
    build: Callable[[nn.Module], nn.Module]
    budget: Optional[str] = None


def _plainly(build: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """Returns a function that builds the same method with plain autograd, not lean autograd."""

    def build_plain(segmentor: nn.Module) -> nn.Module:
        method = build(segmentor)
        method.lean = False
        return method

    return build_plain


def without_budget(options: Mapping) -> dict:
    """The options of a method without its memory budget and the choice of its engine."""
    return {key: value for key, value in options.items() if not key.startswith('memory_')}


def make_candidates(
    presets: Mapping[str, dict],
    budgets: Iterable[Union[str, int]],
    methods: Iterable[str] = METHODS,
    others: Optional[Mapping[str, dict]] = None,
) -> list[Candidate]:
    """Returns the rows of a memory benchmark, without the first row ``inference``.

    Args:
        presets: Options of ``tent``, ``cotta`` and ``ecotta`` (a method with meta networks), as
            for ``build_method``.
        budgets: Budgets for ``ecotta``, see ``parse_budget``; ``ecotta`` always also has a row
            without a budget.
        methods: Names from ``METHODS`` and ``others``.
        others: More rows: for each name, the options of the method, as for ``build_method``.

    Raises:
        ValueError: A method is unknown, or a budget is invalid.
    """
    others = others or {}
    methods = list(dict.fromkeys(methods))
    for name in methods:
        if name not in METHODS and name not in others:
            raise ValueError(f'unknown method {name!r}: expected some of {", ".join(METHODS)}')
    budgets = list(dict.fromkeys(str(budget) for budget in budgets))
    for budget in budgets:
        parse_budget(budget, 1)
    ecotta = without_budget(presets['ecotta'])

    def of(options: dict) -> Callable[[nn.Module], nn.Module]:
        return lambda segmentor: build_method(deepcopy(options), segmentor)

    optimizer = presets['tent'].get('optimizer')
    cotta, without_engine = dict(presets['cotta'], views=1), dict(ecotta, memory_engine=False)
    found = {
        **{name: [Candidate(name, of(options))] for name, options in others.items()},
        'tent_plain': [Candidate('tent_plain', _plainly(of(presets['tent'])))],
        'tent': [Candidate('tent', of(presets['tent']))],
        'full': [Candidate('full', _plainly(lambda model: FullFineTuning(model, optimizer)))],
        'cotta_plain': [Candidate('cotta_plain', _plainly(of(cotta)))],
        'cotta': [Candidate('cotta', of(cotta))],
        'ecotta_plain': [Candidate('ecotta_plain', _plainly(of(without_engine)))],
        'ecotta_lean': [Candidate('ecotta_lean', of(without_engine))],
        'ecotta': [Candidate('ecotta@fastest', of(ecotta))]
        + [
            Candidate(f'ecotta@{budget}', of(dict(ecotta, memory_budget=budget)), budget)
            for budget in budgets
        ],
    }
    return [row for name in methods if name != 'inference' for row in found[name]]
