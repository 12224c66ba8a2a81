"""The training loop: gradient accumulation, steps, evaluation, checkpoints, cost."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from symlab.data.text import Corpus, batches, check_validation, check_vocabulary
from symlab.models.families import DecoderConfig
from symlab.models.transformer import Decoder
from symlab.pretraining import checkpoint
from symlab.pretraining.cost import (
    Clock,
    flops_per_token,
    peak_flops,
    state_bytes,
    vocabulary_blocks,
)
from symlab.pretraining.evaluation import (
    are_finite,
    bytes_per_token,
    evaluate,
    mean_rows,
    shifts,
)
from symlab.pretraining.interrupt import Signals, Stopped
from symlab.pretraining.log import (
    LOOK,
    Board,
    Progress,
    Table,
    board_writer,
    check_log,
)
from symlab.pretraining.model import (
    OWN,
    begin_with,
    build,
    described,
    fingerprint,
    plan,
)
from symlab.pretraining.objective import Objective
from symlab.pretraining.processes import ALONE, Processes, replicate
from symlab.pretraining.recipe import (
    Recipe,
    check_places,
    check_run,
    check_schedule,
    share_of,
)
from symlab.schedule import schedule
from symlab.symopt import NotFinite, SymOpt

# of a recipe; a resumed run may have others
FREE = ("evaluate_every", "validation", "recompute")
SCHEDULE = ("steps", "decay", "warmup")  # it may, where the rates so far are the same


class NotKept(OSError):
    """Raised if a run has ended but its final weights could not be written.

    said: the message. row: the result of the run, as `train` returns it.
    model: the trained model, which `saved.save` can write to another place.
    """

    def __init__(self, said: str, row: dict, model: Decoder):
        super().__init__(said)
        self.row, self.model = row, model


def pretrain(
    config: DecoderConfig,
    text: Corpus,
    recipe: Recipe,
    optimizer: dict,
    *,
    weights: Mapping[str, Tensor] | None = None,
    processes: Processes = ALONE,
    path: Path | None = None,
    save_every: int = 0,
    out: Path | None = None,
    log: Path | None = None,
    tensorboard: Path | None = None,
    show: bool = False,
) -> dict:
    """Train a decoder with SymOpt and return the row of `train`.

    config: the decoder's configuration. text: the corpus. recipe: the training
        settings.
    optimizer: arguments of SymOpt: lr, weight_decay, preset, overrides, compile, betas.
    weights: {name: whole tensor}, the initial weights; by default they are random.

    The other arguments and errors are those of `train`. Raises ValueError, before any
    weight is created, for arguments that do not fit together.
    """
    check_run(config, recipe, processes, path, save_every)
    check_places(path, out, log, tensorboard)
    _check_text(text, config, recipe)
    model, groups = build(config, recipe, optimizer, processes)
    about = {"optimizer": described(optimizer)}
    if weights is not None:
        begin_with(model, weights)
        about["start"] = fingerprint(weights)
    own = {k: optimizer[k] for k in OWN if k in optimizer}
    return train(
        model,
        SymOpt(model, groups=groups, **own),
        text,
        recipe,
        processes=processes,
        path=path,
        save_every=save_every,
        out=out,
        log=log,
        tensorboard=tensorboard,
        show=show,
        about=about,
    )


def ready(
    config: DecoderConfig,
    recipe: Recipe,
    optimizer: dict,
    processes: Processes = ALONE,
    path: Path | None = None,
    save_every: int = 0,
    out: Path | None = None,
    log: Path | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Raise ValueError for mistakes that show before a text is read or a weight
    created.

    The arguments are those of `pretrain`, which makes the same checks and those that
    need the text. Raises OSError if the checkpoint cannot be written, and
    ModuleNotFoundError if a TensorBoard folder is given and tensorboard is not
    installed.
    """
    check_run(config, recipe, processes, path, save_every)
    check_places(path, out, log, tensorboard)
    plan(config, optimizer)
    if path is not None:
        checkpoint.check(path, recipe.steps, processes)
    step = (path and checkpoint.latest(path)) or 0
    if out and step == 0:  # a resumed run may replace its own weights: see _check_out
        saved_weights().check(out)
    if log:
        check_log(Path(log), step, path is not None)
    if tensorboard:
        board_writer()


