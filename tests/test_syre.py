"""syre: the function and the ties stay, the default scale is a remedy, mistakes."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from symlab.mirror import DCS, remove_symmetries, syre


def offsets(model):
    """{name: theta_0} of every offset of the model."""
    return {
        name.removesuffix(".0.offset").replace("parametrizations.", ""): b
        for name, b in model.named_buffers(remove_duplicate=False)
        if name.endswith(".0.offset")
    }


def decayed(model, lr=0.05, weight_decay=0.1, momentum=0.9):
    return torch.optim.SGD(
        model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
    )


# --- ties -----------------------------------------------------------------------------


class Ties(nn.Module):
    """One embedding, used to read, to write and, under another name, in between."""

    def __init__(self):
        super().__init__()
        self.read = nn.Embedding(20, 6)
        self.block = nn.Linear(6, 6)
        self.twice = nn.ModuleList([self.block, nn.Tanh(), self.block])
        self.write = nn.Linear(6, 20, bias=False)
        self.also = self.write.weight = self.read.weight

    def forward(self, i):
        x = self.read(i) + self.also[0]
        for layer in self.twice:
            x = layer(x)
        return self.write(x)


@pytest.mark.parametrize("scale", [None, 0.5, "paper"])
def test_ties_and_the_function_stay(scale):
    torch.manual_seed(1)
    model, i = Ties(), torch.arange(20)
    before, count = model(i), len(list(model.parameters()))
    optimizer = decayed(model)  # made before: the parameters stay the same objects
    assert remove_symmetries(model, scale=scale) is model
    torch.testing.assert_close(model(i), before)
    assert len(list(model.parameters())) == count == 3
    for _ in range(3):
        optimizer.zero_grad()
        model(i).square().mean().backward()
        optimizer.step()
    assert torch.equal(model.read.weight, model.write.weight)
    assert torch.equal(model.read.weight, model.also)
    assert not torch.allclose(model(i), before)
    twin = copy.deepcopy(model)
    assert len(list(twin.parameters())) == count
    fresh = remove_symmetries(Ties(), seed=5)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(i), model(i))


def test_removal_bakes_the_offset_in():
    layer = nn.Linear(4, 3)
    weight = layer.weight.detach().clone()
    remove_symmetries(layer, scale=0.5)
    for name in ("weight", "bias"):
        parametrize.remove_parametrizations(layer, name)
    assert type(layer) is nn.Linear
    torch.testing.assert_close(layer.weight.detach(), weight)


def test_two_parameters_over_one_memory_are_refused():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight.data = a.weight.data
    model = nn.Sequential(a, b)
    with pytest.raises(ValueError, match="0.weight and 1.weight are two parameters"):
        remove_symmetries(model)
    assert not parametrize.is_parametrized(a)


# --- modules that read their weights in their own way ---------------------------------

X = torch.linspace(-2, 2, 5 * 2 * 8).view(5, 2, 8).sin()
LAYER = {"dropout": 0.0, "batch_first": True}
READERS = {
    "lstm": lambda: nn.LSTM(8, 6, 2, bidirectional=True),
    "gru": lambda: nn.GRU(8, 6, 2),
    "rnn": lambda: nn.RNN(8, 6),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "attention of other sizes": lambda: nn.MultiheadAttention(
        8, 2, kdim=8, vdim=8, add_bias_kv=True
    ),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, **LAYER), 2
    ),
    "old weight norm": lambda: torch.nn.utils.weight_norm(nn.Linear(8, 3)),
}


def read(module, x=X):
    out = module(x, x, x) if isinstance(module, nn.MultiheadAttention) else module(x)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_fast_paths_see_the_offset(kind, mode):
    torch.manual_seed(0)
    module = READERS[kind]().train(mode == "train")
    with torch.set_grad_enabled(mode != "no_grad"):
        before = read(module).detach().clone()
        remove_symmetries(module)
        for _ in range(2):
            torch.testing.assert_close(read(module), before)
    if mode == "no_grad":
        return
    optimizer = decayed(module)
    read(module).square().mean().backward()
    assert all(p.grad is not None for p in module.parameters())
    optimizer.step()
    assert not torch.allclose(read(module), before)


def test_lists_and_dicts_of_parameters_and_shared_modules():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.some = nn.ParameterList([torch.ones(3), torch.randn(3)])
            self.named = nn.ParameterDict({"a": torch.randn(3)})
            self.one = nn.Parameter(torch.tensor(2.0))
            self.none = nn.Parameter(torch.zeros(0, 3))

        def forward(self):
            return sum(p for p in self.some) * self.named["a"] * self.one

    model = Bag()
    before = model()
    torch.testing.assert_close(remove_symmetries(model)(), before)
    assert len(offsets(model)) == 5


# --- what is left alone, what is refused ----------------------------------------------


def test_frozen_parameters_are_left_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    frozen = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    model.append(frozen.requires_grad_(False))
    model[0].weight.requires_grad_(False)
    weight, x = model[0].weight, torch.randn(7, 4)
    before = model(x)
    remove_symmetries(model)
    assert model[0].weight is weight
    assert set(offsets(model)) == {"0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}
    torch.testing.assert_close(model(x), before)
    theta = {n: p for n, p in model.named_parameters() if p.requires_grad}
    squares = sum(float(p.detach().square().sum()) for p in theta.values())
    assert 0.25 < float(syre.penalty(model, 1.0).detach()) / squares < 0.75


def test_what_cannot_get_an_offset_is_refused_and_nothing_changes():
    def dcs():
        layer = nn.Linear(3, 2)
        parametrize.register_parametrization(layer, "bias", DCS(torch.eye(2)))
        return layer

    normed = torch.nn.utils.parametrizations.weight_norm
    for make, message in [
        (lambda: remove_symmetries(nn.Linear(3, 2)), "weight has an offset already"),
        (dcs, r"1.bias is parametrized already \(DCS\)"),
        (lambda: normed(nn.Linear(3, 2)), r"1.weight is parametrized already"),
        (lambda: nn.LazyLinear(2), "1.weight has no values yet"),
        (lambda: nn.Linear(3, 2, device="meta"), "1.weight has no values yet"),
        (lambda: nn.Linear(3, 2, dtype=torch.complex64), "dtype torch.complex64"),
    ]:
        model = nn.Sequential(nn.Linear(3, 3), make())
        weight = model[0].weight.detach().clone()
        with pytest.raises(ValueError, match=message):
            remove_symmetries(model)
        assert not parametrize.is_parametrized(model[0])
        assert torch.equal(model[0].weight, weight)
    model = nn.Linear(3, 2)
    for scale in (0, -1.0, float("nan"), float("inf"), "big", [1.0]):
        with pytest.raises(ValueError, match="must be positive and finite"):
            remove_symmetries(model, scale=scale)
    for bad in (list(model.parameters()), None):
        with pytest.raises(ValueError, match="give a torch.nn.Module"):
            remove_symmetries(bad)
    for seed in (None, 0.5, "0"):
        with pytest.raises(ValueError, match="the seed is"):
            remove_symmetries(model, seed=seed)
    for decay in (-1.0, float("nan"), "much"):
        with pytest.raises(ValueError, match="weight_decay is"):
            syre.penalty(model, decay)
    with pytest.raises(ValueError, match="no trainable parameters"):
        syre.penalty(nn.ReLU(), 0.1)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight has entries that are not finite"):
        remove_symmetries(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [None, 0.3, 10.0])
def test_the_rounding_of_half_precision_is_what_the_docstring_says(dtype, scale):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 40), nn.LayerNorm(40)).to(dtype)
    before = {n: p.detach().double() for n, p in model.named_parameters()}
    remove_symmetries(model, scale=scale)
    found, eps = offsets(model), torch.finfo(dtype).eps
    for name, weight in before.items():
        theta_0, now = found[name].double(), model.get_submodule(name[0])
        error = (getattr(now, name[2:]).detach().double() - weight).abs()
        assert found[name].dtype is dtype
        assert (error <= eps * (weight.abs() + theta_0.abs())).all()


# --- the default scale ----------------------------------------------------------------


def test_the_default_offset_is_a_draw_like_the_parameter():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(300, 40), nn.Linear(40, 50), nn.LayerNorm(50), nn.Linear(50, 4)
    )
    nn.init.normal_(model[1].weight, std=0.02)
    nn.init.zeros_(model[1].bias)
    initial = {n: p.detach().clone() for n, p in model.named_parameters()}
    found = offsets(remove_symmetries(model))
    assert found.keys() == initial.keys()
    for name in ("0.weight", "1.weight", "3.weight"):
        assert found[name].std() == pytest.approx(float(initial[name].std()), rel=0.15)
        assert found[name].mean().abs() < 0.2 * initial[name].std()
    assert found["2.weight"].mean() == pytest.approx(1.0, abs=0.05)
    assert found["2.weight"].std() == pytest.approx(0.1, rel=0.3)
    for name in ("1.bias", "2.bias"):  # 50 zeros
        assert 0 < found[name].std() == pytest.approx(0.01 / 50**0.5, rel=0.3)
    paper = offsets(remove_symmetries(nn.Linear(400, 100), scale="paper"))
    assert paper["weight"].std() == pytest.approx(0.01 / 20, rel=0.05)
    number = offsets(remove_symmetries(nn.LayerNorm(4000), scale=0.3))
    assert number["weight"].std() == pytest.approx(0.3, rel=0.05)
    assert number["weight"].mean().abs() < 0.03
    again = offsets(remove_symmetries(nn.LayerNorm(4000), scale=0.3, seed=1))
    assert not torch.equal(number["weight"], again["weight"])


def plasticity(d, lanes, init, lr, decay, steps, tasks, scale):
    """Excess loss of u*v at the end of the first and of the last two tasks."""
    draws = torch.Generator().manual_seed(d)

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.v = (
                nn.Parameter(init * torch.randn(lanes, d, generator=draws))
                for _ in range(2)
            )

    model, excess = Product(), []
    if scale != "none":
        remove_symmetries(model, scale=scale)
    optimizer = decayed(model, lr, decay, momentum=0.0)
    for _ in range(tasks):
        teacher = torch.randn(lanes, d, generator=draws)
        teacher = teacher.abs().sqrt() * teacher.sign()  # not Gaussian
        teacher = teacher / teacher.norm(dim=1, keepdim=True)
        for _ in range(steps):
            x = torch.randn(lanes, d, generator=draws)
            noise = 0.3 * torch.randn(lanes, generator=draws)
            off = ((model.u * model.v - teacher) * x).sum(1) - noise
            optimizer.zero_grad()
            off.square().sum().backward()
            optimizer.step()
        excess.append(
            float((model.u * model.v - teacher).detach().square().sum(1).mean())
        )
    return sum(excess[:2]) / 2, sum(excess[-2:]) / 2


def test_the_default_keeps_plasticity_and_the_papers_scale_hardly_does():
    setting = {"d": 16, "lanes": 12, "init": 0.3, "lr": 0.03, "decay": 0.04}
    setting |= {"steps": 150, "tasks": 16}
    found = {s: plasticity(**setting, scale=s) for s in ("none", "paper", None)}
    assert found["none"][1] > 0.7  # 1 is predicting zero
    assert found[None][1] < 1.3 * found[None][0]
    assert found[None][1] < 0.35
    assert found["paper"][1] > 2 * found[None][1]


def network(activation):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 24), activation(), nn.Linear(24, 3))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_strong_decay_leaves_neurons_distinct_and_the_rank_full(activation):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=draws)
    y = torch.tanh(x @ torch.randn(8, 4, generator=draws)) @ torch.randn(
        4, 3, generator=draws
    )
    found = {}
    for name in ("plain", "default"):
        model = network(activation)
        if name == "default":
            remove_symmetries(model)
        optimizer = decayed(model, lr=0.1, weight_decay=0.03)
        for _ in range(600):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
        rows = torch.cat([model[0].weight, model[2].weight.T], 1).detach()
        unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
        alike = (unit @ unit.T).abs().fill_diagonal_(0).amax(1)
        values = torch.linalg.svdvals(model[0].weight.detach())
        found[name] = (
            int((alike < 0.999).sum()), float(values[-1] / values[0]),
            float(loss.detach()),
        )  # fmt: skip
    assert found["plain"][0] < 20
    assert found["default"][0] == 24
    assert found["default"][1] > 0.1
    assert found["default"][2] < 1.2 * found["plain"][2]


def test_a_net_with_batch_norm_trains_as_well():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x).float().view(-1, 1, 8, 8) / 16, torch.tensor(y)
    found = {}
    for name in ("plain", "default"):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Flatten(), nn.Linear(144, 10),
        )  # fmt: skip
        if name == "default":
            remove_symmetries(model)
        draws, optimizer = torch.Generator().manual_seed(0), decayed(model, 0.1, 2e-3)
        for _ in range(150):
            at = torch.randint(1400, (64,), generator=draws)
            optimizer.zero_grad()
            F.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()
        with torch.no_grad():
            model.eval()
            found[name] = float(F.cross_entropy(model(x[:1400]), y[:1400]))
    assert found["default"] < found["plain"] + 0.02
    assert found["plain"] < 0.2


def test_a_small_transformer_trains_as_well():
    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 16)
            self.place = nn.Parameter(0.02 * torch.randn(8, 16))
            layer = nn.TransformerEncoderLayer(16, 2, 32, norm_first=True, **LAYER)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 12, bias=False)
            nn.init.normal_(self.embedding.weight, std=0.02)
            self.head.weight = self.embedding.weight

        def forward(self, i):
            return self.head(self.norm(self.body(self.embedding(i) + self.place)))

    found = {}
    for name in ("plain", "default"):
        torch.manual_seed(0)
        model, draws = Copies(), torch.Generator().manual_seed(0)
        if name == "default":
            remove_symmetries(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.05)
        for _ in range(300):
            i = torch.randint(12, (32, 8), generator=draws)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(i).flatten(0, 1), i.flip(1).flatten())
            loss.backward()
            optimizer.step()
        found[name] = float(loss.detach())
    assert found["plain"] < 0.1
    assert found["default"] < found["plain"] + 0.02
