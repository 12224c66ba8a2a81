"""The doctor: each fault planted and found, silence without one, and no trace left."""

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symlab.models import resnet, vision
from symlab.models.families import FAMILIES, family
from symlab.models.transformer import Decoder
from symlab.symopt import PRESETS, SymOpt, roles
from symlab.symopt.doctor import COLUMNS, check
from symlab.symopt.doctor.trial import Weight, compare_experts

V, D, E = 12, 8, 4
IDS = torch.randint(V, (4, 16), generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """An embedding, a gated unit and a head."""

    def __init__(self, width=D, tied=False):
        super().__init__()
        self.table = nn.Embedding(V, width)
        self.a, self.b = nn.Linear(width, 6), nn.Linear(width, 6)
        self.c, self.norm = nn.Linear(6, width), nn.LayerNorm(width)
        self.head = nn.Linear(width, V)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, ids):
        x = self.table(ids)
        x = x + self.c(torch.sigmoid(self.a(x)) * self.b(x))
        return self.head(self.norm(x))


class Routed(nn.Module):
    """Four experts in a list, or as a stack, of which each token uses one."""

    def __init__(self, stacked=False, bias=0.0):
        super().__init__()
        self.table, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.router = nn.Linear(D, E, bias=False)
        self.stack = nn.Parameter(torch.randn(E, D, D)) if stacked else None
        self.experts = nn.ModuleList(() if stacked else (nn.Linear(D, D),) * 0)
        for _ in range(0 if stacked else E):
            self.experts.append(nn.Linear(D, D))
        self.favour = torch.tensor([bias, bias, 0.0, 0.0])  # of two experts

    def forward(self, ids):
        x = self.table(ids)
        weights, which = (self.router(x) + self.favour).softmax(-1).topk(1)
        y = torch.zeros_like(x)
        for e in range(E):
            mine = (which == e).squeeze(-1)
            if mine.any():
                w = self.experts[e].weight if self.stack is None else self.stack[e]
                bias = self.experts[e].bias if self.stack is None else None
                y[mine] = weights[mine] * F.linear(x[mine], w, bias)
        return self.head(x + y)


def next_token(model, ids) -> torch.Tensor:
    logits = model(ids)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def small(**options) -> Small:
    torch.manual_seed(0)
    return Small(**options)


def adamw(model, **settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), **{"weight_decay": 0.0} | settings)


def only(table, finding: str, *names: str, severity: str | None = None):
    """The one row, which must be this finding of these parameters."""
    assert table.finding.tolist() == [finding], table.to_string()
    row = table.iloc[0]
    assert row["count"] == len(names)
    if len(names) <= 3:
        assert set(filter(None, row.parameters.split(", "))) == set(names)
    assert severity in (None, row.severity)
    assert row.what_to_do.endswith(".")
    return row


# --- silence -------------------------------------------------------------------------


def mixed(model, example) -> list[torch.optim.Optimizer]:
    """Muon at AdamW's scale for hidden matrices, and AdamW for the rest."""
    hidden = ("query", "key", "value", "attention out", "gate", "up", "down", "matrix")
    parameters, blocks = dict(model.named_parameters()), roles(model, example)
    matrices = [n for n, b in blocks.items() if b.role in hidden and len(b.shape) == 2]
    rest = [p for n, p in parameters.items() if n not in matrices]
    found = [torch.optim.AdamW(rest, weight_decay=0.0)]
    if matrices:
        matrices = [parameters[n] for n in matrices]
        muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
        found.append(muon)
    return found


OPTIMIZERS = {
    "symopt": lambda model, example: SymOpt(model, example=example),
    "adamw": lambda model, example: adamw(model),
    "sgd": lambda model, example: torch.optim.SGD(model.parameters(), 0.1, 0.9),
    "muon and adamw": mixed,
}


def hugging_face(name: str, **settings) -> nn.Module:
    vision.torchvision()  # transformers imports it
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    kind = f"{name}ForCausalLM"
    if name == "T5":
        kind = "T5ForConditionalGeneration"
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        settings = {"decoder_start_token_id": 0}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    config = getattr(transformers, f"{name}Config")
    config = config(vocab_size=64, **sizes, **ends, **settings)
    torch.manual_seed(0)
    return getattr(transformers, kind)(config)


