"""Meta networks between the blocks of a backbone that nobody has described."""

from collections.abc import Sequence
from math import prod
from typing import Any, Optional

from torch import Tensor, nn

from ..layers.calibrated_features import CalibratedFeatures
from .meta_encoder import MetaEncoder
from .meta_network import MetaNetwork
from .partition import check_split
from .trace import TracedBlock, find_blocks


class TracedEncoder(MetaEncoder):
    """A frozen backbone of any kind with meta networks between the blocks that a trace finds.

    As in EcoTTA (arXiv 2303.01904) the blocks are divided into K parts, and meta network k takes
    the input of its part and changes the output of its part, which the next block gets. The
    backbone runs by its own ``forward``: hooks on the first and on the last block of a part pass
    input and output to the meta network. Ours: the parts are found by a run (see ``find_blocks``).
    If other operations lie between two blocks of a part (a ReLU, a sum of branches), the meta
    network sits on the chain of blocks with most parameters.

    Tokens (N, L, C) are treated as a map if the block is called with the map's size, as (H, W) or
    as two numbers, and as a map of one column otherwise.

    Args:
        backbone: See base class. The trace runs it on an empty frame, in evaluation mode.
        num_parts: Maximum number of meta networks, K.
        split: Blocks per part; None for the paper's proportions.
        layer: The class of a meta network.
        blocks: The result of ``find_blocks``, if it is known; None to run the trace.
        **meta_network: Options of this class.

    Attributes:
        split: Blocks per part.
        parts: The names of the blocks of each part, between whose first and last the meta network
            sits.

    Raises:
        TypeError: The backbone runs on no frame of a usual size, or the trace finds no block.
        ValueError: The split does not add up, or an option has a wrong value.
    """

    kind = 'traced'

    def __init__(
        self,
        backbone: nn.Module,
        num_parts: int = 4,
        split: Optional[Sequence[int]] = None,
        layer: type[nn.Module] = MetaNetwork,
        blocks: Optional[Sequence[TracedBlock]] = None,
        **meta_network,
    ) -> None:
        super().__init__(backbone)
        blocks = find_blocks(backbone) if blocks is None else blocks
        if not blocks:
            raise TypeError(
                'expected a backbone with blocks in a list of modules, but a trace finds none in a '
                f'{type(backbone).__name__}: leave out meta_networks.traced'
            )
        if split is None:
            num_parts = min(num_parts, len(blocks))
        self.split = check_split(split, num_parts, len(blocks))
        self.parts: list[tuple[str, ...]] = []
        self._shapes: list[TracedBlock] = []
        self._running = False
        self._inputs: dict[int, Tensor] = {}
        start = 0
        for number, size in enumerate(self.split):
            part = _largest_chain(blocks[start : start + size])
            start += size
            self.parts.append(tuple(block.name for block in part))
            self._shapes.append(part[-1])
            self.meta_networks.append(
                layer(
                    in_channels=part[0].in_channels,
                    out_channels=part[-1].out_channels,
                    stride=prod(block.stride for block in part),
                    **meta_network,
                )
            )
            first, last = (backbone.get_submodule(part[i].name) for i in (0, -1))
            first.register_forward_pre_hook(_TakeInput(self, number))
            last.register_forward_hook(_ChangeOutput(self, number))
            # A module with a meta network runs once a frame, so no plan recomputes it.
            first.holds_meta_network = last.holds_meta_network = True

    def align_features(self, **options) -> list[CalibratedFeatures]:
        """See base class: at the end of each part, before its meta network."""
        for block in self._shapes:
            self.aligners.append(CalibratedFeatures(block.out_channels, **options))
        return list(self.aligners)

    def forward(self, image: Tensor):
        """Encodes frames.

        Args:
            image: (N, 3, H, W) float, normalised as the segmentor's data preprocessor does.

        Returns:
            The outputs of the backbone, adapted.
        """
        self._running = True
        try:
            return self.backbone(image)
        finally:
            self._running = False
            self._inputs.clear()

    def take_input(self, part: int, args: tuple) -> None:
        """Stores the input of a part, if the encoder is running."""
        if self._running and not self._bypassed:
            self._inputs[part] = args[0]

    def change_output(self, part: int, args: tuple, output: Tensor) -> Optional[Tensor]:
        """Returns the adapted output of a part; None, no change, if the encoder is not running."""
        if not self._running:
            return None
        frozen = _as_map(output, args)
        if self.aligners:
            frozen = self.aligners[part](frozen)
        if self._bypassed:
            return _like(output, frozen) if self.aligners else None
        adapted = self.meta_networks[part](frozen, _as_map(self._inputs.pop(part), args))
        self.record(frozen, adapted, self.meta_networks[part])
        return _like(output, adapted)


class _Hook:
    """A hook of a part that is copied with its encoder, which a function would not be."""

    def __init__(self, encoder: TracedEncoder, part: int) -> None:
        self.encoder, self.part = encoder, part


class _TakeInput(_Hook):
    def __call__(self, module: nn.Module, args: tuple) -> None:
        self.encoder.take_input(self.part, args)


class _ChangeOutput(_Hook):
    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> Optional[Tensor]:
        return self.encoder.change_output(self.part, args, output)


def _largest_chain(blocks: Sequence[TracedBlock]) -> list[TracedBlock]:
    """Of the chains of blocks without another operation in between, that with most parameters."""
    chains: list[list[TracedBlock]] = []
    for block in blocks:
        if chains and block.follows:
            chains[-1].append(block)
        else:
            chains.append([block])
    return max(chains, key=lambda chain: sum(block.parameters for block in chain))


def _as_map(x: Tensor, args: tuple) -> Tensor:
    """(N, C, H, W) of a map or of tokens (N, L, C)."""
    if x.dim() == 4:
        return x
    height, width = _grid(x.shape[1], args)
    return x.transpose(1, 2).unflatten(2, (height, width))


def _like(output: Tensor, x: Tensor) -> Tensor:
    """A map (N, C, H, W) as tokens, if the output of the block is tokens."""
    return x if output.dim() == 4 else x.flatten(2).transpose(1, 2)


def _grid(tokens: int, args: tuple) -> tuple[int, int]:
    """The size of the map that the tokens come from, read from a block's arguments."""
    pairs: list[Any] = [arg for arg in args if isinstance(arg, (list, tuple)) and len(arg) == 2]
    numbers = [arg for arg in args if isinstance(arg, int) and not isinstance(arg, bool)]
    pairs += [numbers[:2]] if len(numbers) >= 2 else []
    for height, width in pairs:
        if isinstance(height, int) and isinstance(width, int) and height * width == tokens:
            return height, width
    return tokens, 1
