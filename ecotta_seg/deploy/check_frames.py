"""Frames on which an exported network is compared with the network in torch."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple, Optional

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from torch import Tensor, nn

from ..apis.frame_files import FrameSource
from ..apis.init_segmentor import frame_pipeline
from ..config.checks import check_data_root
from ..datasets.scenes.driving_scenes import draw_scene
from ..meta_networks import input_channels

# Scales of the frames' sides. With several sizes, the check finds a graph that is right for one
# size only.
_SCALES = (1.0, 0.75, 1.3)
# Brightness of synthetic scenes, from day to night.
_LIGHT = (1.0, 0.6, 0.25, 0.08)


class CheckFrames(NamedTuple):
    """Frames for the check, not yet preprocessed.

    Attributes:
        frames: (C, H, W) uint8 tensors.
        origin: Where the frames come from, as a part of a message.
    """

    frames: list[Tensor]
    origin: str


def check_frames(cfg: Config, model: nn.Module, number: int, folder: Optional[str]) -> CheckFrames:
    """Returns evenly spaced frames of a folder, of the config's test data, or synthetic scenes.

    Args:
        cfg: The config.
        model: The segmentor.
        number: Number of frames, at least 1. If the folder has fewer pictures, all of them are
            taken.
        folder: A video or a folder of pictures. None takes the config's test data or, if these are
            missing, synthetic scenes.

    Raises:
        ValueError: The folder does not exist, or none of its pictures can be read.
    """
    if folder is not None:
        return CheckFrames(_of_folder(cfg, number, folder), f'of {folder}')
    channels = input_channels(model)
    try:
        check_data_root(cfg, 'test_dataloader.dataset')
    except (KeyError, TypeError, ValueError):
        return CheckFrames(
            _made(number, channels), 'made scenes, because the data of the test is missing'
        )
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(deepcopy(cfg.test_dataloader.dataset))
    places = np.linspace(0, len(dataset) - 1, number).astype(int)
    frames = [torch.as_tensor(dataset[int(place)]['inputs']) for place in places]
    return CheckFrames(frames, "of the config's test")


def scaled(frame: Tensor, index: int) -> Tensor:
    """Resizes a frame by one of three scales, in turn; the first scale is 1.

    Args:
        frame: (C, H, W) uint8.
        index: The frame's number, which selects the scale.
    """
    scale = _SCALES[index % len(_SCALES)]
    return resized(frame, [round(side * scale) for side in frame.shape[1:]])


def unpadded(frame: Tensor, preprocessor: nn.Module) -> Tensor:
    """Resizes a frame to the size to which the data preprocessor would pad it.

    Args:
        frame: (C, H, W) uint8.
        preprocessor: The segmentor's data preprocessor.
    """
    size = preprocessor(dict(inputs=[frame]), False)['inputs'].shape[2:]
    return resized(frame, size)


def resized(frame: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes a frame (C, H, W) uint8 to ``size``, (H, W)."""
    if tuple(frame.shape[1:]) == tuple(size):
        return frame
    other = F.interpolate(frame[None].float(), tuple(size), mode='bilinear', align_corners=False)
    return other[0].round().clamp(0, 255).to(torch.uint8)


def _of_folder(cfg: Config, number: int, folder: str) -> list[Tensor]:
    source = FrameSource(folder)
    # If the length of a video is unknown, take its first frames.
    count = source.count or number
    places = set(np.linspace(0, count - 1, min(number, count)).astype(int).tolist())
    readable = []
    # Read one frame after the other, because not all frames of a video fit into memory.
    for place, (_, frame) in enumerate(source):
        if place in places and frame is not None:
            readable.append(frame)
        if place >= max(places):
            break
    if not readable:
        raise ValueError(f'{folder}: none of its {len(places)} frames can be decoded')
    with DefaultScope.overwrite_default_scope('mmseg'):
        pipeline = Compose(frame_pipeline(cfg))
    return [pipeline(dict(img=frame))['inputs'] for frame in readable]


def _made(number: int, channels: int) -> list[Tensor]:
    frames = []
    for index in range(number):
        image, _ = draw_scene(index, (256, 128))
        light = _LIGHT[index % len(_LIGHT)]
        frame = torch.from_numpy((image.astype(np.float32) * light).astype(np.uint8))
        frame = frame.permute(2, 0, 1)
        repeats = -(-channels // frame.shape[0])
        frames.append(frame.repeat(repeats, 1, 1)[:channels].contiguous())
    return frames
