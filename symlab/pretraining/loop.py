"""The training loop: accumulate, step, evaluate, save; what it costs is measured."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from symlab.data.text import Corpus, batches, check_vocabulary, validation_batches
from symlab.models.families import DecoderConfig
from symlab.models.routing_load import load_balancing_loss, measures, z_loss
from symlab.models.transformer import Decoder, Router, loss
from symlab.pretraining import checkpoint
from symlab.pretraining.cost import (
    Clock,
    flops_per_token,
    peak_flops,
    state_bytes,
    vocabulary_blocks,
)
from symlab.pretraining.processes import Processes, replicate, shard
from symlab.symopt import NotFinite, PhiBalancing, SymOpt, param_groups

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.float32}
PRECISIONS |= {"float64": torch.float64}  # what weights are; products in the name
ALONE = Processes()
LOOK = 20  # steps between two looks at losses where a look waits for the device


@dataclass(frozen=True)
class Recipe:
    """How to train; sizes and counts are those of all processes together."""

    steps: int
    batch: int
    """sequences of one step"""
    length: int
    """tokens of a sequence"""
    micro: int = 0
    """sequences of one forward pass in one process; 0: its whole share"""
    decay: float = 0.4
    """part of the steps, at the end, in which rates fall linearly to zero"""
    precision: str = "float32"
    """'bfloat16': products only, by autocast; weights and updates stay float32"""
    compile: bool = False
    """torch.compile for model and loss"""
    evaluate_every: int = 0
    """steps; 0: at the end only"""
    validation: int = 8
    """batches of validation text"""
    balance: float = 0.0
    """weight of the load-balancing loss, averaged over layers"""
    z: float = 0.0
    """weight of the z-loss of routers, averaged over layers"""
    phi: float = 0.0
    """weight of phi-balancing, averaged over layers"""
    seed: int = 0
    """of weights and of the order of the text"""

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}: use {', '.join(PRECISIONS)}"
            )
        if self.steps < 1 or not 0 <= self.decay <= 1:
            raise ValueError(
                f"steps = {self.steps} and decay = {self.decay}: take one step or more "
                "and a decay in [0, 1]"
            )


def schedule(step: int, steps: int, decay: float) -> float:
    """What multiplies every rate: 1, then linearly down to 0 in the part `decay`."""
    left = steps - step
    return min(1.0, left / (decay * steps)) if decay else 1.0


def pretrain(
    config: DecoderConfig,
    text: Corpus,
    recipe: Recipe,
    optimizer: dict,
    *,
    processes: Processes = ALONE,
    path: Path | None = None,
    save_every: int = 0,
    show: bool = False,
) -> dict:
    """Train a new decoder with SymOpt and return the row of `train`.

    optimizer: arguments of SymOpt: lr, weight_decay, preset, overrides, compile, betas.
    Other arguments as in `train`. Raises ValueError for a text of another vocabulary.
    """
    check_vocabulary(text, config.vocabulary)
    model, groups = build(config, recipe, optimizer, processes)
    own = {k: optimizer[k] for k in ("compile", "betas", "eps") if k in optimizer}
    return train(
        model,
        SymOpt(model, groups=groups, **own),
        text,
        recipe,
        processes=processes,
        path=path,
        save_every=save_every,
        show=show,
        about={"optimizer": repr(sorted(optimizer.items()))},
    )


def build(
    config: DecoderConfig, recipe: Recipe, optimizer: dict, processes: Processes = ALONE
) -> tuple[Decoder, list[dict]]:
    """A decoder with initial weights, in shards if so wanted, and its param_groups.

    Roles are found on the meta device, before any weight exists.
    """
    with torch.device("meta"):
        model = Decoder(config)
        example = torch.zeros(1, min(8, config.context), dtype=torch.long)
    chosen = {
        k: v for k, v in optimizer.items() if k not in ("compile", "betas", "eps")
    }
    groups = param_groups(model, example=example, **chosen)
    model.to(PRECISIONS[recipe.precision])
    if processes.sharded:
        shard(model)
    model.to_empty(device=processes.device)
    model.initialise(torch.Generator().manual_seed(recipe.seed))
    return model, groups


class Objective(nn.Module):
    """What is minimised: the next-token loss, and the auxiliary losses of routers."""

    def __init__(self, model: Decoder, recipe: Recipe):
        super().__init__()
        self.model, self.recipe = model, recipe
        layers = model.config.layers if recipe.phi else 0
        if (recipe.phi or recipe.balance or recipe.z) and not model.config.experts:
            raise ValueError(
                "balance, z and phi are for a mixture of experts, and this model is "
                "dense: set them to 0"
            )
        self.phi = nn.ModuleList(
            PhiBalancing(model.config.experts, weight=recipe.phi) for _ in range(layers)
        )

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) twice: the sum to minimise, and the next-token part of it."""
        r = self.recipe
        if not (r.balance or r.z or r.phi):
            nll = loss(self.model(inputs), targets)
            return nll, nll.detach()
        logits, routers = self.model(inputs, routers=True)
        nll = loss(logits, targets)
        return nll + self._auxiliary(routers), nll.detach()

    def _auxiliary(self, routers: list[Router]) -> Tensor:
        r, terms = self.recipe, []
        for layer, (logits, chosen) in enumerate(routers):
            if r.balance:
                terms.append(r.balance * load_balancing_loss(logits, chosen))
            if r.z:
                terms.append(r.z * z_loss(logits))
            if r.phi:
                terms.append(self.phi[layer](logits.softmax(-1)))
        return sum(terms) / len(routers)