def decoder(name: str) -> nn.Module:
    sizes = {"width": 32, "layers": 2, "heads": 2, "kv_heads": 1, "head_width": 16}
    sizes |= {"hidden": 48, "vocabulary": 64, "context": 32}
    if name in ("olmoe", "gpt-oss"):
        sizes |= {"experts": 4, "chosen": 2}
    return Decoder(family(name, **sizes), torch.Generator().manual_seed(0))


LABELLED = {"input_ids": IDS, "labels": IDS}
IMAGES = (torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)),)
MODELS: dict[str, tuple[Callable, object, Callable | None]] = {
    "small": (small, IDS, next_token),
    "tied": (lambda: small(tied=True), IDS, next_token),
    "routed": (lambda: Routed(), IDS, next_token),
    "stacked": (lambda: Routed(stacked=True), IDS, next_token),
    **{name: (lambda n=name: decoder(n), IDS, next_token) for name in FAMILIES},
    "Llama": (lambda: hugging_face("Llama"), LABELLED, None),
    "Qwen3": (lambda: hugging_face("Qwen3", head_dim=8), LABELLED, None),
    "Mixtral": (lambda: hugging_face("Mixtral", num_local_experts=4), LABELLED, None),
    "T5": (lambda: hugging_face("T5"), LABELLED, None),
    "resnet18": (
        resnet.resnet18,
        (*IMAGES, torch.arange(4)),
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_found_where_nothing_is_wrong(name, kind):
    torch.manual_seed(3)
    make, batch, loss = MODELS[name]
    model = make()
    example = IMAGES if name == "resnet18" else batch
    table = check(model, OPTIMIZERS[kind](model, example), batch, loss)
    assert table.empty, table.to_string()
    assert list(table.columns) == COLUMNS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_means_what_it_does(preset):
    for name in ("qwen3", "olmoe"):
        model = decoder(name)
        opt = SymOpt(model, preset=preset, example=IDS)
        assert check(model, opt, IDS, next_token).empty
    fused = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    x = torch.randn(2, 5, 16)
    opt = SymOpt(fused, preset=preset, example=x)
    assert check(fused, opt, x, lambda m, x: m(x)[..., 0].square().mean()).empty


def test_operator_norms_of_scion_are_no_fault():
    torch.manual_seed(0)
    model = Wide(narrow=True)
    scion = SymOpt(model, lr=3e-4, preset="scion", example=IDS)
    assert check(model, scion, IDS, next_token).empty


def test_a_trained_model_a_warm_up_and_zero_initial_values_are_no_faults():
    model = small()
    opt = adamw(model, lr=1e-2)
    for _ in range(20):
        opt.zero_grad()
        next_token(model, IDS).backward()
        opt.step()
    opt.zero_grad()
    assert check(model, opt, IDS, next_token).empty
    torch.optim.lr_scheduler.LambdaLR(opt, lambda t: t / 10)
    assert opt.param_groups[0]["lr"] == 0
    assert check(model, opt, IDS, next_token).empty
    assert opt.param_groups[0]["lr"] == 0
    nn.init.zeros_(model.c.weight)  # a and b get no gradient in the first step
    assert check(model, adamw(model), IDS, next_token).empty
    table = check(model, adamw(model), IDS, next_token, steps=1)
    only(table, "gradient is exactly zero", *(f"{m}.{p}" for m in "ab"
         for p in ("weight", "bias")))  # fmt: skip


def test_muon_as_its_author_tunes_it_is_silent():
    """Matrices at lr 0.02 beside AdamW at 0.0003: the rates are not shared."""
    model = small(width=600)
    model.a, model.b = nn.Linear(600, 600), nn.Linear(600, 600)
    model.c = nn.Linear(600, 600)
    matrices = [m.weight for m in (model.a, model.b, model.c)]
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    muon = torch.optim.Muon(matrices, lr=0.02)
    other = torch.optim.AdamW(rest, lr=3e-4, weight_decay=0.0)
    assert check(model, [muon, other], IDS, next_token).empty


# --- nothing stays -------------------------------------------------------------------


class Restless(nn.Module):
    """Writes to everything that a module can have."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(1).expand(3))
        self.plain, self.number = torch.zeros(2), 0
        self.drop.eval()

    def forward(self, x):
        self.calls += 1
        self.plain.add_(1)
        self.replaced = self.replaced + 1
        self.number += 1
        x = x + random.random() + float(np.random.rand())  # noqa: NPY002
        return self.last(self.drop(self.norm(self.first(x)).relu()))


def everything(model, optimizers) -> dict:
    """All that a check could change, copied, with identities of what is held."""
    told = {
        "state": [copy.deepcopy(o.state_dict()) for o in optimizers],
        "held": [[id(t) for s in o.state.values() for t in s.values()
                  if isinstance(t, torch.Tensor)] for o in optimizers],
        "groups": [[id(g) for g in o.param_groups] for o in optimizers],
        "names": [sorted(vars(o)) for o in optimizers],
        "model": copy.deepcopy(model.state_dict()),
        "ids": [(id(t), t.data_ptr()) for t in (*model.parameters(), *model.buffers())],
        "grads": [(id(p.grad), None if p.grad is None else p.grad.clone())
                  for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": [len(m._forward_pre_hooks) for m in model.modules()],
        "random": (torch.get_rng_state(), random.getstate(),
                   np.random.get_state()),  # noqa: NPY002
    }  # fmt: skip
    if isinstance(model, Restless):
        told["plain"] = (model.plain.clone(), model.number)
    return told


def assert_same(a, b, where="") -> None:
    if isinstance(a, torch.Tensor | np.ndarray):
        assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for k in a:
            assert_same(a[k], b[k], f"{where}.{k}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}.{i}")
    else:
        assert a == b, where


def restless(kind: str):
    """A model, optimizers with state, and gradients."""
    torch.manual_seed(0)
    model, x = Restless(), torch.randn(6, 4)
    if kind == "lbfgs":
        optimizers = [torch.optim.LBFGS(model.parameters(), max_iter=2)]
    elif kind == "muon and adamw":
        rest = [p for p in model.parameters() if p is not model.first.weight]
        optimizers = [torch.optim.Muon([model.first.weight]), torch.optim.AdamW(rest)]
    elif kind == "scheduled":
        optimizers = [torch.optim.SGD(model.parameters(), 0.1, 0.9)]
        torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda t: 0.5**t)
        return model, optimizers, x  # fresh: no step was taken
    else:
        optimizers = [OPTIMIZERS[kind](model, x)]

    def closure():
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        for o in optimizers:
            o.step(closure)
    model.last.weight.grad = None
    return model, optimizers, x


def squared(model, x):
    return model(x).square().mean()


KINDS = ("symopt", "adamw", "sgd", "lbfgs", "muon and adamw", "scheduled")


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_leaves_no_trace(kind):
    model, optimizers, x = restless(kind)
    before = everything(model, optimizers)
    with torch.no_grad():
        check(model, optimizers, x, squared, clip=0.1)
        assert not torch.is_grad_enabled()
    assert_same(before, everything(model, optimizers))


@pytest.mark.parametrize("call", [1, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_a_check_that_fails(kind, call):
    """The loss raises: while roles are looked for, in a first and in a later step."""
    model, optimizers, x = restless(kind)
    calls = []

    def failing(model, x):
        model.eval()
        loss = squared(model, x)
        calls.append(loss)
        if len(calls) == call:
            raise ZeroDivisionError
        return loss

    before = everything(model, optimizers)
    with pytest.raises(ZeroDivisionError):
        check(model, optimizers, x, failing)
    assert_same(before, everything(model, optimizers))
    optimizers[0].step = lambda closure=None: 1 / 0
    with pytest.raises(ZeroDivisionError):
        check(model, optimizers, x, squared)
    del optimizers[0].step
    if kind != "scheduled":  # a scheduler's step lies there, too
        assert_same(before, everything(model, optimizers))


# --- the loss ------------------------------------------------------------------------


def test_the_loss_is_the_outputs_or_asked_for():
    model = hugging_face("Llama")
    with pytest.raises(ValueError, match="there is no scalar loss"):
        check(model, adamw(model), {"input_ids": IDS})
    model = small()
    with pytest.raises(ValueError, match="give loss="):
        check(model, adamw(model), IDS)
    with pytest.raises(ValueError, match="does not depend on any parameter"):
        check(model, adamw(model), IDS, lambda m, b: next_token(m, b).detach())
    with pytest.raises(ValueError, match="steps = 0"):
        check(model, adamw(model), IDS, next_token, steps=0)
    total = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0), nn.Linear(1, 1))
    assert check(total, adamw(total), torch.randn(1, 4)).empty
    assert check(total, adamw(total), (torch.randn(1, 4),)).empty


def test_roles_are_found_whatever_the_batch_of_the_loss_is():
    """From the call that the loss makes: positional and keyword arguments."""

    class Named(Small):
        def forward(self, ids, *, scale):
            return super().forward(ids) * scale

    torch.manual_seed(0)
    model = Named()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = torch.optim.AdamW([p for p in model.parameters() if p.ndim < 2])
    rest.param_groups[0]["weight_decay"] = 0.0
    muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
    table = check(
        model,
        [muon, rest],
        {"x": IDS, "times": 2.0},
        lambda m, b: F.cross_entropy(
            m(b["x"], scale=b["times"])[:, :-1].flatten(0, 1), b["x"][:, 1:].flatten()
        ),
    )
    assert dict(zip(table.parameters, table.measured, strict=True)) == {
        "table.weight": "role: embedding",
        "head.weight": "role: head",
    }


def test_a_model_whose_roles_are_unknown_is_checked_for_the_rest(monkeypatch):
    def fails(*_):
        raise ValueError("no roles today")

    monkeypatch.setattr("symlab.symopt.doctor.trial.roles", fails)
    model = small()
    row = only(check(model, adamw(model), IDS, next_token), "roles are unknown")
    assert row.measured == "no roles today"


# --- which parameters are stepped ----------------------------------------------------


def test_parameters_in_no_group_and_in_two():
    model = small()
    rest = [p for n, p in model.named_parameters() if n != "a.weight"]
    opt = torch.optim.AdamW(rest, weight_decay=0.0)
    table = check(model, opt, IDS, next_token)
    only(table, "parameter is in no optimizer", "a.weight", severity="error")
    more = torch.optim.SGD([model.a.weight, model.b.weight], lr=0.1)
    row = only(
        check(model, [opt, more], IDS, next_token),
        "parameter is in several groups",
        "b.weight",
    )
    assert row.measured == "2 updates in each step"
    tied = small(tied=True)
    rest = [p for p in tied.parameters() if p is not tied.table.weight]
    both = [
        torch.optim.AdamW([tied.table.weight]),
        torch.optim.AdamW(tied.parameters()),
    ]
    for opt in both:
        opt.param_groups[0]["weight_decay"] = 0.0
    table = check(tied, both, IDS, next_token)
    only(table, "parameter is in several groups", "table.weight")


def test_the_gravest_come_first_and_each_parameter_once():
    model = small()
    model.spare = nn.Linear(3, 3)
    opt = torch.optim.AdamW([*model.parameters(), nn.Parameter(torch.zeros(3))])
    opt.param_groups[0]["weight_decay"] = 0.1
    model.a.weight.grad = torch.ones_like(model.a.weight)
    table = check(model, opt, IDS, next_token)
    assert table.severity.tolist() == ["error", "warning", "note", "note"]
    assert table.parameters[0] == "spare.weight, spare.bias"
    decayed = table[table.finding == "weight decay on gains or biases"]
    assert decayed["count"].item() == 6  # of 7 vectors: not the spare one
    assert decayed.parameters.item() == "a.bias, b.bias and 4 more"


def test_an_optimizer_of_another_copy_is_one_finding():
    old = small()
    model = copy.deepcopy(old)
    table = check(model, adamw(old), IDS, next_token)
    names = [n for n, _ in model.named_parameters()]
    finding = "optimizer has parameters that are not the model's"
    only(table, finding, *names, severity="error")
    model.head = nn.Linear(D, V)  # a new head after the optimizer was built
    opt = adamw(old := small())
    old.head = nn.Linear(D, V)
    table = check(old, opt, IDS, next_token)
    only(table, finding, "head.weight", "head.bias", severity="error")
    model = small()
    opt = torch.optim.AdamW([*model.parameters(), nn.Parameter(torch.zeros(3))])
    opt.param_groups[0]["weight_decay"] = 0.0
    table = check(model, opt, IDS, next_token)
    only(table, finding, "(3,) in group 0".replace(", ", ","), severity="warning")


def test_parameters_of_the_loss_are_no_strangers():
    model, temperature = small(), nn.Parameter(torch.ones(()))
    opt = torch.optim.AdamW([*model.parameters(), temperature], weight_decay=0.0)
    assert check(model, opt, IDS, lambda m, b: next_token(m, b) * temperature).empty
    assert temperature == 1


def test_tied_weights_that_are_split():
    model = small()
    model.head.weight = nn.Parameter(model.table.weight.data)
    table = check(model, adamw(model), IDS, next_token)
    row = only(table, "tied weights are split", "table.weight", "head.weight")
    assert "same memory" in row.measured
    model = hugging_face("Llama", tie_word_embeddings=True)
    assert check(model, adamw(model), LABELLED).empty
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    for named in (model, nn.ModuleDict({"inner": model})):
        table = check(named, adamw(model), LABELLED, lambda _, b: model(**b).loss)
        table = table[table.finding != "roles are unknown"]
        assert table.finding.tolist() == ["tied weights are split"]
        assert "embed_tokens.weight" in table.parameters[table.index[0]]
        assert "the configuration ties" in table.measured[table.index[0]]

    class Promising(Small):
        """Has what older versions of transformers have."""

        config = type("Config", (), {"tie_word_embeddings": True})
        get_input_embeddings = lambda self: self.table  # noqa: E731
        get_output_embeddings = lambda self: self.head  # noqa: E731

    model = Promising()
    table = check(model, adamw(model), IDS, next_token)
    only(table, "tied weights are split", "table.weight", "head.weight")
    model = Promising(tied=True)
    assert check(model, adamw(model), IDS, next_token).empty
    t5 = hugging_face("T5")
    other = t5.decoder.embed_tokens
    other.weight = nn.Parameter(other.weight.detach().clone())
    table = check(t5, adamw(t5), LABELLED)
    assert table.finding.tolist() == ["tied weights are split"]
    assert "decoder.embed_tokens.weight" in table.parameters[0]


# --- gradients and motion ------------------------------------------------------------


def test_parameters_that_the_loss_does_not_reach():
    model = small()
    model.spare = nn.Linear(3, 3)
    table = check(model, adamw(model), IDS, next_token)
    only(table, "parameter gets no gradient", "spare.weight", "spare.bias")
    model.spare.requires_grad_(False)
    assert check(model, adamw(model), IDS, next_token).empty
    nn.init.constant_(model.head.weight, 0.0)
    model.head.weight.requires_grad_(False)  # what is before it gets zeros
    table = check(model, adamw(model), IDS, next_token)
    only(table, "gradient is exactly zero",
         "table.weight", "norm.weight", "norm.bias",
         *(f"{m}.{p}" for m in "abc" for p in ("weight", "bias")),
         severity="warning")  # fmt: skip


def test_learning_rates_of_zero():
    model = small()
    names = [n for n, _ in model.named_parameters()]
    table = check(model, adamw(model, lr=0.0), IDS, next_token)
    only(table, "learning rate is 0", *names, severity="error")
    groups = [{"params": [p], "lr": 0.0 if n == "a.bias" else 1e-3}
              for n, p in model.named_parameters()]  # fmt: skip
    opt = torch.optim.AdamW(groups, weight_decay=0.0)
    table = check(model, opt, IDS, next_token)
    only(table, "learning rate is 0", "a.bias", severity="warning")


def test_updates_that_half_precision_loses():
    model = small().bfloat16()
    model.a.float()  # its input is converted below
    model.a.forward = lambda x: F.linear(x.float(), model.a.weight).bfloat16()
    model.a.bias = None
    table = check(model, adamw(model, lr=1e-5), IDS, next_token)
    found = table.set_index("finding")
    assert found.index.tolist() == ["updates are lost to rounding"]
    row = found.loc["updates are lost to rounding"]
    assert "bfloat16 weight at lr 1e-05" in row.measured
    # the biases begin at 0 or near it, and a is float32
    gone = ("table.weight", "norm.weight", "b.weight", "c.weight", "head.weight")
    assert row.severity == "error"
    assert row["count"] >= len(gone)
    silent = check(model, adamw(model, lr=0.03), IDS, next_token)
    assert silent.empty
    single = small()
    table = check(single, adamw(single, lr=1e-12), IDS, next_token)
    assert table.finding.tolist() == ["updates are lost to rounding"]
    assert "norm.weight" in names_of(single, 1e-12)


def names_of(model, lr: float) -> list[str]:
    """The weights that rounding keeps in place, one by one."""
    found = []
    for name, p in model.named_parameters():
        rest = [q for q in model.parameters() if q is not p]
        opt = [torch.optim.AdamW([p], lr=lr, weight_decay=0.0),
               torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.0)]  # fmt: skip
        table = check(model, opt, IDS, next_token)
        if not table.empty:
            only(table, "updates are lost to rounding", name)
            found.append(name)
    return found


class Stochastic(torch.optim.Optimizer):
    """Sign descent with stochastic rounding to bfloat16: nothing is lost on average."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                exact = p.float() - group["lr"] * p.grad.float().sign()
                noise = torch.randint_like(exact, 1 << 16, dtype=torch.int32)
                bits = exact.view(torch.int32) + noise
                p.copy_(((bits >> 16) << 16).view(torch.float32))


def test_stochastic_rounding_is_no_loss():
    model = nn.Linear(64, 64, bias=False).bfloat16()
    x = torch.randn(8, 64).bfloat16()
    loss = lambda m, x: m(x).square().mean()  # noqa: E731
    opt = Stochastic(model.parameters(), lr=1e-5)
    assert check(model, opt, x, loss).empty
    opt = torch.optim.SGD(model.parameters(), lr=1e-5)
    only(check(model, opt, x, loss), "updates are lost to rounding", "weight")


class Matrices(torch.optim.SGD):
    """Forgets vectors, and decays what is frozen."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.ndim > 1:
                    p.sub_(group["lr"] * p.grad)
                if p.grad is None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])


def test_parameters_that_never_move_and_frozen_ones_that_do():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    x, loss = torch.randn(5, 4), lambda m, x: m(x).square().mean()
    opt = Matrices(model.parameters(), lr=0.1)
    table = check(model, opt, x, loss)
    only(table, "parameter has a gradient and never moves", "0.bias", severity="error")
    model[0].requires_grad_(False)
    assert check(model, opt, x, loss).empty
    opt.param_groups[0]["weight_decay"] = 0.1
    table = check(model, opt, x, loss)
    only(table, "frozen parameter moves", "0.weight", "0.bias", severity="note")


def test_numbers_that_are_not_finite():
    model = small()
    table = check(model, adamw(model), IDS, lambda m, b: next_token(m, b) * torch.inf)
    assert "a loss of inf" in only(table, "loss is not finite").measured
    # a root at 0: the loss is finite and its gradient is not
    root = lambda m, b: next_token(m, b) + (0 * m.a.bias).sum().sqrt()  # noqa: E731
    row = only(
        check(model, adamw(model), IDS, root), "gradient is not finite", "a.bias"
    )
    assert row.measured == "at step 1"
    steep = torch.optim.SGD(model.parameters(), lr=1e30)
    table = check(model, steep, IDS, next_token)
    assert table.finding.str.contains("not finite").all()
    assert len(table) == 1


def test_sparse_gradients():
    model = small()
    model.table = nn.Embedding(V, D, sparse=True)
    for opt in (SymOpt(model, example=IDS), adamw(model)):
        table = check(model, opt, IDS, next_token)
        only(table, "gradient is sparse", "table.weight", severity="error")
    rest = [p for p in model.parameters() if p is not model.table.weight]
    fit = [torch.optim.SparseAdam([model.table.weight]), torch.optim.AdamW(rest)]
    fit[1].param_groups[0]["weight_decay"] = 0.0
    assert check(model, fit, IDS, next_token).empty


# --- rules that do not fit -----------------------------------------------------------


def test_heads_and_embeddings_under_a_matrix_rule():
    model = small()
    opt = SymOpt(model, example=IDS, overrides={"head": "spectral"})
    table = check(model, opt, IDS, next_token)
    finding = "embedding or head under a matrix rule"
    row = only(table, finding, "head.weight", severity="warning")
    assert row.measured == "role: head"
    vectors = {"params": [p for p in model.parameters() if p.ndim < 2]}
    hand = SymOpt(
        [
            {"params": [p for p in model.parameters() if p.ndim == 2]},
            vectors | {"rule": "adamw"},
        ],
        weight_decay=0.0,
    )
    table = check(model, hand, IDS, next_token)
    assert table.parameters.tolist() == ["table.weight", "head.weight"]
    tied = small(tied=True)
    matrices = [p for p in tied.parameters() if p.ndim == 2]
    muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
    rest = torch.optim.SGD([p for p in tied.parameters() if p.ndim < 2], lr=0.1)
    row = only(check(tied, [muon, rest], IDS, next_token), finding, "table.weight")
    assert row.measured == "role: tied embedding"


class Fused(nn.Module):
    """One attention with queries, keys and values in one weight."""

    def __init__(self):
        super().__init__()
        self.table, self.qkv = nn.Embedding(V, D), nn.Linear(D, 3 * D, bias=False)
        self.out, self.head = nn.Linear(D, D, bias=False), nn.Linear(D, V, bias=False)

    def forward(self, ids):
        x = self.table(ids)
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, D // 2)).movedim(-3, 0)
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        return self.head(x + self.out(y.transpose(1, 2).flatten(-2)))


def test_fused_weights_that_are_orthogonalised_as_one():
    torch.manual_seed(0)
    model, finding = Fused(), "fused weight is orthogonalised as one"
    assert check(model, SymOpt(model, example=IDS), IDS, next_token).empty
    whole = SymOpt(model, example=IDS, overrides={"qkv": {"per_piece": False}})
    muon = torch.optim.Muon(
        [model.qkv.weight, model.out.weight], adjust_lr_fn="match_rms_adamw"
    )
    rest = [model.table.weight, model.head.weight]
    rest = torch.optim.AdamW(rest, weight_decay=0.0)
    for opt in (whole, [muon, rest]):
        table = check(model, opt, IDS, next_token)
        only(table, finding, "qkv.weight", severity="warning")


class Wide(nn.Module):
    """Matrices with a longest side of 512, or of 512 and 16."""

    def __init__(self, narrow=False):
        super().__init__()
        width = 16 if narrow else 512
        self.table, self.up = nn.Embedding(V, 512), nn.Linear(512, 512, bias=False)
        self.more = nn.Linear(512, 512, bias=False)
        self.down = nn.Linear(512, width, bias=False)
        self.inner = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, V, bias=False)

    def forward(self, ids):
        x = self.more(self.up(self.table(ids)).relu()).relu()
        return self.head(self.inner(self.down(x).relu()).relu())


HIDDEN = ("up", "more", "down", "inner")


def test_updates_that_depend_on_the_width():
    torch.manual_seed(0)
    model, finding = Wide(), "update size depends on the width"
    matrices = [getattr(model, n).weight for n in HIDDEN]
    rest = [model.table.weight, model.head.weight]
    names = [f"{n}.weight" for n in HIDDEN]
    other = torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.0)
    muon = torch.optim.Muon(matrices, lr=1e-3)
    row = only(check(model, [muon, other], IDS, next_token), finding, *names,
               severity="warning")  # fmt: skip
    size = float(row.measured.split(" lr")[0].split()[-1])
    assert size == pytest.approx(512**-0.5, rel=0.3)  # 0.044 of a polar factor
    same = dict.fromkeys(("embedding", "head"), {"rule": "adamw", "lr_scale": 1.0})
    ours = SymOpt(model, example=IDS, overrides=same | {"matrix": {"scale": "muon"}})
    only(check(model, ours, IDS, next_token), finding, *names, severity="warning")
    narrow = Wide(narrow=True)
    ours = SymOpt(narrow, example=IDS, overrides={"matrix": {"scale": "none"}})
    table = check(narrow, ours, IDS, next_token)
    row = only(table, finding, "inner.weight", severity="note")
    assert "at longest sides of 16" in row.measured


def test_clipping_before_normalised_updates():
    model = small()
    opt = SymOpt(model, example=IDS)
    matrices = [n for n, p in model.named_parameters() if p.ndim == 2]
    table = check(model, opt, IDS, next_token, clip=0.5)
    row = only(
        table, "clipping does not limit these updates", *matrices, severity="warning"
    )
    next_token(model, IDS).backward()
    norm = float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    model.zero_grad()
    low, high = (float(x) for x in row.measured.split(",")[0].split()[2::2])
    assert low <= norm <= 1.05 * high
    assert row.measured.endswith(", max_norm 0.5")
    assert check(model, adamw(model), IDS, next_token, clip=0.5).empty
    scaled = SymOpt(model, example=IDS, preset="polargrad")
    assert check(model, scaled, IDS, next_token, clip=0.5).empty


def test_decay_of_vectors_and_gradients_that_were_there():
    model = small()
    vectors = [n for n, p in model.named_parameters() if p.ndim < 2]
    table = check(model, adamw(model, weight_decay=0.1), IDS, next_token)
    only(table, "weight decay on gains or biases", *vectors, severity="note")
    model.a.weight.grad = torch.ones_like(model.a.weight)
    model.b.weight.grad = torch.zeros_like(model.b.weight)
    table = check(model, adamw(model), IDS, next_token)
    only(table, "gradients were there before the first step", "a.weight",
         severity="note")  # fmt: skip


# --- experts -------------------------------------------------------------------------


def test_experts_that_are_copies_and_stay_so():
    torch.manual_seed(0)
    model = Routed(stacked=True)
    with torch.no_grad():
        model.stack.copy_(model.stack[:1].expand(E, D, D).clone())
    separate = check(model, adamw(model), IDS, next_token)
    assert separate.empty  # tokens of their own take them apart

    def together(model, ids):
        model.stack.register_hook(lambda g: g.mean(0, keepdim=True).expand_as(g))
        return next_token(model, ids)

    table = check(model, adamw(model), IDS, together)
    row = only(table, "experts are copies of each other", "stack", severity="error")
    assert row.measured.startswith("4 of 4 experts (0, 1, 2, 3)")
    assert "after 3 steps" in row.measured


def test_experts_of_equal_sums_are_no_copies():
    weights = [Weight(f"{e}", nn.Parameter(torch.tensor([x]))) for e, x in
               enumerate(([1.0, 2.0], [2.0, 1.0], [1.0, 2.0]))]  # fmt: skip
    for w in weights:
        w.gradient = "some"
    compare_experts([[w] for w in weights])
    assert [w.copies for w in weights] == ["2 of 3 experts (0, 2)", ""] + [
        "2 of 3 experts (0, 2)"
    ]


def test_experts_that_no_token_reached():
    for stacked in (True, False):
        torch.manual_seed(0)
        model = Routed(stacked, bias=100.0)
        table = check(model, adamw(model), IDS, next_token)
        idle = ["stack"] if stacked else [f"experts.{e}.{p}" for e in (2, 3)
                                          for p in ("weight", "bias")]  # fmt: skip
        row = only(table, "experts get no gradient", *idle, severity="note")
        assert row.measured.startswith("2 of 4 experts (2, 3)")
