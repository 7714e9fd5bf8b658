"""A method small enough to see through, for tests of the guard."""

import torch
from torch import nn

from ecotta_seg.methods.frame_life import predict_and_learn
from ecotta_seg.methods.gradient_adaptation import GradientAdaptation

CLASSES = 4


class ToySegmentor(nn.Module):
    """A pixelwise linear classifier with mmseg's interface."""

    test_cfg = dict(mode='whole')
    out_channels = CLASSES

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 1]]))

    def encode_decode(self, inputs, metas):
        return torch.einsum('kc,nchw->nkhw', self.weight, inputs)

    inference = encode_decode


class ToyMethod(GradientAdaptation):
    """Pulls class 0 up by its learning rate; does what a test tells it to."""

    def __init__(self, lr=0.01):
        super().__init__(ToySegmentor(), dict(type='SGD', lr=lr, momentum=0.9))
        self.spoil = None
        self.start()

    def learn(self, logits, share):
        loss = -logits[:, 0].mean() * share
        if self.spoil == 'loss':
            loss = loss * float('nan')
        loss.backward()
        self.last_step.loss = float(loss.detach())

    def update(self):
        super().update()
        if self.spoil == 'weights':
            with torch.no_grad():
                self.segmentor.weight[0, 0] = float('nan')
            # The prediction of a method that fails in this way is of no use either.
            self.logits.fill_(float('nan'))

    def propose(self, inputs, metas):
        self.logits = super().propose(inputs, metas)
        return self.logits


class Hasty(ToyMethod):
    """Updates within ``propose``, like a method that updates during its backward."""

    def propose(self, inputs, metas):
        logits = super().propose(inputs, metas)
        super().update()
        self.optimizer.zero_grad(set_to_none=True)
        return logits

    def update(self):
        """Nothing is left to update."""


def four_quarters():
    """Four quarters of four classes."""
    image = torch.zeros(1, 3, 16, 16)
    image[:, 0, :8, :8] = image[:, 1, :8, 8:] = image[:, 2, 8:, :8] = 1
    image[:, :, 8:, 8:] = 0.6
    return image + 0.1


def guarded_adapt(guard, method, image, index=0):
    method.last_step.updated = False
    return predict_and_learn(method, image, [dict(stream_index=index)], guard)


def kinds(guard):
    return [event['event'] for event in guard.take_events()]