def _check_text(text: Corpus, config: DecoderConfig, recipe: Recipe) -> None:
    """Raise ValueError where a text is not enough for a run, at no cost."""
    r = recipe
    check_vocabulary(text, config.vocabulary)
    batches(text.train, r.batch, r.length, r.seed)  # draws none, and checks the lengths
    check_validation(text, r.batch, r.length, r.validation)


def train(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    text: Corpus,
    recipe: Recipe,
    *,
    processes: Processes = ALONE,
    path: Path | None = None,
    save_every: int = 0,
    out: Path | None = None,
    log: Path | None = None,
    tensorboard: Path | None = None,
    show: bool = False,
    about: dict | None = None,
) -> dict:
    """Train a model, and return a row: a dict of plain numbers, strings and lists.

    model: a decoder on its device, already sharded if processes are to hold shards.
    optimizer: any torch optimizer of the model's parameters.
    text: the corpus. recipe: the training settings. processes: those that train
        together.
    path: the checkpoint's path, written every `save_every` steps and at the end. A run
        that finds its own checkpoint there resumes from it and reaches the same losses;
        delete it with `checkpoint.forget(path)` when the row is stored.
    out: a folder for the final weights, which `symlab.pretraining.load` reads; it must
        hold no weights, except those that this run wrote before it was resumed.
    about: settings that identify the run, besides those of the optimizer; a checkpoint
        that was saved under other settings is refused.
    show: whether to show a progress bar with an ETA, or lines if stderr is not a
        terminal.
    log: a .csv file that gets a row for each step during the run
        (`symlab.pretraining.log` describes it); a resumed run deletes the rows from its
        first step on.
    tensorboard: a folder for the same numbers as curves.

    The row has these entries; NaN stands for an unknown value.

    Columns:
        val_loss: validation loss at the end of the run, in nats per token
        val_step: (evaluations,), steps made before each evaluation on validation text,
            the last at the end of the run
        val_curve: (evaluations,), validation loss at each of `val_step`, in nats per
            token
        train_loss: (steps,), training loss of each step, before its update, in nats per
            token
        bits_per_byte: `val_loss` converted to bits per byte of the validation text
        text_hash: a hash of the text
        shared_text: fraction of the validation text's distinct runs of 30 words that
            also occur in the training text; NaN if unknown
        parameters: number of weights of the model
        tokens: number of training tokens that the run has seen
        flops_per_token: floating-point operations per training token, forward and
            backward, counted as for PaLM (symlab.pretraining.cost)
        step_s: median seconds of a step, without the first three; NaN if a resumed run
            had no step left
        optimizer_s: median seconds of the optimizer's part of a step; NaN as `step_s`
        tokens_per_s: training tokens of a step over `step_s`; NaN as `step_s`
        optimizer_share: `optimizer_s` over `step_s`; NaN as `step_s`
        mfu: model-flops utilisation, the operations per second over the peak of the
            device; NaN unless in bfloat16 on a known GPU
        peak_bytes: peak memory that torch allocated on a GPU, in bytes; NaN on a CPU
        state_bytes: memory of the optimizer's state, in bytes
        vocabulary_state_bytes: memory of the optimizer's state of embedding and head,
            in bytes
        head_drift: root mean square over validation tokens of the mean logit over the
            vocabulary, at the end; a shift of all logits changes no probability
        head_shift: distance that the mean row of the head has moved since the start,
            over the root mean square length of its rows at the end
        balance_over: the sequences over which a balancing loss of experts is computed,
            each micro-batch of each process by itself; '' without such a loss

    Besides, a row has

      text                            the name of the text
      diverged_at                     step of the first loss that is not finite, or -1
      load_cv, ...                    of a mixture of experts, at the end: the measures
                                      of `symlab.models.routing_load`
      load_cv_curve                   load_cv at each of val_step
      router_shift                    as head_shift, mean over routers
      gradient_norm,                  with recipe.clip: median and largest norm of the
      gradient_norm_max               whole gradient before it is clipped

    A run ends at a loss or norm that is not finite. It then returns what was measured
    so far, keeps the last checkpoint, and writes no weights to `out`.

    If it has a path, SIGTERM and Ctrl-C save a checkpoint at the end of a step (with
    several processes on GPUs, of one of the next 20) and raise Stopped, a
    KeyboardInterrupt. Raises ValueError, before the first step, for arguments that do
    not fit together; OSError if the checkpoint or the log cannot be written; and
    NotKept, whose attribute `row` is the result, if the final weights cannot be
    written.
    """
    check_places(path, out, log, tensorboard)
    run = _Run(model, optimizer, text, recipe, processes, path, save_every, out, about)
    with ExitStack() as logs:
        failed = None
        if processes.first:
            try:
                for target in run.asked_logs(log, tensorboard):
                    run.logs.append(logs.enter_context(closing(target)))
            except (ValueError, OSError, ModuleNotFoundError) as error:
                failed = error
        processes.agree(failed)
        return run.go(show)