def train(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    text: Corpus,
    recipe: Recipe,
    *,
    processes: Processes = ALONE,
    path: Path | None = None,
    save_every: int = 0,
    show: bool = False,
    about: dict | None = None,
) -> dict:
    """Train; a row of plain numbers, strings and lists.

    model: on its device, in shards already if processes are to have shards; optimizer:
    any of torch's on its parameters. path: where the state is kept, each `save_every`
    steps; a run that finds its state there goes on from it, to the same losses. about:
    what else the state belongs to. show: a progress bar with an ETA.

    Row: val_loss at the end in nats per token, and val_step, val_curve of the way;
    train_loss of each step; bits_per_byte; text, text_hash; parameters, tokens;
    step_s and optimizer_s, medians in seconds; tokens_per_s, optimizer_share, mfu (NaN
    but for bfloat16 on a known GPU), peak_bytes (NaN on the CPU), state_bytes,
    vocabulary_state_bytes; head_drift, and of routers the `measures` at the end and
    load_cv_curve; head_shift and router_shift (see `shifts`); diverged_at, the step of
    the first loss that is not finite, or -1. A run ends there, and keeps what it has
    seen until then.

    Auxiliary losses are those of each micro-batch, and of each process.
    """
    return _Run(model, optimizer, text, recipe, processes, path, about).go(
        save_every, show
    )


