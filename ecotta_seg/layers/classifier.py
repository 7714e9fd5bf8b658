"""The last convolution of a decode head, which turns features into the logits of the classes."""

from typing import Optional

from torch import nn

# The attribute of mmseg's decode heads that holds this convolution.
CLASSIFIER = 'conv_seg'


def last_head(segmentor: nn.Module) -> Optional[nn.Module]:
    """The decode head, or the last head of a cascade; None if there is no decode head."""
    head = getattr(segmentor, 'decode_head', None)
    return head[-1] if isinstance(head, nn.ModuleList) else head


def find_classifier(segmentor: nn.Module) -> Optional[nn.Conv2d]:
    """The classifier of a segmentor; None if its last head has no convolution ``conv_seg``."""
    classifier = getattr(last_head(segmentor), CLASSIFIER, None)
    return classifier if isinstance(classifier, nn.Conv2d) else None