class _Run:
    def __init__(
        self, model, optimizer, text, recipe, processes, path, save_every, out, about
    ):
        self.model, self.optimizer, self.text = model, optimizer, text
        self.recipe, self.processes, self.save_every = recipe, processes, save_every
        self.path, self.out = (None if p is None else Path(p) for p in (path, out))
        check_run(model.config, recipe, processes, path, save_every)
        _check_text(text, model.config, recipe)
        if self.path is not None:
            checkpoint.check(self.path, recipe.steps, processes)
        self.bytes_per_token = bytes_per_token(text, recipe)
        self.device = processes.device
        self.objective = Objective(model, recipe)
        self.step, self.saved, self.diverged_at = 0, -1, -1
        self.losses: list[Tensor] = []  # on the device: to read one is to wait
        self.norms: list[Tensor] = []  # of gradients, where they are clipped
        self.logs: list[Table | Board] = []
        self.asked = torch.zeros((), device=self.device)  # by a signal, to any process
        self.seen: dict[str, list] = {"val_step": [], "val_curve": []}
        self.origin = mean_rows(model)
        self.rates = [float(g["lr"]) for g in optimizer.param_groups]
        self.about = (about or {}) | self._about()
        self.signals = Signals(self.path is not None)
        self._resume()
        self._check_out()
        self.clock = Clock(self.device)
        self.resumed = self.logged = self.step
        self.run = self._wrapped()

    def asked_logs(self, log, tensorboard) -> Iterator[Table | Board]:
        """Where what is watched goes, as far as it is asked for."""
        if log:
            check_log(Path(log), self.step, self.path is not None)
            yield Table(Path(log), self.step)
        if tensorboard:
            yield Board(Path(tensorboard), self.step)

    def _about(self) -> dict:
        """What a state must say for this run to go on from it."""
        r, config, processes = self.recipe, self.model.config, self.processes
        said = {k: v for k, v in asdict(r).items() if k not in (*FREE, *SCHEDULE)}
        said |= {**asdict(config), "yarn": repr(config.yarn), "text": self.text.hash}
        said["mode"] = "shards" if processes.sharded else "whole"
        if r.balance or r.phi:  # not linear in the tokens of a forward pass
            said["sequences of a forward pass"] = share_of(r, processes)[1]
        if processes.sharded or r.phi:
            said["processes"] = processes.world
        return said | settings_of(self.optimizer)

    def _wrapped(self) -> nn.Module:
        alone = self.processes.world == 1 or self.processes.sharded
        if self.recipe.compile:
            self.objective.compile()
        return self.objective if alone else replicate(self.objective, self.processes)

    # --- steps

    def go(self, show: bool) -> dict:
        r, data = self.recipe, self._data()
        show = show and self.processes.first
        with Progress(r.steps, self.step, r.batch * r.length, show) as bar:
            self._say_that_it_compiles(bar)
            with self.signals:
                while self.step < r.steps and self.diverged_at < 0:
                    if r.evaluate_every and self.step % r.evaluate_every == 0:
                        self._evaluate()
                    self._advance(*next(data))
                    self._tell(bar)
                    asked = self._signal()
                    if asked or self._saves() or self._looks():
                        self._look()
                        self._log()
                    if (asked or self._saves()) and self.diverged_at < 0:
                        self._keep(asked)
        if self.diverged_at < 0 and not are_finite(self.model, self.processes):
            self.diverged_at = self.step  # of the loss that would come next
        if self.path and self.diverged_at < 0 and self.saved != self.step:
            self._save()
        self._evaluate()
        self._log(ended=True)
        row = self._row()
        if self.out and self.diverged_at < 0:
            try:
                saved_weights().save(
                    self.out, self.model, self.text, self._about_weights()
                )
            except (ValueError, OSError) as error:
                raise NotKept(str(error), row, self.model) from error
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
        factor = self._factor(self.step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        start = self.clock.now()
        _, size = share_of(self.recipe, self.processes)
        parts = list(zip(inputs.split(size), targets.split(size), strict=True))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for i, part in enumerate(parts):
            with self._together(i == len(parts) - 1), self._autocast():
                objective, nll = self.run(*part)
                (objective / len(parts)).backward()
            total += nll / len(parts)
        middle = self.clock.now()
        total = self._clip(total)
        try:
            self.optimizer.step()
        except NotFinite:  # a loss that is finite, with gradients that are not
            total = total * torch.nan
        self.optimizer.zero_grad(set_to_none=True)
        self.clock.note(start, middle, self.clock.now())
        caught = torch.full_like(total, self.signals.caught)
        mean, self.asked = self.processes.mean(torch.stack([total, caught]))
        self.losses.append(mean)
        self.step += 1

    def _factor(self, step: int) -> float:
        r = self.recipe
        return schedule(step, r.steps, r.decay, r.warmup)

    def _clip(self, total: Tensor) -> Tensor:
        """Bound the gradients' norm; the loss, NaN where that norm is not finite.

        So the run ends at its next look at losses, and a GPU is not waited for.
        """
        if not self.recipe.clip:
            return total
        norm = clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        self.norms.append(norm)
        return total.where(norm.isfinite(), torch.nan)

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
        finite = torch.stack(self.losses[-every:]).isfinite().tolist()
        if not all(finite):
            self.diverged_at = len(self.losses) - len(finite) + finite.index(False)
            self.losses = self.losses[: self.diverged_at]
            self.norms = self.norms[: self.diverged_at]

    def _looks(self) -> bool:
        """Whether losses are read after this step in any case: a GPU is waited for."""
        every = LOOK if self.device.type == "cuda" else 1
        return self.step % every == 0 or self.step == self.recipe.steps

    def _saves(self) -> bool:
        return bool(self.path) and self.step % self.save_every == 0

    def _keep(self, number: int) -> None:
        """Save the state unless it is spoilt, and stop if a signal has asked for it."""
        if not are_finite(self.model, self.processes):
            self.diverged_at = self.step  # of the loss that would come next
            return
        self._save()
        if number:
            raise Stopped(
                number,
                f"stopped by {signal.Signals(number).name} after step {self.step} of "
                f"{self.recipe.steps}; the state is in {self.path}, and the same "
                "command goes on from there",
            )

    def _signal(self) -> int:
        """The number of the signal that asks for the end, in the same step everywhere.

        0 is none. Several processes hear of it with the losses that they read.
        """
        if self.processes.world == 1:
            return self.signals.caught
        if not self._looks() or float(self.asked) == 0:
            return 0
        return self.signals.caught or signal.SIGTERM

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

    # --- what is kept

    def _save(self) -> None:
        state = {
            "about": self.about,
            "schedule": {k: getattr(self.recipe, k) for k in SCHEDULE},
            "processes": self.processes.world,
            "step": self.step,
            "model": dict(self.objective.named_parameters()),
            "buffers": {k: v for k, v in self.objective.phi.named_buffers()},
            "optimizer": self.optimizer.state_dict(),
            "losses": torch.stack(self.losses),
            "origin": self.origin,
            "seen": self.seen,
        }
        if self.norms:
            state["norms"] = torch.stack(self.norms)
        checkpoint.save(self.path, self.step, state, self.processes)
        self.saved = self.step

    def _resume(self) -> None:
        if self.path is None:
            return
        state = checkpoint.load(self.path, self.about, self.processes)
        if state is None:
            return
        check_schedule(self.path, state["step"], state["schedule"], self.recipe)
        checkpoint.put_back(dict(self.objective.named_parameters()), state["model"])
        checkpoint.put_back(dict(self.objective.phi.named_buffers()), state["buffers"])
        self.optimizer.load_state_dict(
            checkpoint.optimizer_state(self.optimizer, state["optimizer"])
        )
        self.step, self.seen = state["step"], state["seen"]
        self.saved = self.step
        self.origin = {k: v.to(self.device) for k, v in state["origin"].items()}
        self.losses = list(state["losses"].to(self.device))
        self.norms = list(state.get("norms", torch.empty(0)).to(self.device))
        then, now = state["processes"], self.processes.world
        if then != now and self.processes.first:
            print(
                f"symlab.pretraining: the state of {self.path} is of {then} processes "
                f"and goes on with {now}: losses agree up to rounding only",
                file=sys.stderr,
            )

    def _check_out(self) -> None:
        """Raise ValueError or OSError unless the final weights can be kept.

        A new run needs a folder without weights. One that goes on may find its own,
        as it was stopped after they were written.
        """
        if self.out is None:
            return
        if self.step == 0:
            saved_weights().check(self.out)
        else:
            saved_weights().check(self.out, self.model.config, self._about_weights())

    def _about_weights(self) -> dict:
        """What the final weights are of: all that they depend on, and the text's name.

        Evaluations are not in it, so that others may be asked of a run at its end.
        """
        said = {k: v for k, v in asdict(self.recipe).items() if k not in FREE}
        said |= {"text": self.text.name, "text_hash": self.text.hash}
        return said | {
            k: v for k, v in self.about.items() if k in ("optimizer", "start")
        }

    # --- what is said

    def _say_that_it_compiles(self, bar: Progress) -> None:
        self.compiling = self.recipe.compile and bar.show and time.monotonic()
        if self.compiling:
            bar.say("compiling the model: the first step takes longer")

    def _tell(self, bar: Progress) -> None:
        if self.compiling:
            took = time.monotonic() - self.compiling
            bar.say(f"compiled: the first step took {took:.0f} s")
            self.compiling = False
        bar.step(self.losses[-1], self._factor(self.step - 1))

    def _log(self, ended: bool = False) -> None:
        """Write the steps since the last look; at the end also the final evaluation."""
        if not self.logs:
            return
        first, last = self.logged, len(self.losses)
        rows = [self._taken(step) for step in range(first, last)]
        times = self.clock.steps(first - self.resumed)
        rows = [row | {"step_s": x} for row, x in zip(rows, times, strict=False)]
        if ended:
            rows.append(self._at(self.step))
        values = zip(self.seen["val_step"], self.seen["val_curve"], strict=True)
        evaluated = dict(list(values)[-len(rows) :])
        for row in rows:
            if row["step"] in evaluated:
                row["val_loss"] = evaluated[row["step"]]
        for log in self.logs:
            log.write(rows)
        self.logged = last

    def _at(self, step: int) -> dict:
        r = self.recipe
        return {"step": step, "tokens": step * r.batch * r.length}

    def _taken(self, step: int) -> dict:
        row = self._at(step) | {"loss": float(self.losses[step])}
        row["lr_factor"] = self._factor(step)
        if self.norms:
            row["gradient_norm"] = float(self.norms[step])
        return row

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
            "bits_per_byte": nats / np.log(2) / self.bytes_per_token,
            "text": self.text.name,
            "text_hash": self.text.hash,
            "shared_text": self.text.shared,
            "balance_over": self._balance_over(),
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
            **self._norms(),
            "diverged_at": self.diverged_at,
        }

    def _norms(self) -> dict[str, float]:
        """Median and largest norm of the gradients, where they are measured."""
        if not self.recipe.clip:
            return {}
        norms = torch.stack(self.norms).tolist() if self.norms else [np.nan]
        found = {"gradient_norm": float(np.median(norms))}
        return found | {"gradient_norm_max": max(norms)}

    def _balance_over(self) -> str:
        if not (self.recipe.balance or self.recipe.phi):
            return ""
        passes, size = share_of(self.recipe, self.processes)
        passes *= self.processes.world
        return f"micro-batches of {size} sequences, {passes} per step"


def settings_of(optimizer: torch.optim.Optimizer) -> dict:
    """Return an optimizer's class name and plain settings as one flat dict.

    The settings are those entries of its param_groups that are numbers, strings or
    None; lr is the rate at the start of the run, which the schedule multiplies.
    """
    said = {"class of the optimizer": type(optimizer).__name__}
    for i, group in enumerate(optimizer.param_groups):
        plain = {k: v for k, v in group.items() if _is_plain(v)}
        plain |= {"lr": float(group["lr"]), "parameters": len(group["params"])}
        said |= {f"{name} of group {i}": value for name, value in plain.items()}
    return said


def _is_plain(value) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float | str | np.generic)


def saved_weights():
    """Return the module `symlab.pretraining.saved`.

    It is imported on use, because only runs that keep weights need the packages that it
    imports.
    """
    from symlab.pretraining import saved

    return saved
