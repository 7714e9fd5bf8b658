"""Writes published ESPNetv2 weights as an mmseg checkpoint: python -m tests.real.convert IN OUT."""

import argparse
from pathlib import Path

import torch

from ecotta_seg.files.atomic_io import atomic_write
from ecotta_seg.files.checkpoint import read_checkpoint

from .espnetv2 import converted_weights


def convert(published: Path, checkpoint: Path) -> None:
    """Writes ``checkpoint`` for the config of the same width; its outputs are the 19 classes.

    Raises:
        ValueError: ``published`` holds no weights of ESPNetv2.
    """
    state = read_checkpoint(published)['state_dict']
    if 'base_net.level1.bn.weight' not in state:
        raise ValueError(
            f'{published} holds no published ESPNetv2 for segmentation: expected tensors named '
            'base_net.* and bu_dec_*'
        )
    with atomic_write(checkpoint) as temporary:
        torch.save({'state_dict': converted_weights(state), 'meta': {}}, temporary)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('published', type=Path, help='a file espnetv2_s_*_city_*.pth')
    parser.add_argument('checkpoint', type=Path, help='the file to write')
    arguments = parser.parse_args()
    convert(arguments.published, arguments.checkpoint)