class _Run:
    def __init__(self, model, optimizer, text, recipe, processes, path, about):
        self.model, self.optimizer, self.text = model, optimizer, text
        self.recipe, self.processes, self.path = recipe, processes, path
        check_vocabulary(text, model.config.vocabulary)
        self.device = processes.device
        self.objective = Objective(model, recipe)
        self.step, self.diverged_at = 0, -1
        self.losses: list[Tensor] = []  # on the device: to read one is to wait
        self.seen: dict[str, list] = {"val_step": [], "val_curve": []}
        self.origin = mean_rows(model)
        self.rates = [float(g["lr"]) for g in optimizer.param_groups]
        self.about = {**asdict(model.config), **asdict(recipe), "text": text.hash}
        self.about |= {"yarn": repr(model.config.yarn), **(about or {})}
        self.about |= {"mode": processes.mode, "processes": processes.world}
        self._resume()
        self.clock = Clock(self.device)
        self.run = self._wrapped()

    def _wrapped(self) -> nn.Module:
        alone = self.processes.world == 1 or self.processes.sharded
        if self.recipe.compile:
            self.objective.compile()
        return self.objective if alone else replicate(self.objective, self.processes)

    # --- steps

    def go(self, save_every: int, show: bool) -> dict:
        r = self.recipe
        data = self._data()
        bar = _bar(r.steps, self.step, show and self.processes.first)
        while self.step < r.steps and self.diverged_at < 0:
            if r.evaluate_every and self.step % r.evaluate_every == 0:
                self._evaluate()
            self._advance(*next(data))
            self._look()
            self._tell(bar)
            if self.path and save_every and self.step % save_every == 0:
                self._save()
        bar.close()
        self._evaluate()
        row = self._row()
        if self.path:
            checkpoint.forget(self.path, self.processes)
        return row

    def _data(self) -> Iterator[tuple[Tensor, Tensor]]:
        r = self.recipe
        for pair in batches(self.text.train, r.batch, r.length, r.seed, self.step):
            yield tuple(self._to_device(self.processes.share(x)) for x in pair)

    def _to_device(self, x: np.ndarray) -> Tensor:
        t = torch.from_numpy(x)
        if self.device.type != "cuda":
            return t.to(self.device)
        return t.pin_memory().to(self.device, non_blocking=True)

    def _advance(self, inputs: Tensor, targets: Tensor) -> None:
        """One step of the optimizer, from as many micro-batches as there are."""
        factor = schedule(self.step, self.recipe.steps, self.recipe.decay)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        start = self.clock.now()
        micro = self.recipe.micro
        parts = list(zip(_split(inputs, micro), _split(targets, micro), strict=True))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for i, part in enumerate(parts):
            with self._together(i == len(parts) - 1), self._autocast():
                objective, nll = self.run(*part)
                (objective / len(parts)).backward()
            total += nll / len(parts)
        middle = self.clock.now()
        try:
            self.optimizer.step()
        except NotFinite:  # a loss that is finite, with gradients that are not
            total = total * torch.nan
        self.optimizer.zero_grad(set_to_none=True)
        self.clock.note(start, middle, self.clock.now())
        self.losses.append(self.processes.mean(total))
        self.step += 1

    def _together(self, last: bool):
        """Whether gradients of this micro-batch are exchanged: only of the last."""
        if self.processes.sharded:
            self.model.set_requires_gradient_sync(last)
        elif self.processes.world > 1 and not last:
            return self.run.no_sync()
        return nullcontext()

    def _autocast(self):
        on = self.recipe.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on)

    def _look(self) -> None:
        """Stop at a loss that is not finite."""
        every = LOOK if self.device.type == "cuda" else 1
        if self.step % every and self.step < self.recipe.steps:
            return
        finite = torch.stack(self.losses[-every:]).isfinite().tolist()
        if not all(finite):
            self.diverged_at = len(self.losses) - len(finite) + finite.index(False)
            self.losses = self.losses[: self.diverged_at]

    # --- evaluation

    @torch.no_grad()
    def _evaluate(self) -> None:
        found = evaluate(self.model, self.text, self.recipe, self.processes)
        if self.processes.sharded:
            self.model.reshard()  # a forward pass alone leaves the root's weights whole
        self.seen["val_step"].append(self.step)
        self.seen["val_curve"].append(found["val_loss"])
        if "load_cv" in found:
            self.seen.setdefault("load_cv_curve", []).append(found["load_cv"])
        self.last = found

    # --- checkpoints

    def _save(self) -> None:
        state = {
            "about": self.about,
            "step": self.step,
            "model": dict(self.objective.named_parameters()),
            "buffers": {k: v for k, v in self.objective.phi.named_buffers()},
            "optimizer": self.optimizer.state_dict(),
            "losses": torch.stack(self.losses),
            "origin": self.origin,
            "seen": self.seen,
        }
        checkpoint.save(self.path, self.step, state, self.processes)

    def _resume(self) -> None:
        if self.path is None:
            return
        state = checkpoint.load(self.path, self.about, self.processes)
        if state is None:
            return
        checkpoint.put_back(dict(self.objective.named_parameters()), state["model"])
        checkpoint.put_back(dict(self.objective.phi.named_buffers()), state["buffers"])
        self.optimizer.load_state_dict(
            checkpoint.optimizer_state(self.optimizer, state["optimizer"])
        )
        self.step, self.seen = state["step"], state["seen"]
        self.origin = {k: v.to(self.device) for k, v in state["origin"].items()}
        self.losses = list(state["losses"].to(self.device))

    # --- what is told

    def _tell(self, bar) -> None:
        bar.update(1)
        if not bar.disable and self.step % LOOK == 0:
            bar.set_postfix(loss=f"{float(self.losses[-1]):.3f}", refresh=False)

    def _row(self) -> dict:
        c, r = self.model.config, self.recipe
        step_s, optimizer_s = self.clock.seconds()
        tokens = r.batch * r.length
        flops = flops_per_token(c, r.length)
        half = r.precision == "bfloat16"
        peak = self.processes.world * peak_flops(self.device) if half else np.nan
        blocks = vocabulary_blocks(self.model, c.vocabulary)
        nats = self.last["val_loss"]
        on_gpu = self.device.type == "cuda"
        return {
            **self.last,
            **self.seen,
            **shifts(self.model, self.origin),
            "train_loss": [float(x) for x in self.losses],
            "bits_per_byte": nats / np.log(2) / self.text.bytes_per_token,
            "text": self.text.name,
            "text_hash": self.text.hash,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "tokens": self.step * tokens,
            "flops_per_token": flops,
            "step_s": step_s,
            "optimizer_s": optimizer_s,
            "tokens_per_s": tokens / step_s,
            "optimizer_share": optimizer_s / step_s,
            "mfu": tokens / step_s * flops / peak,
            "peak_bytes": float(torch.cuda.max_memory_allocated())
            if on_gpu
            else np.nan,
            "state_bytes": state_bytes(self.optimizer),
            "vocabulary_state_bytes": state_bytes(self.optimizer, blocks),
            "diverged_at": self.diverged_at,
        }


