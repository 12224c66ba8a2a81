"""The next-token loss of a large vocabulary, without all logits in memory at once.

A vocabulary of 151,936 makes 1.2 GB of float32 logits from 2,048 tokens, and as much of
their gradients. Here the logits of a few tokens at a time are computed; from them
follow the loss and the gradients with respect to the head and its inputs:

    l = W h,  lse = log sum exp l,  loss = mean(lse - l[target]) + z mean(lse^2)
    slope = dloss/dl = (softmax(l) (1 + 2 z lse) - onehot(target)) / N
    dloss/dh = W^T slope,  dloss/dW = sum over tokens of slope h^T

So the forward pass keeps only these gradients, and no product is computed twice. The
z-loss is that of PaLM (arXiv 2204.02311, section 5).
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def chunked_loss(
    x: Tensor, weight: Tensor, targets: Tensor, chunk: int, z: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the next-token loss with z-loss, and the loss without it, in nats.

    x: inputs of the output head, (B, T, D).
    weight: the head's weight, (V, D).
    targets: the next tokens, (B, T).
    chunk: the number of tokens whose logits exist at once.
    z: the weight of the z-loss, which is the mean square of the logsumexp of the
        logits.

    Only the first loss has a gradient. Logits have autocast's type, losses at least
    float32, as in `transformer.loss`, with which they agree up to rounding.

    Raises ValueError for a chunk below 1 and for targets outside of 0 to V - 1; there
    is no target that means "leave this out". Targets on a GPU, or in a compiled loss,
    are not checked here, since the check would have to wait for them; torch's gather
    rejects them.
    """
    if chunk < 1:
        raise ValueError(f"chunk = {chunk}: give the 1 or more tokens of a part")
    if targets.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_targets(targets, len(weight))
    kind, dtype = x.device.type, torch.promote_types(x.dtype, weight.dtype)
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    return _ChunkedLoss.apply(
        x.flatten(0, -2), weight, targets.flatten(), chunk, z, dtype
    )


def _check_targets(targets: Tensor, vocabulary: int) -> None:
    wrong = targets[(targets < 0) | (targets >= vocabulary)]
    if len(wrong):
        raise ValueError(
            f"the target {wrong[0].item()} is no token of 0 to {vocabulary - 1}: leave "
            "tokens without a loss out of x and targets"
        )


class _ChunkedLoss(torch.autograd.Function):
    """Of x (N, D), weight (V, D), targets (N,); products are in `dtype`."""

    @staticmethod
    def forward(ctx, x, weight, targets, chunk, z, dtype):
        wide = torch.promote_types(dtype, torch.float32)
        nll = torch.zeros((), dtype=wide, device=x.device)
        square = torch.zeros_like(nll)
        for_x, for_weight = torch.empty_like(x), torch.zeros_like(weight)
        w, n = weight.to(dtype), len(targets)
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, n, chunk):
                part = slice(start, start + chunk)
                h, target = x[part].to(dtype), targets[part, None]
                logits = F.linear(h, w).to(wide)  # (chunk, V)
                lse = logits.logsumexp(-1, keepdim=True)
                nll += (lse - logits.gather(1, target)).sum()
                square += lse.square().sum()
                slope = logits.sub_(lse).exp_()  # the probabilities
                slope = slope.mul_(1 + 2 * z * lse) if z else slope
                slope.scatter_add_(1, target, -torch.ones_like(lse))
                slope = slope.div_(n).to(dtype)
                for_x[part] = slope @ w
                _add_product(for_weight, slope.mT, h)
        ctx.save_for_backward(for_x, for_weight)
        nll, square = nll / n, square / n
        loss = nll + z * square if z else nll.clone()
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        for_x, for_weight = ctx.saved_tensors
        return for_x * g, for_weight * g, None, None, None, None


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, without a copy of the product where types agree."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
