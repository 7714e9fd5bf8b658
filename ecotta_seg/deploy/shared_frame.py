"""Data of the current frame that the layers of a plain network share."""

from typing import Optional

import torch
from torch import Tensor


class SharedFrame:
    """The strength for a frame and the drift of its statistics; not part of the state dict.

    Attributes:
        strength: A scalar from 0 to 1, see ``MetaNetwork.strength``; None if the network uses no
            strength.
        drifts: The mean drift of each norm that records its drift, as scalars; None outside of the
            gate's forward pass.
    """

    def __init__(self) -> None:
        self.strength: Optional[Tensor] = None
        self.drifts: Optional[list[Tensor]] = None

    def record(self, drift: Tensor) -> None:
        """Adds the mean of a norm's drift (C,) to ``drifts``; does nothing if that is None."""
        if self.drifts is not None:
            self.drifts.append(drift.mean())

    def mean_drift(self) -> Optional[Tensor]:
        """The mean drift over all norms that have recorded a drift; None if there is none."""
        return torch.stack(self.drifts).mean() if self.drifts else None
