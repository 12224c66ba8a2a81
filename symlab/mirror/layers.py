"""Tracing rules for layers: convolution, attention, embedding, norm, pooling."""

import math

import numpy as np
import torch
from torch import Tensor

from symlab.mirror.atoms import PERMUTATION, ROTATION, SIGNED
from symlab.mirror.slots import line, varies
from symlab.mirror.trace import SAMPLES, Trace
from symlab.tracing import tensors


def _pooling(space: int, largest: str = ""):
    """The rule of a pooling over the last dimensions.

    space: how many there are. largest: its name where it takes the largest value.
    """

    def rule(self, args, kwargs, out) -> str | None:
        x, kept = args[0], []
        for s in self.slots(x):
            if any(d >= x.ndim - space for d in varies(s)):
                return "pooling over an index"
            if largest:
                self.atoms.cap(s, PERMUTATION)
                self.atoms.colour(s, largest)
            kept.append(s[(..., *[slice(0, 1)] * space)])
        self.keep(tensors(out)[0], kept)
        return None

    return rule


class LayerTrace(Trace):
    """`Trace` with rules for convolutions, attention, embeddings, norms and pooling.

    It records to which hidden units each value of a model belongs. A method op_NAME is
    the rule for torch's operation NAME: it gets the call's arguments and result,
    records what the operation does to the units, and returns a reason if it cannot
    follow them, else None.
    """

    # convolutions

    def op_convolution(self, args, kwargs, out) -> str | None:
        x, w, bias, *_, transposed, _, groups = args
        channel = out.ndim - w.ndim + 1  # 0 without a batch
        if any(varies(s) - {0, channel} for s in self.slots(x)):
            return "convolution over an index that a unit spreads over"
        ins = [s for s in self.slots(x) if channel in varies(s)]
        ins = [line(s, channel) for s in ins]  # (C,)
        if transposed and groups > 1:
            return "grouped transposed convolution"
        outs = self._by_axis(w, 1 if transposed else 0)
        if groups == 1:
            seen = w.movedim(0, 1) if transposed else w
            summed = self._by_axis(w, 0 if transposed else 1)
            self._sum_channels(ins, summed, x, self._as(w, seen), channel)
        elif groups == x.shape[channel] == w.shape[0]:
            for s in ins:
                for o in outs:
                    self._product(s, o, False, True)
                    self.atoms.tie(s, o)
            if not ins:
                for o in outs:
                    self.atoms.remember(o, 0)
        else:
            size = w.shape[0] // groups
            number = np.repeat(np.arange(groups), w.shape[1])
            summed = [s for s in self.slots(w) if 1 in varies(s) or w.shape[1] == 1]
            summed = [s[::size].flatten(2)[:, :, 0].reshape(-1) for s in summed]
            self._sum_channels(ins, summed, x, None, channel)
            for s in (*ins, *summed):
                self.atoms.remember(s, 0, number)
            for o in outs:
                self.atoms.remember(o, 0, np.repeat(np.arange(groups), size))
        for o in outs:
            for b in self.slots(bias):
                self.atoms.tie(o, b)
        view = [1] * out.ndim
        view[channel] = -1
        self.keep(out, [o.view(view) for o in outs])
        return None

    def _sum_channels(self, ins, summed, x, w, channel: int) -> None:
        flat = self._as(x, x.movedim(channel, -1).reshape(1, -1, x.shape[channel]))
        weight = w.movedim(1, 0).reshape(1, w.shape[1], -1) if w is not None else None
        for s in ins:
            for t in summed:
                self.atoms.tie(s, t)
            if not summed:
                self.atoms.remember(s, 0)
        for t in summed:
            if w is not None:
                self._told(t[None, :, None], 1, flat, 2, [s[None, None] for s in ins])
            elif not ins:
                self.atoms.remember(t, 0)
            self.atoms.read(t)
        if summed and weight is not None:
            values = flat[:, :: -(-flat.shape[1] // SAMPLES)]
            centred = values - values.mean(1, keepdim=True)
            norms = centred.norm(dim=1) * weight.norm(dim=2)
            sample = values[0].detach().double().cpu().numpy()
            self.atoms.reading(summed[0][None], norms, sample)

    def _by_axis(self, w: Tensor, axis: int) -> list[Tensor]:
        """The slot of a weight along one of its axes, (n,)."""
        found = [s for s in self.slots(w) if varies(s) == {axis}]
        return [line(s, axis) for s in found]

    # attention

    def op_scaled_dot_product_flash_attention_for_cpu(self, args, kwargs, out):
        q, k, v = args[:3]
        times = q.shape[-3] // k.shape[-3] if q.ndim > 3 else 1
        shapes = [(math.prod(t.shape[:-2]), *t.shape[-2:]) for t in (q, k, v)]
        shared = [1, times, times]  # queries that share a head of keys and values
        qs, ks, vs = (
            [s.repeat_interleave(r, -3).flatten(0, -3) if r > 1 else s.reshape(shape)
             for s in self.slots(t)]
            for t, shape, r in zip((q, k, v), shapes, shared, strict=True)
        )  # fmt: skip
        values = [
            self._as(t, (t.repeat_interleave(r, -3) if r > 1 else t).flatten(0, -3))
            for t, r in zip((q, k, v), shared, strict=True)
        ]
        self.event += 1
        shapes = [tuple(t.shape) for t in values]
        flipped = (shapes[1][0], shapes[1][2], shapes[1][1])
        scores = self._contract(
            qs, [s.mT for s in ks], shapes[0], flipped,
            values[0], self._as(k, values[1].mT), self.event,
        )  # fmt: skip
        if isinstance(scores, str) or any(varies(s) - {0} for s in scores):
            return scores if isinstance(scores, str) else "scores that carry an index"
        weights = values[0].new_ones(()).expand(*shapes[0][:2], shapes[2][1])
        self.atoms.varying[weights] = True
        kept = self._contract([], vs, weights.shape, shapes[2], weights, values[2],
                              self.event)  # fmt: skip
        if isinstance(kept, str):
            return kept
        outs = tensors(out)
        self.keep(outs[0], [s.reshape(outs[0].shape) for s in kept])
        return None

    op_scaled_dot_product_flash_attention = (
        op_scaled_dot_product_flash_attention_for_cpu
    )
    op_scaled_dot_product_efficient_attention = (
        op_scaled_dot_product_flash_attention_for_cpu
    )

    # embeddings

    def op_embedding(self, args, kwargs, out) -> None:
        weight = args[0]
        for s in self._by_axis(weight, 0):
            self.atoms.remember(s, 0)
        self.keep(out, [s.expand(out.shape) for s in self._by_axis(weight, 1)])

    def _embedding_bag(self, args, kwargs, out) -> None:
        weight, outs = args[0], tensors(out)
        for s in self._by_axis(weight, 0):
            self.atoms.remember(s, 0)
        kept = self._by_axis(weight, 1)
        if len(args) > 4 and args[4] == 2:  # the largest of each bag
            for s in kept:
                self.atoms.cap(s, PERMUTATION)
                self.atoms.colour(s, "max")
        self.keep(outs[0], [s.expand(outs[0].shape) for s in kept])

    op_embedding_bag = op_embedding_bag_forward_only = _embedding_bag

    # norms

    def op_native_layer_norm(self, args, kwargs, out) -> None:
        outs = tensors(out)
        dims = set(range(args[0].ndim - len(args[1]), args[0].ndim))
        for s in self.slots(args[0]):
            self.atoms.cap(s, PERMUTATION)
            if varies(s) & dims:
                self.atoms.span(s, "layer norm")
            self.atoms.colour(s, "layer norm")
        self.keep(outs[0], self._affine(args[0], args[2:4]))

    def _affine(self, x: Tensor, affine) -> list[Tensor]:
        """Multiplied with a gain and shifted by a bias, either may be None."""
        gain, bias = (*affine, None, None)[:2]
        kept = self.slots(x)
        if isinstance(gain, Tensor):
            kept = self._meet([x, gain], x.shape, ROTATION, product=True)
        if isinstance(bias, Tensor):
            shown = self._as(x, torch.empty_like(x))
            self.atoms.slots[shown] = kept
            kept = self._meet([shown, bias], x.shape, ROTATION)
        return kept

    def op_fused_rms_norm(self, args, kwargs, out) -> None:
        outs = tensors(out)
        dims = set(range(args[0].ndim - len(args[1]), args[0].ndim))
        for s in self.slots(args[0]):
            if varies(s) & dims:
                self.atoms.span(s, "RMS norm")
        self.keep(outs[0], self._affine(args[0], args[2:3]))

    def op_native_batch_norm(self, args, kwargs, out) -> None:
        x, outs = args[0], tensors(out)
        channel = 1 if x.ndim > 1 else 0
        slots = self.slots(x)
        for number in (2, 3, 0, 1):  # statistics, then gain and bias
            statistic, view = args[1 + number], [1] * x.ndim
            view[channel] = -1
            for s in self.slots(statistic):
                s = s.view(view).expand(x.shape)
                if number == 0 and slots:
                    self._product(slots[0], s, False, True)
                for mine in slots:
                    self.atoms.tie(mine, s)
                slots = slots or [s]
        for s in slots:
            self.atoms.cap(s, SIGNED)
            self.atoms.colour(s, "batch norm")
            if not self.slots(x):
                self.atoms.remember(s, channel)
        self.keep(outs[0], slots)

    op_native_batch_norm_legit = op_native_batch_norm_legit_no_training = (
        op_native_batch_norm
    )
    op_cudnn_batch_norm = op_batch_norm_with_update = op_batch_norm_no_update = (
        op_native_batch_norm
    )

    def op_native_group_norm(self, args, kwargs, out) -> str | None:
        x, gain, bias = args[:3]
        channels, groups = args[4], args[6]
        if any(varies(s) - {0, 1} for s in self.slots(x)):
            return "group norm"
        number = np.arange(channels) // (channels // groups)
        for s in self.slots(x):
            self.atoms.cap(s, PERMUTATION)
            self.atoms.colour(s, "group norm")
            self.atoms.span(s, "group norm")
            self.atoms.remember(s, 1, number)
        view = (-1, *[1] * (x.ndim - 2))
        affine = []
        for t in (gain, bias):
            if isinstance(t, Tensor):
                shown = self._as(t, t.view(view))
                self.atoms.slots[shown] = [s.view(view) for s in self.slots(t)]
            affine.append(shown if isinstance(t, Tensor) else None)
        self.keep(tensors(out)[0], self._affine(x, affine))
        return None

    # pooling and losses

    op_max_pool1d_with_indices = _pooling(1, "max_pool1d")
    op_max_pool2d_with_indices = _pooling(2, "max_pool2d")
    op_adaptive_max_pool2d = _pooling(2, "adaptive_max_pool2d")
    op_avg_pool1d = op_adaptive_avg_pool1d = _pooling(1)
    op_avg_pool2d = op_adaptive_avg_pool2d = _pooling(2)
    op_upsample_nearest2d = op_upsample_bilinear2d = _pooling(2)

    def op_nll_loss_forward(self, args, kwargs, out) -> None:
        for s in self.slots(args[0]):
            for dim in varies(s):
                self.atoms.remember(s, dim)  # the label picks one of them

    op_nll_loss_nd = op_nll_loss2d_forward = op_nll_loss_forward