@torch.no_grad()
def evaluate(
    model: Decoder, text: Corpus, recipe: Recipe, processes: Processes = ALONE
) -> dict[str, float]:
    """val_loss, head_drift and, of a mixture, `measures` over all validation tokens.

    head_drift: root mean square over tokens of the mean logit over the vocabulary.
    """
    r = recipe
    data = validation_batches(text.validation, r.batch, r.length, r.validation)
    autocast, wide = r.precision == "bfloat16", PRECISIONS[r.precision]
    totals = torch.zeros(2, dtype=torch.float64, device=processes.device)
    routers: list[list[Router]] = []
    parts = [
        part
        for pair in data
        for part in zip(
            *(_split(processes.share(x), r.micro) for x in pair), strict=True
        )
    ]
    for inputs, targets in parts:
        inputs, targets = inputs.to(processes.device), targets.to(processes.device)
        with torch.autocast(processes.device.type, torch.bfloat16, enabled=autocast):
            logits, found = model(inputs, routers=True)
        totals[0] += loss(logits, targets)
        totals[1] += logits.mean(-1, dtype=wide).square().mean()
        routers.append(found)
    nll, drift = (processes.mean(totals) / len(parts)).tolist()
    row = {"val_loss": nll, "head_drift": drift**0.5}
    if model.config.experts:
        row |= _measures(routers, processes)
    return row


def _measures(routers: list[list[Router]], processes: Processes) -> dict[str, float]:
    """Of routers by batch, then layer, over the tokens of all processes."""
    layers = [
        Router(*(processes.gather(torch.cat(x)) for x in zip(*layer, strict=True)))
        for layer in zip(*routers, strict=True)
    ]
    return measures(layers)


def mean_rows(model: Decoder) -> dict[str, Tensor]:
    """The mean row (D,) of the head and of each router: what a softmax does not see."""
    names = {"head.weight", *(f"blocks.{i}.feed.router.weight" for i in _layers(model))}
    return {
        name: _whole(p.detach().mean(0))
        for name, p in model.named_parameters()
        if name in names
    }


def shifts(model: Decoder, origin: dict[str, Tensor]) -> dict[str, float]:
    """How far mean rows have moved, over the root mean square length of rows.

    head_shift, and router_shift, the mean over layers. Centred updates leave both 0.
    """
    parameters, found = dict(model.named_parameters()), {}
    for name, now in mean_rows(model).items():
        p = parameters[name].detach()
        length = _whole(p.square().sum()).sqrt() / len(p) ** 0.5
        moved = float((now - origin[name]).norm() / length)
        found.setdefault(name.split(".")[-2], []).append(moved)
    return {f"{kind}_shift": sum(x) / len(x) for kind, x in found.items()}


def _layers(model: Decoder) -> range:
    return range(model.config.layers if model.config.experts else 0)


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def _split(rows, micro: int) -> tuple[Tensor, ...]:
    """Rows of one process in micro-batches."""
    rows = torch.as_tensor(rows)
    size = micro or len(rows)
    if len(rows) % size:
        raise ValueError(
            f"micro = {micro} does not divide the {len(rows)} sequences of a process: "
            "choose a divisor"
        )
    return rows.split(size)


def _bar(steps: int, done: int, show: bool):
    from tqdm import tqdm

    return tqdm(total=steps, initial=done, disable=not show, unit=" steps")
