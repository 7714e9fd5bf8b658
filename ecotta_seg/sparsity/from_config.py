"""Makes a sparse checkpoint from a config and a checkpoint."""

import argparse
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import nn

from ..datasets.clear_frames import ClearFrames
from ..files.checkpoint import load_source, read_checkpoint
from ..files.compressed_size import compressed_size
from ..files.torch_file import save_whole
from ..hooks.calibration import clear_frames, frame_steps
from .allocation import search_cuts
from .calls import called_layers, windows_of
from .fidelity import CutFitness, agreement, logits_of
from .masks import MaskRule, cuttable_weights, magnitude_mask, takes_two_of_four, two_of_four_mask
from .reconstruction import cut_weights, reconstruct

# Number of frames that rate an allocation. The search only compares ratings, so a few suffice.
_RATING_FRAMES = 4


def sparsify_from_config(cfg: Config, path: Path, args: argparse.Namespace) -> Iterator[str]:
    """Cuts weights of a config's model and writes the checkpoint.

    Args:
        cfg: The config.
        path: The file to write.
        args: The parsed arguments of ``tools/sparsify.py``.

    Yields:
        Messages on the progress and the result.

    Raises:
        ValueError: The checkpoint does not fit, there is no clear frame, or no weight can be cut.
        OSError: The file cannot be written.
    """
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(deepcopy(cfg.model))
        load_source(model, args.checkpoint, args.trust_checkpoint)
        model = revert_sync_batchnorm(model).to(device).eval().requires_grad_(False)
        frames = windows_of(model, _frames(cfg, model, args))
    dense = deepcopy(model)
    weights = cuttable_weights(model, called_layers(model, frames[0]), args.keep)
    if args.pattern:
        fit = {name: weight for name, weight in weights.items() if takes_two_of_four(weight)}
        if not fit:
            raise ValueError('no layer has a multiple of four input channels: use --sparsity')
        if len(fit) < len(weights):
            yield f'{len(weights) - len(fit)} layers do not come in groups of four and stay dense'
        weights = fit
        cuts = {name: weight.numel() // 2 for name, weight in weights.items()}
        rule: MaskRule = _pattern_rule
    else:
        cuts = _allocation(model, frames, weights, args)
        rule = _counting_rule(cuts)
    total, number = sum(cuts.values()), sum(weight.numel() for weight in weights.values())
    yield (
        f'{total} of {number} weights in {len(weights)} layers are cut ({total / number:.1%}); '
        f'the model has {sum(p.numel() for p in model.parameters())} parameters'
    )
    if total:
        yield from _cut(model, dense, frames, weights, rule, args.steps)
    _write(model, path, args, dict(
        pattern=args.pattern or 'unstructured',
        sparsity=total / number,
        layers={name: cuts[name] / weight.numel() for name, weight in weights.items()},
    ))  # fmt: skip
    before, after = compressed_size(args.checkpoint), compressed_size(path)
    yield (
        f'{path}: {path.stat().st_size / 1e6:.2f} MB, compressed {after / 1e6:.2f} MB (the dense '
        f'checkpoint {before / 1e6:.2f} MB)'
    )


def _frames(cfg: Config, model: nn.Module, args: argparse.Namespace) -> ClearFrames:
    loaders = [cfg.get('calibration_dataloader'), cfg.get('forgetting_dataloader')]
    steps = () if args.calibrate is None else frame_steps(cfg)
    frames = clear_frames(Runner, model, args.frames, args.calibrate, steps, loaders)
    if not frames:
        raise ValueError(
            f'{args.config} has no clear frames: expected --calibrate DIR, a folder with a dozen '
            'pictures of clear weather, or a `calibration_dataloader` or `forgetting_dataloader` '
            'in the config'
        )
    return frames


def _allocation(
    model: nn.Module,
    frames: ClearFrames,
    weights: Mapping[str, nn.Parameter],
    args: argparse.Namespace,
) -> dict[str, int]:
    sizes = {name: weight.numel() for name, weight in weights.items()}
    fitness = CutFitness(model, frames[:_RATING_FRAMES], weights, seed=args.seed or 0)
    generations = args.generations
    # With 0 generations only the uniform allocation is rated.
    population = 8 if generations else 1
    return search_cuts(
        sizes, args.sparsity, fitness, population, max(generations, 1), seed=args.seed or 0
    )


def _counting_rule(cuts: Mapping[str, int]) -> MaskRule:
    return lambda name, weight: magnitude_mask(weight, cuts[name])


def _pattern_rule(name: str, weight: torch.Tensor) -> torch.Tensor:
    return two_of_four_mask(weight)


def _cut(
    model: nn.Module,
    dense: nn.Module,
    frames: ClearFrames,
    weights: Mapping[str, nn.Parameter],
    rule: MaskRule,
    steps: int,
) -> Iterator[str]:
    logits = logits_of(dense, frames)
    plain = deepcopy(dense)
    cut_weights({name: plain.get_parameter(name) for name in weights}, rule)
    alone = agreement(logits, logits_of(plain, frames))
    del plain
    for block in reconstruct(model, dense, frames, weights, rule, steps):
        yield (
            f'{block.name}: error of the output {block.before:.4f}, reconstructed '
            f'{block.after:.4f}; {block.regrown} weights grew back'
        )
    same = agreement(logits, logits_of(model, frames))
    yield (
        f'on the {len(frames)} clear frames {same:.1%} of the pixels have the class of the dense '
        f'network ({alone:.1%} if cut by magnitude alone)'
    )


def _write(model: nn.Module, path: Path, args: argparse.Namespace, facts: dict[str, Any]) -> None:
    checkpoint = read_checkpoint(args.checkpoint, args.trust_checkpoint)
    learned = dict(model.named_parameters())
    state = {}
    for key, value in checkpoint['state_dict'].items():
        parameter = learned.get(key.removeprefix('module.'))
        state[key] = value if parameter is None else parameter.detach().to(value).clone()
    meta = dict(checkpoint.get('meta') or {}, sparsity=facts)
    save_whole({'state_dict': state, 'meta': meta}, path)
