"""The processes that train one supernet together: what each one computes, and what they add up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Ranks:
    """One of `count` processes of torch's default process group; the only one, who talks to nobody, by default.

    All of them must make the same calls in the same order, with tensors of the same sizes.
    """

    rank: int = 0
    count: int = 1

    def part(self, size: int) -> range:
        """Which images of a batch of `size`, a multiple of `count`, are this process's."""
        share = size // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; may be `tensor` itself, changed."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def average_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over all processes, in one message.

        DistributedDataParallel would do it too, but must be told the weights that a step's subnets leave out (here
        they have no gradient in any process, and the optimiser passes them by), and wants to wrap the forward pass.
        """
        if self.count == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        parts = torch.split(self.total(flat).div_(self.count), [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Ranks()


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with the statistics of the images of all processes, each of which holds equally many.

    Up to rounding, `count` processes compute what one would with all images. Unlike torch's SyncBatchNorm it runs on
    CPUs too. Two small messages a layer: statistics forwards, the sums of their gradients backwards.
    """

    def forward(self, features: Tensor) -> Tensor:
        return _Normalise.apply(features, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]


class _Normalise(torch.autograd.Function):
    """features (b, C, h, w), weight (C,), bias (C,), eps -> (b, C, h, w)."""

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:  # type: ignore[no-untyped-def]
        own = torch.stack(torch.ops.aten.batch_norm_update_stats(features, None, None, 0.0))
        every = own.new_empty((2 * dist.get_world_size(), own.shape[1]))  # gloo joins along the first axis
        dist.all_gather_single(every, own)
        means, variances = every[::2], every[1::2]
        mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps = eps
        return torch.native_batch_norm(features, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        """Of a constant mean and variance first; then, less what the output's mean and variance cannot do."""
        features, weight, mean, variance = ctx.saved_tensors
        constant = torch.ops.aten.native_batch_norm_backward
        through, of_weight, of_bias = constant(
            gradient, features, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack((of_bias, of_weight))
        dist.all_reduce(sums)
        count = features.numel() // len(mean) * dist.get_world_size()
        along_mean, along_deviation = sums / count
        inverse = (variance + ctx.eps).rsqrt()
        slope = -weight * inverse * inverse * along_deviation
        offset = -weight * inverse * along_mean - slope * mean
        return through.addcmul_(features, _plane(slope)).add_(_plane(offset)), of_weight, of_bias, None


def _plane(channels: Tensor) -> Tensor:
    """(C,) as (C, 1, 1)."""
    return channels[:, None, None]
