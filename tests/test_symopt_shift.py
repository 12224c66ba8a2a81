"""When adding one vector to all rows of a head or router is taken for a symmetry.

Where the softmax is in the forward pass, the claim is measured: rows are shifted, and
the output must not change. Where it is assumed, the model returns logits.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention

from symlab.symopt import describe, roles

D, V, T = 8, 14, 6
TOKENS = torch.arange(2 * T).view(2, T)
NUMBERS = torch.randn(2, T, D, generator=torch.Generator().manual_seed(1))


class Model(nn.Module):
    """A layer, a head w of n outputs, and one function that uses them."""

    def __init__(self, forward, outputs=V, vocabulary=V, embedding=True, bias=False):
        super().__init__()
        self.use = forward
        if embedding:
            self.table = nn.Embedding(vocabulary, D)
        self.positions = nn.Embedding(T, D)
        self.mixing = nn.Linear(D, D)
        self.out = nn.Linear(D, D)
        self.w = nn.Linear(D, outputs, bias=bias)
        self.lstm = nn.LSTM(D, D, batch_first=True)
        self.taps = nn.Conv1d(D, D, 3, padding=1)
        self.experts = nn.ModuleList(nn.Linear(D, D) for _ in range(outputs))

    def forward(self, *inputs, **named):
        return self.use(self, *inputs, **named)

    def hidden(self, x):
        """(N, T) ids or (N, T, D) numbers -> (N, T, D), with positions."""
        x = x if x.is_floating_point() else self.table(x)
        x = x + self.positions(torch.arange(x.shape[1]))
        return x + torch.tanh(self.mixing(x))


def language(m, ids):
    return m.w(m.hidden(ids))


def mixture(weights):
    """A mixture of experts; weights: logits (N, T, E) -> (N, T, E)."""

    def forward(m, x):
        x = m.hidden(x)
        p = weights(m.w(x))
        return m.out(x + sum(p[..., e : e + 1] * f(x) for e, f in enumerate(m.experts)))

    return forward


def best_two(scores):
    """(N, T, E) -> the same with 0 but for the two largest."""
    top, which = scores.topk(2)
    return torch.zeros_like(scores).scatter(-1, which, top)


def best_two_of_logits(logits):
    top, which = logits.topk(2)
    return torch.zeros_like(logits).scatter(-1, which, top.softmax(-1))


def switch(logits):
    p = logits.softmax(-1)
    largest, which = p.max(-1, keepdim=True)
    return F.one_hot(which.squeeze(-1), p.shape[-1]) * largest


def hard(logits):
    p = logits.softmax(-1)
    one = F.one_hot(p.argmax(-1), p.shape[-1]).to(p.dtype)
    return one - p.detach() + p


def written_out(m, ids):
    logits = m.w(m.hidden(ids))
    e = (logits - logits.max(-1, keepdim=True).values).exp()
    return e / e.sum(-1, keepdim=True)


def written_out_simply(m, ids):
    e = m.w(m.hidden(ids)).exp()
    return (e / e.sum(-1, keepdim=True)).log()


def negative_log_likelihood(m, ids):
    logits = m.w(m.hidden(ids))[:, :-1].float()
    target = logits.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (logits.logsumexp(-1) - target).mean()


def cross_entropy(m, ids):
    logits = m.w(m.hidden(ids))
    return F.cross_entropy(logits[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1))


def one_axis_of_two(m, x):
    """4 actions of 3 atoms each: a softmax over the atoms."""
    return m.w(m.hidden(x).mean(1)).view(-1, 4, 3).softmax(-1)


def squared_error(m, x):
    logits = m.w(m.hidden(x))
    return logits.softmax(-1), (logits - 1).square().mean()


def with_z_loss(m, ids):
    logits = m.w(m.hidden(ids))
    z = logits.logsumexp(-1).square().mean()
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:]) + 0.1 * z


def with_a_gate(m, x):
    x = m.hidden(x)
    logits = m.w(x)
    top, which = logits.softmax(-1).topk(2)
    y = sum((which == e).any(-1, True) * f(x) for e, f in enumerate(m.experts))
    return m.out(y * torch.sigmoid(logits.amax(-1, keepdim=True)))


def constant_beside(m, x):
    """One more class, whose logit is 0."""
    logits = m.w(m.hidden(x))
    return torch.cat([logits, torch.zeros_like(logits[..., :1])], -1).log_softmax(-1)


def experts_choose(m, x):
    x = m.hidden(x)
    top, which = m.w(x).softmax(1).topk(2, dim=1)  # each expert takes two tokens
    y = torch.zeros_like(x)
    for e, f in enumerate(m.experts):
        at = which[:, :, e, None].expand(-1, -1, D)
        y = y.scatter_add(1, at, f(x.gather(1, at)) * top[:, :, e, None])
    return m.out(x + y)


def logits_and_their_softmax(m, x):
    logits = m.w(m.hidden(x))
    return logits, logits.softmax(-1)


def policy_with_values_inside(m, x):
    """An object of any class holds what still shifts."""
    logits = m.w(m.hidden(x))
    held = type("Held", (), {})()
    held.values = [logits * 2]
    return logits.softmax(-1), held


def keeps_its_logits(m, x):
    m.kept = m.w(m.hidden(x))
    return m.kept.softmax(-1)


def router_logits_returned(m, x):
    x = m.hidden(x)
    logits = m.w(x)
    weights = best_two(logits.softmax(-1))
    y = sum(weights[..., e : e + 1] * f(x) for e, f in enumerate(m.experts))
    return m.out(x + y), logits


def dropped_logits(m, x):
    return F.dropout(m.w(m.hidden(x)), 0.5, m.training).softmax(-1)


def penalised_in_training(m, x):
    logits = m.w(m.hidden(x))
    m.penalty = logits.logsumexp(-1).square().mean() if m.training else None
    return logits.log_softmax(-1)


def straight_through(m, x):
    logits = m.w(m.hidden(x))
    return F.one_hot(logits.argmax(-1), V) + logits - logits.detach()


def two_temperatures(m, x):
    """The first factor is gone when the second one is made."""
    h = m.hidden(x)
    logits = m.w(h)
    warm = logits * h.sum(-1, keepdim=True).exp()
    return warm - logits * h[..., :1].exp()


def unequal_differences(m, x):
    h = m.hidden(x)
    logits = m.w(h)
    return torch.sub(h[..., :1], logits, alpha=2) - torch.sub(h[..., :1], logits)


def mean_with_a_mask(m, x):
    logits = m.w(m.hidden(x))
    kept = logits.masked_fill(torch.arange(V) < 2, -1e9)
    return logits - kept.mean(-1, keepdim=True) / 1e6


def difference_from_a_masked_one(m, x):
    logits = m.w(m.hidden(x))
    kept = torch.where(torch.arange(V) < 2, torch.tensor(-2e4), logits)
    return kept - logits


def written_in_part(how):
    """Some of the logits are changed in place, through a view of them."""

    def forward(m, x):
        logits = m.w(m.hidden(x))
        how(logits)
        return logits.softmax(-1)

    return forward


def one_of_two_parts(logits):
    first, second = logits.split([4, V - 4], -1)
    second.neg_()


def written_into_a_buffer(m, x):
    held = torch.zeros(2, T, V)
    held[..., 1:].add_(m.w(m.hidden(x))[..., 1:])
    return held.sigmoid()


def otherwise_in_training(m, ids):
    """Sampled words and a sigmoid for each, instead of a softmax over all words."""
    h = m.hidden(ids)
    if not m.training:
        return m.w(h).log_softmax(-1)
    return F.logsigmoid((h * m.w.weight[ids.flip(1)]).sum(-1)).mean()


def normalised_in_training(m, x):
    weight = F.normalize(m.w.weight) if m.training else m.w.weight
    return F.linear(m.hidden(x), weight).log_softmax(-1)


def row_in_front(m, x):
    h = m.hidden(x)
    return m.w(torch.cat([m.w.weight[:1].expand(2, 1, D), h], 1)).softmax(-1)


def best_row_added(m, x):
    h = m.hidden(x)
    largest, which = m.w(h).softmax(-1).max(-1)
    y = sum((which == e)[..., None] * f(h) for e, f in enumerate(m.experts))
    return m.out(h + largest[..., None] * y + m.w.weight[which])


def logits_as_a_mask(m, x):
    h = m.hidden(x)
    logits = m.w(h)
    mask = logits.amax(-1)[:, None, :]
    return logits.softmax(-1), F.scaled_dot_product_attention(h, h, h, attn_mask=mask)


def flexible_mask(m, x):
    h = m.hidden(x)
    logits = m.w(h)
    most = logits.amax(-1)
    y = flex_attention(
        h[:, None], h[:, None], h[:, None],
        score_mod=lambda score, b, head, q, k: score + most[b, k],
    )  # fmt: skip
    return logits.softmax(-1), y


def term_of_a_product(m, x):
    h = m.hidden(x).flatten(0, 1)
    logits = m.w(h)
    other = torch.addmm(logits[:, :D], h, m.out.weight.T)
    return logits.softmax(-1), other.sigmoid()


def one_of_each_pool(m, ids):
    """A softmax over samples of one feature each, after a mean over tokens."""
    return m.w(m.hidden(ids)).mean(1).gather(1, ids[:, :1]).squeeze(1).softmax(0)


def two_pools(m, ids):
    logits = m.w(m.hidden(ids))
    best = [x.mean(1).topk(2).values for x in (logits[:, :2], logits[:, 2:])]
    return torch.cat(best, -1).softmax(-1)


def temperatures_compared(m, ids):
    logits = m.w(m.hidden(ids))[..., None] * torch.tensor([1.0, 2.0, 3.0])
    return logits[..., 1:] - logits[..., :-1]


def to_whole_numbers(m, ids):
    logits = m.w(m.hidden(ids))
    return logits.softmax(-1) * logits.amax(-1, keepdim=True).mul(10).long()


def pairs_of_samples(m, ids):
    logits = m.w(m.hidden(ids))
    return (logits[:, None] - logits[None]).sigmoid()


def in_pieces(m, ids):
    """Cross-entropy of some tokens after the others, which saves memory."""
    h, y = m.hidden(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    pieces = zip(h.chunk(3), y.chunk(3), strict=True)
    return sum(F.cross_entropy(m.w(a), b, reduction="sum") for a, b in pieces)


def two_predictions(m, ids):
    """Of the next token, and of the one after it."""
    h = m.hidden(ids)
    both = m.w(h[:, :-2]), m.w(torch.tanh(m.out(h))[:, :-2])
    losses = [F.cross_entropy(s.mT, ids[:, i : T - 2 + i]) for i, s in enumerate(both)]
    return losses[0] + losses[1]


def one_of_two_losses(m, ids):
    h = m.hidden(ids)
    return m.w(h[:, :3]).softmax(-1).mean() + m.w(h[:, 3:]).sigmoid().mean()


class Recommender(nn.Module):
    """Users and texts in, a score for each of the items: as many as there are users."""

    def __init__(self):
        super().__init__()
        self.users, self.w = nn.Embedding(V, D), nn.Linear(2 * D, V, bias=False)

    def forward(self, users, text):
        return self.w(torch.cat([self.users(users), text.mean(1)], -1))


class TokenTypes(nn.Module):
    """As many labels as there are kinds of tokens."""

    def __init__(self):
        super().__init__()
        self.table, self.kinds = nn.Embedding(V, D), nn.Embedding(3, D)
        self.w = nn.Linear(D, 3, bias=False)

    def forward(self, input_ids, token_type_ids):
        return self.w((self.table(input_ids) + self.kinds(token_type_ids))[:, 0])


NEVER = {
    "start and end of a span": (
        Model(lambda m, ids: m.w(m.hidden(ids)).softmax(1), 2), TOKENS),
    "a span of two, in two outputs": (
        Model(lambda m, ids: m.w(m.hidden(ids)).unbind(-1), 2), TOKENS),
    "span losses": (
        Model(lambda m, ids: sum(F.cross_entropy(t, torch.zeros(2, dtype=torch.long))
                                 for t in m.w(m.hidden(ids)).unbind(-1)), 2), TOKENS),
    "as many horizons as positions": (
        Model(lambda m, x: m.w(m.hidden(x).mean(1)), T, embedding=False), NUMBERS),
    "as many numbers per step as positions": (
        Model(lambda m, x: m.w(m.hidden(x)), T, embedding=False), NUMBERS),
    "as many labels of a text as words": (
        Model(lambda m, ids: m.w(m.hidden(ids).mean(1)), V), TOKENS),
    "as many labels as words, on the first token": (
        Model(lambda m, ids: m.w(m.hidden(ids)[:, 0])), TOKENS),
    "a maximum over tokens": (
        Model(lambda m, ids: m.w(m.hidden(ids).amax(1))), TOKENS),
    "a weighted mean over tokens": (
        Model(lambda m, ids: m.w(torch.einsum("ntd,t->nd", m.hidden(ids),
                                              torch.ones(T) / T))), TOKENS),
    "pooled by a convolution": (
        Model(lambda m, ids: m.w(F.adaptive_max_pool1d(m.hidden(ids).mT, 1)[..., 0])),
        TOKENS),
    "labels of a bag of words": (
        nn.Sequential(nn.EmbeddingBag(V, D), nn.Linear(D, V, bias=False)), TOKENS),
    "as many items as users": (Recommender(), (torch.tensor([1, 2]), NUMBERS)),
    "as many labels as token types": (
        TokenTypes(), {"input_ids": TOKENS, "token_type_ids": TOKENS % 3}),
    "hashed ids": (
        Model(lambda m, ids: m.w(m.hidden(ids * 7 % V)), V), TOKENS),
    "a sigmoid": (Model(lambda m, ids: m.w(m.hidden(ids)).sigmoid(), V), TOKENS),
    "binary cross-entropy": (
        Model(lambda m, ids: F.binary_cross_entropy_with_logits(
            m.w(m.hidden(ids)), torch.zeros(2, T, V)), V), TOKENS),
    "a soft cap": (
        Model(lambda m, ids: 5 * torch.tanh(m.w(m.hidden(ids)) / 5), V), TOKENS),
    "a soft cap before the softmax": (
        Model(lambda m, ids: (5 * torch.tanh(m.w(m.hidden(ids)) / 5)).softmax(-1), V),
        TOKENS),
    "one axis of two": (Model(one_axis_of_two, 12, embedding=False), NUMBERS),
    "a squared error beside the softmax": (Model(squared_error, V), TOKENS),
    "a z-loss": (Model(with_z_loss, V), TOKENS),
    "a constant logit beside": (Model(constant_beside, V), TOKENS),
    "a slice beside the softmax": (
        Model(lambda m, x: (m.w(m.hidden(x))[..., 1:].softmax(-1)), V), TOKENS),
    "features scaled one by one": (
        Model(lambda m, x: (m.w(m.hidden(x)) * torch.arange(V)).softmax(-1)), TOKENS),
    "a softmax over both": (
        Model(lambda m, x: m.w(m.hidden(x)).flatten(1).softmax(-1), V), TOKENS),
    "a softmax over samples": (
        Model(lambda m, x: m.w(m.hidden(x)).softmax(0), V), TOKENS),
    "a sigmoid router": (Model(mixture(lambda s: best_two(s.sigmoid())), 3), NUMBERS),
    "a router with a softmax over tokens": (
        Model(mixture(lambda s: best_two(s.softmax(1))), 3), NUMBERS),
    "experts that choose": (Model(experts_choose, 3), NUMBERS),
    "a router that is a gate, too": (Model(with_a_gate, 3), NUMBERS),
    "a router by raw logits": (Model(mixture(best_two), 3), NUMBERS),
    "logits beside their softmax": (Model(logits_and_their_softmax), TOKENS),
    "logits in some object": (Model(policy_with_values_inside), TOKENS),
    "logits in an attribute": (Model(keeps_its_logits), TOKENS),
    "a router whose logits are returned": (Model(router_logits_returned, 3), NUMBERS),
    "dropout of logits in training": (Model(dropped_logits), TOKENS),
    "a z-loss in training": (Model(penalised_in_training), TOKENS),
    "a straight-through choice": (Model(straight_through), TOKENS),
    "two temperatures": (Model(two_temperatures), TOKENS),
    "differences with a factor": (Model(unequal_differences), TOKENS),
    "a mean with a mask": (Model(mean_with_a_mask), TOKENS),
    "a difference from a masked one": (Model(difference_from_a_masked_one), TOKENS),
    "logits of a token that indices pick": (
        Model(lambda m, ids: m.w(m.hidden(ids))[torch.arange(2), ids[:, 0] % 3 + 1]),
        TOKENS),
    "a token that indices pick": (
        Model(lambda m, ids: m.w(m.hidden(ids)[torch.arange(2), ids[:, 0] % 3 + 1])),
        TOKENS),
    "a mean of the logits": (Model(lambda m, ids: m.w(m.hidden(ids)).mean(1)), TOKENS),
    "a distribution with logits": (
        Model(lambda m, ids: torch.distributions.Bernoulli(
            logits=m.w(m.hidden(ids)), validate_args=False)), TOKENS),
    "one of two losses": (Model(one_of_two_losses), TOKENS),
    "one feature is doubled in place": (
        Model(written_in_part(lambda s: s[..., 0].mul_(2))), TOKENS),
    "some features are divided in place": (
        Model(written_in_part(lambda s: s[..., :4].div_(0.5))), TOKENS),
    "a part is negated in place": (Model(written_in_part(one_of_two_parts)), TOKENS),
    "an overwritten feature": (
        Model(written_in_part(lambda s: s[..., 0].copy_(s[..., 1] * 2))), TOKENS),
    "added to a part of a buffer": (Model(written_into_a_buffer), TOKENS),
    "sampled words in training": (Model(otherwise_in_training), TOKENS),
    "normalised in training": (Model(normalised_in_training), TOKENS),
    "a row is added": (
        Model(lambda m, x: m.w(m.hidden(x) + m.w.weight[0]).softmax(-1)), TOKENS),
    "a row is a factor": (
        Model(lambda m, x: m.w(m.hidden(x) * m.w.weight[0]).softmax(-1)), TOKENS),
    "a row is a token": (Model(row_in_front), TOKENS),
    "a router whose best row is added": (Model(best_row_added, 3), NUMBERS),
    "logits as a mask": (Model(logits_as_a_mask), TOKENS),
    "logits as a flexible mask": (Model(flexible_mask), TOKENS),
    "logits as a term of a product": (Model(term_of_a_product), TOKENS),
    "one feature of each pool": (Model(one_of_each_pool), TOKENS),
    "the best of each pool": (
        Model(lambda m, ids: m.w(m.hidden(ids)).mean(1).topk(2).values.flatten()
              .softmax(0)), TOKENS),
    "the best of two pools": (Model(two_pools), TOKENS),
    "rounded logits": (
        Model(lambda m, ids: torch.div(m.w(m.hidden(ids)), 0.1, rounding_mode="floor")
              .softmax(-1)), TOKENS),
    "whole numbers": (Model(to_whole_numbers), TOKENS),
    "the largest of all": (
        Model(lambda m, ids: (s := m.w(m.hidden(ids))).softmax(-1) * s.argmax()),
        TOKENS),
    "temperatures on an axis": (Model(temperatures_compared), TOKENS),
    "a softmax over both, of one token": (
        Model(lambda m, ids: m.w(m.hidden(ids)).flatten(1).softmax(-1)), TOKENS[:, :1]),
    "a softmax over both, of one sample": (
        Model(lambda m, ids: m.w(m.hidden(ids)[:, -1]).view(-1).softmax(0)),
        TOKENS[:1]),
    "pairs of one sample": (Model(pairs_of_samples), TOKENS[:1]),
    "pairs of samples": (Model(pairs_of_samples), None),
}  # fmt: skip
SEEN = {  # the softmax is in the forward pass
    "a softmax": (Model(lambda m, ids: m.w(m.hidden(ids)).softmax(-1)), TOKENS),
    "a classifier": (
        Model(lambda m, x: m.w(m.hidden(x).mean(1)).log_softmax(1), 3), NUMBERS),
    "with a temperature": (
        Model(lambda m, x: (m.w(m.hidden(x)) / 0.7 + 1).log_softmax(-1), 3), NUMBERS),
    "features second": (
        Model(lambda m, ids: m.w(m.hidden(ids)).mT.log_softmax(1)), TOKENS),
    "flattened": (
        Model(lambda m, ids: m.w(m.hidden(ids)).view(-1, V).softmax(-1)), TOKENS),
    "masked": (
        Model(lambda m, ids: m.w(m.hidden(ids)).masked_fill(
            torch.arange(V) < 2, float("-inf")).softmax(-1)), TOKENS),
    "written out": (Model(written_out), TOKENS),
    "written out simply": (Model(written_out_simply), TOKENS),
    "a negative log-likelihood": (Model(negative_log_likelihood), TOKENS),
    "cross-entropy": (Model(cross_entropy), TOKENS),
    "with a bias": (
        Model(lambda m, ids: m.w(m.hidden(ids)).softmax(-1), bias=True), TOKENS),
    "a mean over tokens": (
        Model(lambda m, x: m.w(m.hidden(x)).mean(1).softmax(-1), 3), NUMBERS),
    "a router, softmax and top-k": (
        Model(mixture(lambda s: best_two(s.softmax(-1))), 3), NUMBERS),
    "a router, top-k and softmax": (Model(mixture(best_two_of_logits), 3), NUMBERS),
    "a switch": (Model(mixture(switch), 3), NUMBERS),
    "a hard choice": (Model(mixture(hard), 3), NUMBERS),
    "masked by a large number": (
        Model(lambda m, ids: m.w(m.hidden(ids)).masked_fill(
            torch.arange(V) < 2, -1e9).softmax(-1)), TOKENS),
    "a mask in place": (
        Model(written_in_part(lambda s: s[..., :2].fill_(float("-inf")))), TOKENS),
    "halved in place, through a view": (
        Model(written_in_part(lambda s: s.view(-1, V).div_(2))), TOKENS),
    "cross-entropy in pieces": (Model(in_pieces), TOKENS),
    "two predictions": (Model(two_predictions), TOKENS),
    "one sample": (Model(lambda m, ids: m.w(m.hidden(ids)).softmax(-1)), TOKENS[:1]),
    "a maximum of the mean over tokens": (
        Model(lambda m, ids: (s := m.w(m.hidden(ids)).mean(1)) - s.amax(-1, True)),
        TOKENS),
    "one temperature": (
        Model(lambda m, x: (m.w(h := m.hidden(x)) / h[..., :1].exp()).softmax(-1)),
        TOKENS),
}  # fmt: skip
ASSUMED = {  # logits of the model's own tokens
    "a language model": (Model(language), TOKENS),
    "with a bias": (Model(language, bias=True), TOKENS),
    "the last token": (Model(lambda m, ids: m.w(m.hidden(ids)[:, -1])), TOKENS),
    "the last token, in a list": (
        Model(lambda m, ids: (m.w(m.hidden(ids)[:, [-1], :]), None)), TOKENS),
    "sliced logits": (Model(lambda m, ids: m.w(m.hidden(ids))[:, -2:]), TOKENS),
    "logits in single precision": (
        Model(lambda m, ids: m.w(m.hidden(ids)).float() / 2), TOKENS),
    "a dict of logits": (
        Model(lambda m, ids: {"hidden": (h := m.hidden(ids)), "logits": m.w(h)}),
        TOKENS),
    "logits and no loss": (Model(lambda m, ids: (m.w(m.hidden(ids)), None)), TOKENS),
    "shifted ids": (Model(lambda m, ids: m.w(m.hidden(F.pad(ids, (1, -1))))), TOKENS),
    "a recurrent model": (
        Model(lambda m, ids: m.w(m.lstm(m.hidden(ids))[0])), TOKENS),
    "a convolutional model": (
        Model(lambda m, ids: m.w(m.hidden(ids) + m.taps(m.hidden(ids).mT).mT)), TOKENS),
    "a window of tokens": (
        nn.Sequential(nn.Embedding(V, D), nn.Flatten(), nn.Linear(T * D, D), nn.Tanh(),
                      nn.Linear(D, V, bias=False)), TOKENS),
}  # fmt: skip


def head(model, example):
    found = roles(model, example)
    return found.get("w.weight") or list(found.values())[-1]


def change(model, example, name="w.weight"):
    """How much the outputs change when all rows move by one vector."""
    moved = copy.deepcopy(model).double()
    example = example if isinstance(example, tuple) else (example,)
    example = [x.double() if x.is_floating_point() else x for x in example]
    outputs = []
    for _ in "ab":
        out = moved(*example)
        out = out if isinstance(out, tuple) else (out,)
        outputs.append(torch.cat([o.detach().flatten() for o in out]))
        moved.get_parameter(name).data += torch.arange(D) / D - 0.7
    return float((outputs[0] - outputs[1]).abs().max())


@pytest.mark.parametrize("name", NEVER)
def test_no_shift_where_it_is_none_or_unknown(name):
    model, example = NEVER[name]
    block = head(model, example)
    assert block.role in ("head", "router", "matrix")
    assert not block.shift
    assert block.note == ""


@pytest.mark.parametrize("name", SEEN)
def test_a_shift_where_the_forward_pass_has_the_softmax(name):
    model, example = SEEN[name]
    block = roles(model, example)["w.weight"]
    assert block.shift
    assert block.note == ""
    assert block.role == ("router" if "router" in name or name in (
        "a switch", "a hard choice") else block.role)  # fmt: skip
    assert change(model, example) < 1e-6


@pytest.mark.parametrize("name", ASSUMED)
def test_a_shift_is_assumed_for_logits_of_the_models_tokens(name):
    model, example = ASSUMED[name]
    block = head(model, example)
    assert (block.role, block.shift) == ("head", True)
    assert "assumes a softmax" in block.note


MEASURED = [
    "a sigmoid", "a soft cap before the softmax", "a squared error beside the softmax",
    "a z-loss", "a constant logit beside", "a softmax over both", "a sigmoid router",
    "a softmax over samples", "features scaled one by one", "experts that choose",
    "a router with a softmax over tokens", "a router by raw logits",
    "a router that is a gate, too", "logits beside their softmax", "two temperatures",
    "a router whose logits are returned", "differences with a factor",
    "a mean with a mask", "a difference from a masked one",
    "one feature is doubled in place", "some features are divided in place",
    "an overwritten feature", "a row is added",
    "a row is a factor", "a row is a token", "a router whose best row is added",
    "logits as a mask", "one feature of each pool",
    "logits as a term of a product", "the best of each pool", "the best of two pools",
    "rounded logits", "whole numbers", "temperatures on an axis",
    "added to a part of a buffer",
]  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_those_without_a_shift_change_by_one(name):
    assert change(*NEVER[name]) > 1e-4


def test_a_loss_that_is_seen_decides():
    """The same logits: one softmax in the loss, or a sigmoid for each output."""

    def forward(loss):
        def one(m, input_ids, labels=None):
            logits = m.w(m.hidden(input_ids))
            said = None if labels is None else loss(logits, labels)
            return {"loss": said, "logits": logits}

        return one

    def softmax(logits, labels):
        return F.cross_entropy(logits.transpose(1, 2), labels)

    def sigmoid(logits, labels):
        target = F.one_hot(labels, V).float()
        return F.binary_cross_entropy_with_logits(logits, target)

    for loss, shift in ((softmax, True), (sigmoid, False)):
        model = Model(forward(loss))
        found = roles(model, {"input_ids": TOKENS})["w.weight"]
        assert (found.shift, bool(found.note)) == (True, True)
        given = roles(model, {"input_ids": TOKENS, "labels": TOKENS})["w.weight"]
        assert (given.role, given.shift, given.note) == ("head", shift, "")


def test_tied_heads_have_none():
    model = Model(language)
    model.w.weight = model.table.weight
    block = roles(model, TOKENS)["table.weight"]
    assert (block.role, block.shift, block.note) == ("tied embedding", False, "")
    model = Model(lambda m, ids: m.w(m.hidden(ids)).softmax(-1))
    model.w.weight = model.table.weight
    assert not roles(model, TOKENS)["table.weight"].shift


def test_the_decoders_tokens_count():
    class Translator(nn.Module):
        """Two vocabularies; the head predicts the second."""

        def __init__(self, outputs):
            super().__init__()
            self.source, self.target = nn.Embedding(V, D), nn.Embedding(V + 3, D)
            self.w = nn.Linear(D, outputs, bias=False)

        def forward(self, input_ids, decoder_input_ids):
            x = self.source(input_ids).mean(1, keepdim=True)
            return self.w(torch.tanh(x + self.target(decoder_input_ids)))

    example = {"input_ids": TOKENS, "decoder_input_ids": TOKENS}
    assert roles(Translator(V + 3), example)["w.weight"].shift
    assert not roles(Translator(V), example)["w.weight"].shift


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["cross-entropy", "a router, softmax and top-k"])
def test_shifts_do_not_depend_on_the_precision(name, dtype):
    model, example = SEEN[name]
    example = example.to(dtype) if example.is_floating_point() else example
    found = roles(copy.deepcopy(model).to(dtype), example)
    assert found == roles(*SEEN[name])


def test_describe_shows_what_is_assumed():
    table = describe(Model(language), example=TOKENS).set_index("name")
    assert "shift" in table.loc["w.weight", "group"]


FUNCTIONS = {
    "softplus": F.softplus, "exp": torch.exp, "clamp": lambda w: w.clamp(-1, 1),
    "tanh": torch.tanh, "pow": torch.square, "add": lambda w: w + 1,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_weight_is_not_the_weight(name):
    def through(m, x):
        return F.linear(m.hidden(x), FUNCTIONS[name](m.w.weight)).log_softmax(-1)

    block = roles(Model(through), TOKENS)["w.weight"]
    assert (block.role, block.shift) == ("unknown", False)
    assert f"used through {name} of its entries" == block.note


def test_a_weight_times_a_number_is_the_weight():
    half = torch.tensor(0.5)
    for scaled in (lambda w: -w, lambda w: w / 3, lambda w: w * half):
        model = Model(lambda m, x, f=scaled: F.linear(x, f(m.w.weight)).softmax(-1))
        assert roles(model, NUMBERS)["w.weight"].shift


def test_the_pass_in_training_mode_leaves_no_trace():
    def simple(m, ids):
        m.calls += m.training
        if m.training:
            with torch.no_grad():
                m.mixing.weight.mul_(0.5)
            m.norm(m.hidden(ids).mT)
        return m.w(m.hidden(ids)).softmax(-1)

    model = Model(simple)
    model.norm, model.calls = nn.BatchNorm1d(D), 0
    model.mixing.eval()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    assert roles(model, TOKENS)["w.weight"].shift
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.calls == 0
    assert model.training
    assert not model.mixing.training


def test_a_pass_that_fails_in_training_mode_decides_nothing():
    def forward(m, ids):
        if m.training:
            raise ValueError("targets are missing")
        return m.w(m.hidden(ids)).softmax(-1)

    assert roles(Model(forward), TOKENS)["w.weight"].shift


def test_logits_beside_the_loss_keep_what_the_loss_proves():
    def forward(m, ids):
        logits = m.w(m.hidden(ids))
        return logits, F.cross_entropy(logits.transpose(1, 2), ids)

    block = roles(Model(forward), TOKENS)["w.weight"]
    assert (block.shift, block.note) == (True, "")


def test_what_the_example_did_not_reach_has_no_shift():
    """Two heads of one class, one with a softmax, and one with a sigmoid later."""

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Linear(D, 5, bias=False)

        def forward(self, x):
            return self.w(x)

    class Tasks(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixing, self.one, self.two = nn.Linear(D, D), Head(), Head()

        def forward(self, x, one=True):
            x = self.mixing(x).relu()
            return self.one(x).softmax(-1) if one else self.two(x).sigmoid()

    found = roles(Tasks(), NUMBERS)
    assert [found[f"{n}.w.weight"].role for n in ("one", "two")] == ["head", "head"]
    assert [found[f"{n}.w.weight"].shift for n in ("one", "two")] == [True, False]


class Slots:
    __slots__ = ("router_z_loss_coef",)


def slots():
    made = Slots()
    made.router_z_loss_coef = 0.1
    return made


CONFIGURATIONS = {
    "an attribute": (SimpleNamespace(router_z_loss_coef=0.1), False),
    "in one word": (SimpleNamespace(moe_zloss_weight=1e-3), False),
    "a dict": ({"z_loss": 0.1}, False),
    "nested": (SimpleNamespace(text_config=SimpleNamespace(z_loss_coef=0.1)), False),
    "nested dicts": ({"moe": [{"losses": {"z-loss": 0.1}}]}, False),
    "slots": (slots(), False),
    "none": (SimpleNamespace(z_loss_coef=0.0, sub={"zloss": None}, size=3), True),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_z_loss_in_a_configuration_takes_a_routers_shift(name):
    model, example = SEEN["a switch"]
    model = copy.deepcopy(model)
    model.config, shift = CONFIGURATIONS[name]
    assert roles(model, example)["w.weight"].shift == shift


@pytest.mark.parametrize(("model", "example"), [
    (Model(in_pieces), TOKENS), (Model(two_predictions), TOKENS),
    (Model(one_of_two_losses), TOKENS),
])  # fmt: skip
def test_a_head_may_be_called_several_times(model, example):
    assert roles(model, example)["w.weight"].role == "head"


def test_a_layer_that_is_used_twice_is_no_head():
    def forward(m, x):
        x = x + torch.tanh(m.w(x))
        return x + torch.tanh(m.w(x))

    assert roles(Model(forward, D), NUMBERS)["w.weight"].role == "matrix"


def test_a_tensor_that_is_given_twice_has_its_first_name():
    def forward(m, idx, targets):
        logits = m.w(m.hidden(idx))
        return logits, F.cross_entropy(logits.mT, targets)

    class Named(Model):
        def forward(self, idx, targets=None):
            return forward(self, idx, targets)

    block = roles(Named(None), (TOKENS, TOKENS))["w.weight"]
    assert (block.role, block.shift) == ("head", True)


def test_a_penalty_of_a_softmax_is_no_loss_of_the_logits():
    """What is done with the logits, that are returned, is assumed as without it."""

    def penalty(m, ids):
        logits = m.w(m.hidden(ids))
        return {"logits": logits, "penalty": logits.softmax(-1).square().mean()}

    def loss(m, ids):
        logits = m.w(m.hidden(ids))
        return {"logits": logits, "loss": F.cross_entropy(logits.mT, ids)}

    def by_hand(m, ids):
        logits = m.w(m.hidden(ids))
        likely = logits.log_softmax(-1).gather(-1, ids[..., None])
        return {"logits": logits, "loss": -likely.mean()}

    for forward, noted in ((penalty, True), (loss, False), (by_hand, False)):
        block = roles(Model(forward), TOKENS)["w.weight"]
        assert (block.role, block.shift) == ("head", True)
        assert ("assumes a softmax" in block.note) == noted
