"""The floor of both tracers: every operation of a model by itself, by its name."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from symlab import mirror, tracing
from symlab.symopt import roles

BATCH = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


class Names(tracing.Mode):
    def __init__(self):
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(tracing.operator_name(func))
        return func(*args, **(kwargs or {}))


def hidden(x, weight, bias):
    return nn.functional.linear(x, weight, bias).tanh()


class Model(nn.Module):
    """Two layers; `layer` computes the first. Unit 5 is a copy of unit 2."""

    def __init__(self, layer=hidden):
        super().__init__()
        self.layer, self.up, self.down = layer, nn.Linear(3, 8), nn.Linear(8, 1)
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(generator=draws)
            for t in (self.up.weight, self.up.bias, self.down.weight.T):
                t[5] = t[2]

    def forward(self, x):
        return self.down(self.layer(x, self.up.weight, self.up.bias))


def loss(model, x):
    return model(x).square().mean()


def test_a_compiled_model_is_followed_as_the_one_that_is_written():
    models = Model(), Model(torch.compile(hidden, backend="eager"))
    models[1](BATCH)  # its graph is there now
    names, kinds, tables, smaller = [], [], [], []
    for model in models:
        with torch.no_grad(), tracing.one_by_one(), Names() as followed:
            model(BATCH)
        names.append(followed.seen)
        kinds.append({n: b.role for n, b in roles(model, BATCH).items()})
        tables.append(mirror.audit(model, loss, BATCH))
        smaller.append(mirror.compress(model, loss, BATCH)[0])
    assert names[0] == names[1] == ["t", "addmm", "tanh", "t", "addmm"]
    assert kinds[0] == kinds[1]
    assert tables[0].equals(tables[1])
    assert [m.up.weight.shape for m in smaller] == [(7, 3), (7, 3)]


def test_torchs_attention_layer_is_more_than_one_operation():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    before = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), Names() as fused:
        layer(x)
    followed = Names()
    with torch.no_grad(), tracing.one_by_one(), followed:
        layer(x)
    assert "transformer_encoder_layer_fwd" in fused.seen
    assert "transformer_encoder_layer_fwd" not in followed.seen
    assert {"native_layer_norm", "relu"} <= set(followed.seen)
    with pytest.raises(AssertionError, match="2D"), tracing.one_by_one():
        layer(x[0, 0, 0])
    assert torch.backends.mha.get_fastpath_enabled() is before


def test_names_are_without_namespace_overload_and_outer_underscores():
    x = torch.ones(2, 2)
    with Names() as followed:
        x.add_(1)
        torch._softmax(x, 0, False)
        (x > 0) & (x > 1)
    assert followed.seen == ["add", "softmax", "gt", "gt", "bitwise_and"]
    assert tracing.operator_name(torch.ops.aten.__and__.Tensor) == "__and__"


def test_labels_are_compact_and_written_where_a_view_lies():
    labels = torch.arange(3)[:, None, None].expand(3, 4, 5)
    other = torch.arange(5).expand(3, 4, 5)
    assert [t.shape for t in tracing.compact(labels)] == [(3, 1, 1)]
    assert [t.shape for t in tracing.compact(labels, other)] == [(3, 1, 5), (3, 1, 5)]
    base = torch.zeros(4, 6)
    view, places = base[1:3, ::2].T, torch.zeros(4, 6, dtype=torch.long)
    tracing.seen_through(view, base, places).copy_(torch.arange(6).view(3, 2))
    view.copy_(torch.arange(6.0).view(3, 2))
    assert torch.equal(base.long(), places)


def test_following_a_model_does_not_load_the_compiler():
    program = (
        "import sys, torch\n"
        "from symlab.symopt import roles\n"
        "roles(torch.nn.Linear(3, 8), torch.randn(4, 3))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
