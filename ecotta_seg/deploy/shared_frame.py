"""What the layers of a plain network share while a frame goes through."""

from typing import Optional

import torch
from torch import Tensor


class SharedFrame:
    """The strength of the frame, and the drift of its statistics. No module: nothing is kept.

    Attributes:
        strength: A scalar from 0 to 1, see ``MetaNetwork.strength``; None if all is let through.
        drifts: The mean drift of each norm that is listened to, as scalars; None if nobody listens.
    """

    def __init__(self) -> None:
        self.strength: Optional[Tensor] = None
        self.drifts: Optional[list[Tensor]] = None

    def record(self, drift: Tensor) -> None:
        """Notes the drift (C,) of a norm's channels, if somebody listens."""
        if self.drifts is not None:
            self.drifts.append(drift.mean())

    def mean_drift(self) -> Optional[Tensor]:
        """The mean over all norms that have told theirs; None if none has."""
        return torch.stack(self.drifts).mean() if self.drifts else None
