"""Random small networks, and their mirror symmetries by construction.

    model, loss, batch, truth = network(seed)

A network is a tape of operations, chosen at random from about forty kinds of blocks.
Each block adds its parameters to the model, and at the same time tells every hidden
unit what was done to it (`tests/mirror_truth.py`).
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.mirror_truth import SAME, Form, Truth, Unit, Wire, truth

SAMPLES, SIDE, TIME, TOKENS, CLASSES = 16, 6, 4, 6, 3
ODD = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "hardtanh": lambda x: x.clamp(-0.3, 0.3),  # so narrow that batches leave it
}
HOMOGENEOUS = {
    "relu": torch.relu,
    "leaky relu": functional.leaky_relu,
    "steep leaky relu": lambda x: functional.leaky_relu(x, 0.3),
}
EVEN = {"abs": torch.abs, "square": torch.square, "cos": torch.cos}
NEITHER = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "elu": functional.elu,
}
IDENTITY = {"identity": lambda x: x}
ACTIVATIONS = ODD | HOMOGENEOUS | EVEN | NEITHER | IDENTITY


class Network(nn.Module):
    """A tape of functions of the model and of earlier results."""

    def __init__(self):
        super().__init__()
        self.tape: list = []
        self.outputs: list[int] = []
        self.factors: list[float] = []  # of the branches beside a skip

    def forward(self, x):
        results = [x]
        for function, arguments in self.tape:
            results.append(function(self, *[results[a] for a in arguments]))
        found = [results[o] for o in self.outputs]
        return found[0] if len(found) == 1 else tuple(found)


class Value(NamedTuple):
    """A result on the tape. `wires` tells what is at each position of its features.

    None is at a position that holds data. `axis` is 1 for images, else the last.
    """

    slot: int
    wires: list[Wire | None]
    axis: int = -1

    @property
    def width(self) -> int:
        return len(self.wires)


def activated(wire: Wire | None, name: str) -> Wire | None:
    """What becomes of a unit under an activation."""
    if wire is None or name == "identity":
        return wire
    unit, form = wire
    unit.break_rotation(name)
    if name in HOMOGENEOUS or name in NEITHER:
        unit.keep_sign(form)
    if name in ODD or name in NEITHER or name == "cos":
        unit.keep_size(form)
    powers = {"abs": 1, "square": 2, "cos": 0}
    if name in powers:
        size = (form ** powers[name]).size
        return Wire(unit, Form(frozenset(), size))
    return wire


class Builder:
    """Adds blocks to a network, and keeps account of its hidden units."""

    def __init__(self, seed: int):
        self.choice = random.Random(seed)
        self.model = Network()
        self.units: list[Unit] = []
        self.blocks: list[Unit] = []
        self.flat: set[str] = set()
        self.families: list[tuple[str, ...]] = []
        self.kinds: set[str] = set()
        self.names = self.indices = self.constants = 0
        self.training = self.chance(0.5)

    # --- accounts ---------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        return self.choice.random() < p

    def one_of(self, *options):
        return self.choice.choice(options)

    def width(self) -> int:
        return self.choice.randint(3, 9)

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def add(self, kind: str, module: nn.Module) -> str:
        name = self.name(kind)
        self.model.add_module(name, module)
        return name

    def parameter(self, kind: str, tensor: Tensor) -> str:
        name = self.name(kind)
        self.model.register_parameter(name, nn.Parameter(tensor))
        return name

    def run(self, function, *slots: int) -> int:
        self.model.tape.append((function, slots))
        return len(self.model.tape)

    def module(self, name: str, slot: int) -> int:
        return self.run(lambda model, x: getattr(model, name)(x), slot)

    def fresh(self, n: int) -> list[Unit]:
        self.indices += 1
        units = [Unit(self.indices) for _ in range(n)]
        self.units += units
        return units

    def new_wires(self, n: int) -> list[Wire]:
        return [Wire(u, u.variable()) for u in self.fresh(n)]

    def trains(self, name: str) -> bool:
        return self.model.get_parameter(name).requires_grad

    def write(self, name: str, wires: list[Wire | None], axis: int = 0) -> None:
        """Positions of this axis are added up to the wires, or are their bias."""
        for position, wire in enumerate(wires):
            if wire is None:
                continue
            if self.trains(name):
                wire.unit.carry((name, axis, position), wire.form)
            else:
                wire.unit.pin(wire.form, (name, position))

    def read(self, name: str, wires: list[Wire | None], axis: int = 1) -> None:
        inverse = [w and Wire(w.unit, w.form**-1) for w in wires]
        self.write(name, inverse, axis)

    def scaled(self, name: str, wires: list[Wire | None]) -> list[Wire]:
        """A trainable factor for each position; also where the position holds data."""
        out = []
        for position, wire in enumerate(wires):
            unit, form = wire or self.of_data()
            unit.break_rotation("factor")
            factor = unit.variable()
            unit.carry((name, 0, position), factor)
            out.append(Wire(unit, form * factor))
        return out

    def of_data(self) -> Wire:
        """A unit whose scalar is data: it cannot be exchanged."""
        self.constants += 1
        (unit,) = self.fresh(1)
        unit.break_rotation(("data", self.constants))
        return Wire(unit, SAME)

    def of_axis(self, value: Value) -> tuple[int, ...]:
        """The shape in which a vector over features meets the value."""
        return (-1, 1, 1) if value.axis == 1 else (-1,)

    # --- linear maps ------------------------------------------------------------------

    def dense(self, value: Value, out: int | list, bias=None, kernel=None) -> Value:
        """A linear map of the features to new units, or into given wires."""
        wires = self.new_wires(out) if isinstance(out, int) else out
        bias = self.chance(0.7) if bias is None else bias
        sizes = value.width, len(wires)
        if value.axis == 1:
            weight, offset, slot = self.convolution(value, sizes, bias, kernel)
            read, written = 1, 0
        else:
            weight, offset, slot, read = self.matrix(value, sizes, bias)
            written = 1 - read
        self.freeze(weight, offset)
        self.write(weight, wires, written)
        if offset:
            self.write(offset, wires)
        self.read(weight, value.wires, read)
        self.last = (weight, offset)
        return Value(slot, wires, value.axis)

    def convolution(self, value: Value, sizes, bias: bool, kernel):
        kernel = kernel or self.one_of(1, 3)
        self.kinds.add(f"conv{kernel}x{kernel}")
        module = nn.Conv2d(*sizes, kernel, padding=kernel // 2, bias=bias)
        name = self.add("conv", module)
        offset = f"{name}.bias" if bias else None
        return f"{name}.weight", offset, self.module(name, value.slot)

    def matrix(self, value: Value, sizes, bias: bool):
        """nn.Linear, or a matrix of its own that is read along its first axis."""
        style = self.one_of("linear", "linear", "linear", "matmul", "einsum")
        self.kinds.add(style)
        if style == "linear":
            name = self.add("dense", nn.Linear(*sizes, bias=bias))
            offset = f"{name}.bias" if bias else None
            return f"{name}.weight", offset, self.module(name, value.slot), 1
        weight = self.parameter("matrix", torch.randn(*sizes) / sizes[0] ** 0.5)
        if style == "matmul":
            slot = self.run(lambda m, x: x @ getattr(m, weight), value.slot)
        else:
            slot = self.run(
                lambda m, x: torch.einsum("...i,io->...o", x, getattr(m, weight)),
                value.slot,
            )
        offset = None
        if bias:
            offset = self.parameter("offset", 0.3 * torch.randn(sizes[1]))
            slot = self.run(lambda m, x: x + getattr(m, offset), slot)
        return weight, offset, slot, 0

    def freeze(self, weight: str, offset: str | None) -> None:
        if self.freezable and self.chance(0.06):
            self.kinds.add("frozen layer")
            for name in (weight, offset):
                if name:
                    self.model.get_parameter(name).requires_grad_(False)
        elif self.freezable and offset and self.chance(0.06):
            self.kinds.add("frozen bias")
            self.model.get_parameter(offset).requires_grad_(False)

    freezable = True

    def depthwise(self, value: Value) -> Value:
        self.kinds.add("depthwise")
        n, bias = value.width, self.chance(0.5)
        module = nn.Conv2d(n, n, 3, padding=1, groups=n, bias=bias)
        name = self.add("depthwise", module)
        wires = self.scaled(f"{name}.weight", value.wires)
        if bias:
            self.write(f"{name}.bias", wires)
        return Value(self.module(name, value.slot), wires, 1)

    # --- norms ------------------------------------------------------------------------

    def affine(self, name: str, wires, offset: bool) -> list[Wire]:
        wires = self.scaled(f"{name}.weight", wires)
        if offset:
            self.write(f"{name}.bias", wires)
        return wires

    def norm(self, value: Value, kind: str) -> Value:
        if kind == "none":
            return value
        self.kinds.add(kind)
        layer, gained = kind.startswith("layer"), not kind.endswith("without gain")
        if layer:
            module = nn.LayerNorm(value.width, elementwise_affine=gained)
        else:
            module = nn.RMSNorm(value.width, eps=1e-3, elementwise_affine=gained)
        name = self.add("norm", module)
        for unit, form in filter(None, value.wires):
            unit.keep_size(form)
            if layer:
                unit.keep_sign(form)
                unit.break_rotation("layer norm")
        wires = value.wires
        if gained:
            wires = self.affine(name, wires, layer)
        return Value(self.module(name, value.slot), wires, value.axis)

    def batch_norm(self, value: Value) -> Value:
        self.kinds.add("batch norm, " + ("train" if self.training else "eval"))
        gained = self.chance(0.75)
        make = nn.BatchNorm2d if value.axis == 1 else nn.BatchNorm1d
        module = make(value.width, eps=1e-3, affine=gained)
        nn.init.normal_(module.running_mean)
        nn.init.uniform_(module.running_var, 0.5, 2.0)
        name = self.add("batchnorm", module)
        for position, wire in enumerate(value.wires):
            if wire is None:
                continue
            unit, form = wire
            unit.break_rotation("batch norm")
            if self.training:
                unit.keep_size(form)
            else:
                unit.fixed_unless_means_move.append(form.size)
                unit.buffers[(f"{name}.running_mean", 0, position)] = form
                unit.buffers[(f"{name}.running_var", 0, position)] = SAME
        wires = self.affine(name, value.wires, True) if gained else value.wires
        return Value(self.module(name, value.slot), wires, value.axis)

    # --- what is done to each unit ----------------------------------------------------

    def activation(self, value: Value, names=tuple(ACTIVATIONS)) -> Value:
        """One activation for all units, or several by slices, or the same by chunks."""
        style = self.choice.choices(["one", "slices", "chunks"], [6, 3, 1])[0]
        if style == "one" or value.width < 3:
            return self.activate(value, self.one_of(*names))
        axis = value.axis
        if style == "chunks":
            self.kinds.add("chunks")
            name = self.one_of(*names)
            f = ACTIVATIONS[name]
            slot = self.run(
                lambda m, x: torch.cat([f(c) for c in x.chunk(2, axis)], axis),
                value.slot,
            )
            self.kinds.add(name)
            return Value(slot, [activated(w, name) for w in value.wires], axis)
        return self.slices(value, names)

    def activate(self, value: Value, name: str) -> Value:
        self.kinds.add(name)
        f = ACTIVATIONS[name]
        wires = [activated(w, name) for w in value.wires]
        return Value(self.run(lambda m, x: f(x), value.slot), wires, value.axis)

    def slices(self, value: Value, names) -> Value:
        n, axis = value.width, value.axis
        parts = min(self.one_of(2, 3), n - 1)
        cuts = [0, *sorted(self.choice.sample(range(1, n), parts - 1)), n]
        chosen = [self.one_of(*names) for _ in range(parts)]
        self.kinds.update(chosen)
        self.kinds.add(f"{parts} slices")
        pieces = [
            (ACTIVATIONS[name], a, b - a)
            for name, a, b in zip(chosen, cuts, cuts[1:], strict=False)
        ]

        def joined(model, x):
            return torch.cat([f(x.narrow(axis, a, n)) for f, a, n in pieces], axis)

        def assigned(model, x):
            out = x.new_zeros(x.shape)
            for f, a, n in pieces:
                where = slice(a, a + n)
                if axis == 1:
                    out[:, where] = f(x[:, where])
                else:
                    out[..., where] = f(x[..., where])
            return out

        style = self.one_of("cat", "assignment")
        self.kinds.add(style)
        slot = self.run(joined if style == "cat" else assigned, value.slot)
        wires = []
        for name, (_, a, length) in zip(chosen, pieces, strict=True):
            wires += [activated(w, name) for w in value.wires[a : a + length]]
        return Value(slot, wires, axis)

    def constants_of(self, value: Value, kind: str) -> Value:
        """Fixed positive gains or a 0/1 mask, in the code or in a buffer."""
        self.kinds.add(kind)
        n = value.width
        numbers = {
            "unequal gains": [0.5 + 0.25 * i for i in range(n)],
            "repeated gains": [self.one_of(0.5, 1.0, 2.0) for _ in range(n)],
            "equal gains": [0.7] * n,
            "mask": [float(self.chance(0.7)) for _ in range(n)],
            "shifts": [self.one_of(-0.4, 0.3) for _ in range(n)],
        }[kind]
        self.choice.shuffle(numbers)
        constant = torch.tensor(numbers).view(self.of_axis(value))
        if self.chance(0.5):
            name = self.name("constant")
            self.model.register_buffer(name, constant)
            get = lambda m, x: getattr(m, name)  # noqa: E731
        else:
            get = lambda m, x: constant.to(x)  # noqa: E731
        for number, wire in zip(numbers, value.wires, strict=True):
            if wire is None:
                continue
            unit, form = wire
            unit.history.append((kind, number))
            if kind == "shifts":
                unit.keep_sign(form)
                unit.keep_size(form)
                unit.turns = False
            if kind == "mask" and not number:
                unit.idle = True
        if kind == "shifts":
            slot = self.run(lambda m, x: x + get(m, x), value.slot)
        else:
            slot = self.run(lambda m, x: x * get(m, x), value.slot)
        return Value(slot, value.wires, value.axis)

    def learned(self, value: Value) -> Value:
        """A trainable gain of its own, and perhaps an offset."""
        self.kinds.add("learned gain")
        shape = self.of_axis(value)
        gain = self.parameter("gain", torch.ones(value.width))
        wires = self.scaled(gain, value.wires)
        slot = self.run(lambda m, x: x * getattr(m, gain).view(shape), value.slot)
        if self.chance(0.3):
            offset = self.parameter("shift", torch.zeros(value.width))
            self.write(offset, wires)
            slot = self.run(lambda m, x: x + getattr(m, offset).view(shape), slot)
        return Value(slot, wires, value.axis)

    def dropout(self, value: Value) -> Value:
        self.kinds.add("dropout, eval")
        name = self.add("dropout", nn.Dropout(0.4))
        return Value(self.module(name, value.slot), value.wires, value.axis)

    # --- layers -----------------------------------------------------------------------

    def layer(self, value: Value, sequence: bool, ends: bool = False) -> Value:
        """A linear map, perhaps a norm, activations, perhaps constants.

        ends: the next operation on it is linear, so that masked units are idle.
        """
        # sigmoid(-x) = 1 - sigmoid(x), and batch norm subtracts the 1: a sign flip
        odd = self.training and any("sigmoid" in u.history for u in self.units)
        batch = not sequence and not odd and self.chance(0.3)
        self.freezable = not (batch and self.training)
        h = self.dense(value, self.width())
        self.freezable = True
        if batch:
            if self.training and self.last[1]:
                self.flat.add(self.last[1])  # the norm subtracts it
            h = self.batch_norm(h)
        elif h.axis == -1 and self.chance(0.2):
            h = self.norm(h, self.one_of(*NORMS))
        names = list(ACTIVATIONS)
        if self.chance(0.1):
            h = self.constants_of(h, "shifts")
            names.remove("identity")  # a later batch norm would subtract them
        if h.axis == 1 and self.chance(0.25):
            h = self.depthwise(h)
        h = self.activation(h, names)
        if self.chance(0.25):
            kinds = ["unequal gains", "repeated gains", "equal gains"]
            h = self.constants_of(h, self.one_of(*kinds, *["mask", "mask"] * ends))
        elif self.chance(0.15):
            h = self.learned(h)
        if not self.training and self.chance(0.2):
            h = self.dropout(h)
        return h

    def gated(self, value: Value) -> Value:
        """GLU and its relatives; one matrix or two."""
        kind, name = self.one_of(
            ("GLU", "sigmoid"), ("SwiGLU", "silu"), ("ReGLU", "relu"),
            ("bilinear", "identity"))  # fmt: skip
        self.kinds.add(kind)
        n, axis, f = self.width(), value.axis, ACTIVATIONS[name]
        up = self.new_wires(n)
        gate = [Wire(w.unit, w.unit.variable()) for w in up]
        if self.chance(0.5):
            self.kinds.add("gate and up in one matrix")
            both = self.dense(value, up + gate).slot
            if kind == "GLU":
                slot = self.run(lambda m, x: functional.glu(x, axis), both)
            else:

                def product(m, x):
                    u, g = x.chunk(2, axis)
                    return u * f(g)

                slot = self.run(product, both)
        else:
            u, g = self.dense(value, up).slot, self.dense(value, gate).slot
            slot = self.run(lambda m, u, g: u * f(g), u, g)
        gate = [activated(g, name) for g in gate]
        for unit, _ in up:
            unit.break_rotation("product")
        wires = [
            Wire(u.unit, u.form * g.form) for u, g in zip(up, gate, strict=True)
        ]  # fmt: skip
        return Value(slot, wires, axis)

    def maxout(self, value: Value) -> Value:
        """The largest of each group of units; the groups may be exchanged, too."""
        self.kinds.add("maxout")
        groups, size, axis = self.choice.randint(2, 4), self.one_of(2, 3), value.axis
        self.indices += 1
        outer = [Unit(self.indices) for _ in range(groups)]
        self.blocks += outer
        forms = [u.variable() for u in outer]
        inner, repeated = [], []
        for unit, form in zip(outer, forms, strict=True):
            members = self.fresh(size)
            for m in members:
                m.break_rotation("maximum")
            inner += [Wire(m, SAME) for m in members]
            repeated += [Wire(unit, form)] * size
            unit.keep_sign(form)
            unit.break_rotation("maximum")
        self.freezable = False
        h = self.dense(value, inner)
        self.freezable = True
        weight, offset = self.last
        # a raw matrix is written along its second axis, all others along the first
        self.write(weight, repeated, int(weight.startswith("matrix")))
        if offset:
            self.write(offset, repeated)

        def largest(m, x):
            at = axis if axis == 1 else x.ndim - 1
            return x.unflatten(at, (groups, size)).amax(at + 1)

        wires = [Wire(u, f) for u, f in zip(outer, forms, strict=True)]
        return Value(self.run(largest, h.slot), wires, axis)

    def recurrent(self, value: Value) -> Value:
        """One matrix that reads the units it writes."""
        n, axis = self.width(), value.axis
        style = self.one_of("h = f(W h + U x)", "h = f(h + W h)")
        self.kinds.add(style)
        drive = self.dense(value, n)
        name = self.one_of("relu", "tanh", "gelu", "identity", "leaky relu", "sin")
        f = ACTIVATIONS[name]
        self.kinds.add(name)
        wires = [activated(w, name) for w in drive.wires]
        convolve = axis == 1
        shape = (n, n, 1, 1) if convolve else (n, n)
        matrix = self.parameter("square", torch.randn(shape) / n**0.5)
        into = drive.wires
        if style == "h = f(h + W h)":
            into, after = wires, [activated(w, name) for w in wires]
        else:
            after = wires
        self.write(matrix, into, 0)
        self.read(matrix, wires, 1)

        def steps(m, u):
            w, h = getattr(m, matrix), f(u)
            for _ in range(2):
                turned = functional.conv2d(h, w) if convolve else h @ w.T
                h = f(turned + (u if into is not wires else h))
            return h

        return Value(self.run(steps, drive.slot), after, axis)

    def attention(self, value: Value) -> Value:
        """Two heads; the matrix that reads their outputs is the block's last."""
        heads, d = 2, self.one_of(2, 3)
        self.indices += 1
        blocks = [Unit(self.indices, turns=False) for _ in range(heads)]
        self.blocks += blocks
        queries, keys, values = [], [], []
        for block in blocks:
            qk, vo = self.new_wires(d), self.new_wires(d)
            for unit, _ in qk + vo:
                unit.parent = block
            queries += qk
            keys += [Wire(u, f**-1) for u, f in qk]
            values += vo
        style = self.one_of("packed", "separate")
        fused, causal = self.chance(0.5), self.chance(0.5)
        bias = self.chance(0.5)
        self.kinds.add(f"attention, {style}, {'with' if bias else 'without'} biases")
        self.freezable = False  # the softmax undoes the bias of keys
        if style == "packed":
            h = self.dense(value, queries + keys + values, bias)
            self.flat |= {self.last[1]} - {None}
            slots = [
                self.run(lambda m, x, i=i: x.chunk(3, -1)[i], h.slot) for i in range(3)
            ]
        else:
            slots = []
            for wires in (queries, keys, values):
                slots.append(self.dense(value, wires, bias).slot)
                if wires is keys and bias:
                    self.flat.add(self.last[1])

        self.freezable = True

        def attend(m, q, k, v):
            q, k, v = (t.unflatten(-1, (heads, d)).transpose(1, 2) for t in (q, k, v))
            if fused:
                y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            else:
                scores = q @ k.transpose(-2, -1) / d**0.5
                if causal:
                    t = scores.shape[-1]
                    hidden = torch.ones(t, t, dtype=torch.bool).triu(1)
                    scores = scores.masked_fill(hidden, float("-inf"))
                y = scores.softmax(-1) @ v
            return y.transpose(1, 2).flatten(2)

        return Value(self.run(attend, *slots), values, -1)

    # --- streams ----------------------------------------------------------------------

    def residual(self, value: Value, sequence: bool) -> Value:
        """x + f(norm(x)), with constants or a trained scale on either side."""
        image = value.axis == 1
        h = value
        if not image:
            h = self.norm(h, self.one_of("none", *NORMS))
        kinds = ["layer", "layer", "gated", "maxout", *["attention"] * 3 * sequence]
        kind = self.one_of(*kinds)
        if kind == "layer":
            h = self.layer(h, sequence, ends=True)
        else:
            h = getattr(self, kind)(h)
        self.kinds.add("residual stream")
        scale = self.one_of("none", "none", "constant", "learned")
        into = value.wires
        if scale == "learned":
            into = []
            for wire in value.wires:
                unit = (wire or self.of_data()).unit
                into.append(Wire(unit, unit.variable()))
        h = self.dense(h, into)
        if self.chance(0.1) and all(map(self.trains, filter(None, self.last))):
            self.kinds.add("block that starts at zero")
            for name in filter(None, self.last):
                nn.init.zeros_(self.model.get_parameter(name))
        small = 1e-6 if scale == "constant" and self.chance(0.3) else 0.5
        if scale == "learned":
            self.kinds.add("layer scale of 1e-6")
            h = self.layer_scale(h, value.wires)
        elif scale == "constant":
            self.kinds.add(f"branch times {small}")
        skip = self.one_of(1.0, 1.0, 0.5)
        if skip != 1:
            self.kinds.add("skip times 0.5")
        key = len(self.model.factors)
        self.model.factors.append(small if scale == "constant" else 1.0)
        slot = self.run(
            lambda m, x, y: skip * x + m.factors[key] * y, value.slot, h.slot
        )
        out = Value(slot, value.wires, value.axis)
        if self.chance(0.2):
            out = self.activate(out, self.one_of("relu", "tanh", "gelu", "identity"))
        return out

    def layer_scale(self, h: Value, stream: list[Wire | None]) -> Value:
        """A trained factor, so that factor times branch changes as the stream does."""
        shape = self.of_axis(h)
        gamma = self.parameter("scale", torch.full((h.width,), 1e-6))
        wires = self.scaled(gamma, h.wires)
        for wire, target in zip(wires, stream, strict=True):
            both = wire.form * (target.form if target else SAME) ** -1
            wire.unit.keep_sign(both)
            wire.unit.keep_size(both)
        slot = self.run(lambda m, x: x * getattr(m, gamma).view(shape), h.slot)
        return Value(slot, stream, h.axis)

    def concatenated(self, values: list[Value], kind: str) -> Value:
        self.kinds.add(kind)
        axis = values[0].axis
        slot = self.run(lambda m, *t: torch.cat(t, axis), *[v.slot for v in values])
        return Value(slot, sum((v.wires for v in values), []), axis)

    # --- images -----------------------------------------------------------------------

    def pool(self, value: Value) -> Value:
        kind = self.one_of("max", "average")
        self.kinds.add(f"{kind} pooling")
        f = functional.max_pool2d if kind == "max" else functional.avg_pool2d
        if kind == "max":
            for unit, form in filter(None, value.wires):
                unit.keep_sign(form)
                unit.break_rotation("max pooling")
        return Value(self.run(lambda m, x: f(x, 2), value.slot), value.wires, 1)

    def to_vector(self, value: Value, pooled: bool) -> Value:
        if self.chance(0.5):
            self.kinds.add("flatten")
            cells = (SIDE // 2) ** 2 if pooled else SIDE**2
            if not pooled:
                value, cells = self.pool(value), (SIDE // 2) ** 2
            wires = [w for w in value.wires for _ in range(cells)]
            return Value(self.run(lambda m, x: x.flatten(1), value.slot), wires)
        self.kinds.add("global average")
        slot = self.run(lambda m, x: x.mean((2, 3)), value.slot)
        return Value(slot, value.wires)

    # --- beginnings -------------------------------------------------------------------

    def embedded(self) -> tuple[Value, str]:
        """Tokens and learned positions, added, sliced or looked up."""
        width = self.choice.randint(4, 6)
        name = self.add("embed", nn.Embedding(TOKENS, width))
        wires = self.new_wires(width)
        self.write(f"{name}.weight", wires, 1)
        slot = self.module(name, 0)
        style = self.one_of("none", "added", "three axes", "embedding", "index")
        self.kinds.update(["embedding", f"positions: {style}"])
        if style == "none":
            return Value(slot, wires), f"{name}.weight"
        shape = (1, TIME, width) if style == "three axes" else (TIME, width)
        position = self.parameter("position", 0.5 * torch.randn(shape))
        self.write(position, wires, len(shape) - 1)

        def add(m, h):
            table, where = getattr(m, position), torch.arange(TIME, device=h.device)
            if style == "embedding":
                return h + functional.embedding(where, table)
            return h + (table[where] if style == "index" else table)

        return Value(self.run(add, slot), wires), f"{name}.weight"

    # --- outputs ----------------------------------------------------------------------

    def output(self, value: Value, wires: list[Wire | None]) -> Value:
        h = self.dense(value, wires)
        plain = [n for n in self.last if n and not n.startswith("matrix")]
        if wires[0] is None and len(plain) == len([n for n in self.last if n]):
            self.families.append(tuple(n for n in plain if self.trains(n)))
        return h


NORMS = (
    "layer norm",
    "layer norm without gain",
    "RMS norm",
    "RMS norm without gain",
)


def labelled(kind: str):
    """The loss of outputs against targets, which tell them apart."""

    def loss(outputs, targets):
        classes, numbers = targets
        if kind == "cross entropy":
            return functional.cross_entropy(outputs, classes)
        if kind == "binary":
            return functional.binary_cross_entropy_with_logits(
                outputs, numbers.sigmoid()
            )
        f = {"mse": functional.mse_loss, "l1": functional.l1_loss,
             "huber": functional.smooth_l1_loss}[kind]  # fmt: skip
        return f(outputs, numbers)

    return loss


class TwoHeads(NamedTuple):
    """Two losses of very different sizes."""

    f: Callable
    g: Callable
    small: float
    large: float

    def __call__(self, model, batch):
        one, two = model(batch[0])
        one, two = self.f(one, batch[1:]), self.g(two, batch[1:])
        return self.small * one + self.large * two


def unlabelled(builder: Builder, kind: str):
    """A loss of the outputs alone: they are a hidden index, too."""
    wires = builder.new_wires(CLASSES + 1)
    for unit, form in wires:
        unit.keep_size(form)
        if kind == "mean abs":
            unit.break_rotation("abs")
        if kind == "logsumexp":
            unit.keep_sign(form)
            unit.break_rotation("logsumexp")

    def loss(model, batch):
        x = batch[0]
        h = model(x)
        if kind == "contrast":
            other = functional.normalize(model(x.roll(1, -1)), dim=1)
            scores = functional.normalize(h, dim=1) @ other.T / 0.5
            return functional.cross_entropy(scores, torch.arange(len(x)))
        if kind == "mean square":
            return h.square().mean()
        return h.abs().mean() if kind == "mean abs" else h.logsumexp(-1).mean()

    return wires, loss


def trunk(b: Builder, kind: str) -> tuple[Value, str | None]:
    """Two or three blocks on vectors, images or sequences."""
    table = None
    if kind == "tokens":
        h, table = b.embedded()
    else:
        n = 2 if kind == "images" else 4
        h = Value(0, [None] * n, 1 if kind == "images" else -1)
    pooled, sequence = False, kind in ("tokens", "sequences")
    raw = h
    if kind != "tokens":
        if b.chance(0.15):
            h = b.learned(h)
            b.kinds.add("learned gain on the input")
        h = b.layer(h, sequence)
    for _ in range(b.one_of(1, 2, 2)):
        options = ["residual", "residual", "layer", "gated", "recurrent", "two"]
        options += ["maxout"] * (kind != "images" or not pooled)
        if kind == "images" and not pooled:
            options.append("pool")
        if kind == "tokens":
            options = ["residual"]
        if kind in ("vectors", "sequences"):
            options += ["raw"] * ("raw input joined" not in b.kinds)  # no twins
        choice = b.one_of(*options)
        if choice in ("residual", "layer"):
            h = getattr(b, choice)(h, sequence)
        elif choice == "two":
            h = b.concatenated([b.layer(h, sequence) for _ in range(2)], "branches")
        elif choice == "raw":
            h = b.concatenated([h, raw], "raw input joined")
        else:
            h = getattr(b, choice)(h)
            pooled |= choice == "pool"
    if kind == "images":
        h = b.to_vector(h, pooled)
    return h, table


def finish(b: Builder, h: Value, kind: str, table: str | None):
    """The outputs and the loss."""
    sequence = kind in ("tokens", "sequences")
    if sequence and b.chance(0.5):
        h = b.norm(h, b.one_of(*NORMS))
    ends = ["labels", "labels", "labels", "outputs alone", "two heads"]
    if table:
        ends += ["tied", "tied", "next token"]
    end = b.one_of(*ends)
    b.kinds.add(f"ends in {end}")
    if end in ("tied", "next token"):
        if end == "tied":
            b.read(table, h.wires, 1)
            embed = table.removesuffix(".weight")
            slot = b.run(lambda m, x: x @ getattr(m, embed).weight.T, h.slot)
        else:
            slot = b.output(h, [None] * TOKENS).slot
        b.model.outputs = [slot]

        def next_token(model, batch):
            logits = model(batch[0])[:, :-1].flatten(0, 1)
            return functional.cross_entropy(logits, batch[0][:, 1:].flatten())

        return next_token
    if sequence:
        slot = b.run(lambda m, x: x.mean(1), h.slot)
        h = Value(slot, h.wires)
    if end == "outputs alone":
        kinds = ["mean square", "mean abs", "logsumexp"]
        kinds += ["contrast"] * (not table)
        chosen = b.one_of(*kinds)
        b.kinds.add(f"loss: {chosen}")
        wires, loss = unlabelled(b, chosen)
        b.model.outputs = [b.output(h, wires).slot]
        return loss
    losses = ["cross entropy", "mse", "l1", "huber", "binary"]
    first = b.one_of(*losses)
    b.kinds.add(f"loss: {first}")
    f = labelled(first)
    b.model.outputs = [b.output(h, [None] * CLASSES).slot]
    if end == "labels":
        return lambda model, batch: f(model(batch[0]), batch[1:])
    second = b.one_of(*losses)
    g = labelled(second)
    small, large = b.one_of((1e-6, 1.0), (1.0, 1e6), (1e-6, 1e6), (1e6, 1e-6))
    hidden = b.layer(h, sequence=True, ends=True)
    b.model.outputs.append(b.output(hidden, [None] * CLASSES).slot)

    return TwoHeads(f, g, small, large)


class Penalised(NamedTuple):
    """A loss of the data, and the sum of squares or absolute values of parameters."""

    loss: Callable
    kind: str

    def __call__(self, model, batch):
        f = torch.square if self.kind == "square" else torch.abs
        trained = [p for p in model.parameters() if p.requires_grad]
        return self.loss(model, batch) + 1e-2 * sum(f(p).sum() for p in trained)


def penalised(b: Builder, loss):
    """Weight decay in the loss: no rescaling is left; of |w|, no rotation either."""
    kind = b.one_of("square", "absolute")
    b.kinds.add(f"penalty: {kind}")
    for unit in [*b.units, *b.blocks]:
        for form in unit.slots.values():
            unit.keep_size(form)
        if kind == "absolute":
            unit.turns = False

    return Penalised(loss, kind)


def data(kind: str) -> Tensor:
    if kind == "tokens":
        order = torch.stack([torch.randperm(TOKENS) for _ in range(SAMPLES)])
        return order[:, :TIME]
    shape = {"vectors": (4,), "images": (2, SIDE, SIDE), "sequences": (TIME, 4)}[kind]
    return torch.randn(SAMPLES, *shape)


def network(seed: int) -> tuple[Network, object, tuple, Truth]:
    """A random network, its loss, a batch for it, and its true symmetries."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        b = Builder(seed)
        kind = b.choice.choices(
            ["vectors", "images", "tokens", "sequences"], [4, 3, 3, 2]
        )[0]
        b.kinds.add(kind)
        h, table = trunk(b, kind)
        loss = finish(b, h, kind, table)
        # what the loss does not depend on would get symmetries of its own
        if not (b.flat or any(u.idle for u in b.units)) and b.chance(0.12):
            loss = penalised(b, loss)
        batch = (data(kind), torch.arange(SAMPLES) % CLASSES,
                 torch.randn(SAMPLES, CLASSES))  # fmt: skip
        model = b.model.train(b.training)
    return model, loss, batch, truth(
        model, b.units, b.blocks, b.flat, b.families, b.kinds)  # fmt: skip
