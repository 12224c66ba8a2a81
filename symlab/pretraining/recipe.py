"""Settings of a training run, and checks that need neither the text nor the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from symlab.models.families import DecoderConfig
from symlab.pretraining import checkpoint
from symlab.pretraining.processes import Processes
from symlab.schedule import schedule

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.float32}
PRECISIONS |= {"float64": torch.float64}  # what weights are; products in the name
COUNTS = {"steps": 1, "batch": 1, "length": 1, "validation": 1}  # at least
COUNTS |= {"micro": 0, "chunk": 0, "evaluate_every": 0, "seed": 0}
NUMBERS = ("decay", "warmup", "clip", "balance", "z", "phi", "z_logits")
SWITCHES = ("compile", "documents", "recompute")
MOST = 1e30  # of a rate: times a scale of SymOpt it stays within float32


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; sizes and counts are those of all processes
    together.

    steps, batch, length: optimizer steps, sequences per step, tokens per sequence.
    micro: sequences per forward pass of one process; 0 for all of its sequences.
    decay: fraction of the steps, at the end, in which learning rates fall linearly to
        0.
    warmup: steps (below 1: fraction of the steps) in which they rise linearly from 0.
    clip: largest norm of the whole gradient; 0: not measured; inf: measured only.
    precision: 'float32', or 'bfloat16' for matrix products under autocast.
    compile: whether torch.compile is used.
    evaluate_every: steps between validations; 0 validates at the end only.
    validation: number of validation batches.
    balance, z, phi: weights of the router losses: load balancing, z-loss,
        phi-balancing.
    z_logits: weight of the z-loss of the logits.
    documents: whether attention is kept within documents.
    chunk: number of tokens whose logits exist at one time; 0 for all.
    recompute: whether blocks are computed again in the backward pass, to save memory.
    seed: seed of the weights and of the order of the text.

    NumPy numbers are converted to Python's. Raises ValueError for an invalid value.
    """

    steps: int
    batch: int
    """sequences of one step"""
    length: int
    """tokens of a sequence"""
    micro: int = 0
    """sequences of one forward pass in one process; 0: its whole share"""
    decay: float = 0.4
    """part of the steps, at the end, in which rates fall linearly to zero"""
    warmup: float = 0.0
    """steps at the start, in which rates rise linearly from zero; below 1: part of all
    steps, which then can't become more in a resumed run"""
    clip: float = 0.0
    """norm of all gradients together, at most; 0: not measured; inf: measured only"""
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
    z_logits: float = 0.0
    """weight of the z-loss of logits, the mean square of their logsumexp. A centred
    update keeps the head's mean row where it is: only with centred=False for the head
    can that row follow this loss"""
    documents: bool = False
    """attention does not cross ends of documents, the token vocabulary - 1; the first
    token of the next document stays a target"""
    chunk: int = 0
    """tokens whose logits exist at once; 0: all of a forward pass"""
    recompute: bool = False
    """keep no values inside blocks for the backward pass, compute them again: the same
    losses in less memory, for a third more products"""
    seed: int = 0
    """of weights and of the order of the text"""

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}: use {', '.join(PRECISIONS)}"
            )
        for name, least in COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(
                    f"{name} = {value}: give a whole number of {least} or more"
                )
            self._put(name, int(value))
        for name in NUMBERS:
            value = getattr(self, name)
            value = value.item() if isinstance(value, np.generic) else value
            if not isinstance(value, int | float):
                raise ValueError(f"{name} = {value!r}: give a number")
            self._put(name, value)
        for name in SWITCHES:
            if not isinstance(value := getattr(self, name), bool | np.bool_):
                raise ValueError(f"{name} = {value!r}: give True or False")
            self._put(name, bool(value))
        if self.seed >= 2**63:
            raise ValueError(f"seed = {self.seed}: give one below 2^63")
        if not 0 <= self.decay <= 1:
            raise ValueError(
                f"decay = {self.decay}: give the part of the steps in which rates "
                "fall, between 0 and 1"
            )
        for name in ("balance", "z", "phi", "z_logits"):
            check_not_negative(name, getattr(self, name))
        self._check_warmup()
        if not self.clip >= 0:
            raise ValueError(
                f"clip = {self.clip}: give the largest norm of the gradients, 0 for no "
                "clipping, or inf to measure the norm only"
            )

    def _put(self, name: str, value: int | float) -> None:
        object.__setattr__(self, name, value)  # the class is frozen for all others

    def _check_warmup(self) -> None:
        value = self.warmup
        if not (0 <= value < 1 or (isfinite(value) and value == int(value) > 0)):
            raise ValueError(
                f"warmup = {value}: give a whole number of steps, or the part of all "
                "steps, which is below 1"
            )
        if value > self.steps:
            raise ValueError(
                f"warmup = {value:g} is more than steps = {self.steps}, so rates would "
                "never be what they are set to: give fewer"
            )


def check_run(
    config: DecoderConfig,
    recipe: Recipe,
    processes: Processes,
    path: Path | None,
    save_every: int,
) -> None:
    """Raise ValueError if model, recipe, processes and checkpoint do not fit together.

    path: the checkpoint's path, or None. save_every: steps between checkpoints.
    """
    if recipe.length > config.context:
        raise ValueError(
            f"length = {recipe.length} is more than the model's context of "
            f"{config.context}: shorten the sequences or configure a longer context"
        )
    if (recipe.phi or recipe.balance or recipe.z) and not config.experts:
        raise ValueError(
            "balance, z and phi are for a mixture of experts, and this model is "
            "dense: set them to 0"
        )
    share_of(recipe, processes)
    check_saving(path, save_every)


def share_of(recipe: Recipe, processes: Processes) -> tuple[int, int]:
    """Return (forward passes of a process per step, sequences of each forward pass).

    Raises ValueError if the batch cannot be divided evenly into these.
    """
    if recipe.batch % processes.world:
        raise ValueError(
            f"a batch of {recipe.batch} sequences does not divide among "
            f"{processes.world} processes: choose a multiple"
        )
    share = recipe.batch // processes.world
    size = recipe.micro or share
    if share % size:
        raise ValueError(
            f"micro = {size} does not divide the {share} sequences of a process: "
            "choose a divisor"
        )
    return share // size, size


def check_saving(path: Path | None, save_every: int) -> None:
    """Raise ValueError if only one of checkpoint path and saving interval is given.

    path: the checkpoint's path, or None. save_every: steps between checkpoints, 0 for
    none; any other value than a nonnegative integer is refused.
    """
    if not isinstance(save_every, Integral) or save_every < 0:
        raise ValueError(
            f"save_every = {save_every}: give steps between two checkpoints, or 0"
        )
    if save_every and path is None:
        raise ValueError(
            f"save_every = {save_every} without a checkpoint: say where the state is "
            "kept (path= in Python, --checkpoint in a shell)"
        )
    if path is not None and not save_every:
        raise ValueError(
            f"the checkpoint {path} is never saved: say after how many steps "
            "(save_every= in Python, --save-every in a shell)"
        )


def check_places(
    path: Path | None, out: Path | None, log: Path | None, tensorboard: Path | None
) -> None:
    """Raise ValueError if files of a run would overwrite or mix with other files of it.

    path: the checkpoint file. out: the folder of final weights, in which no other file
        of the run may lie; without it nothing is checked.
    log: the CSV file. tensorboard: the folder of TensorBoard's events.

    Each is None for a run that does not write it.
    """
    if out is None:
        return
    out = Path(out).resolve()
    places = {"checkpoint": path, "log": log, "folder of TensorBoard": tensorboard}
    for what, place in places.items():
        if place is not None and Path(place).resolve().is_relative_to(out):
            raise ValueError(
                f"the {what} {place} is in the folder of weights {out}, which is "
                "written whole and has nothing else in it: name another place"
            )
    if path is not None and checkpoint.is_part(Path(path).resolve(), out):
        raise ValueError(
            f"the folder of weights {out} has the name of a file of the checkpoint "
            f"{path}: name another folder"
        )


def check_rates(optimizer: Mapping) -> None:
    """Raise ValueError for an invalid learning rate or weight decay of SymOpt's
    arguments.

    optimizer: the arguments. A value is invalid if it is negative or not finite, or if
    it, or the product of both, overflows in float32.
    """
    given = {k: optimizer[k] for k in ("lr", "weight_decay") if k in optimizer}
    for name, value in given.items():
        check_not_negative(name, value)
        if value > MOST:
            raise ValueError(f"{name} = {value}: give one of at most {MOST:g}")
    if len(given) == 2 and given["lr"] * given["weight_decay"] > MOST:
        raise ValueError(
            f"lr = {given['lr']} times weight_decay = {given['weight_decay']} is more "
            f"than {MOST:g}: give lower ones"
        )


def check_not_negative(name: str, value: float) -> None:
    """Raise ValueError unless the setting's value is finite and at least 0.

    name: the name of the setting.
    """
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"{name} = {value}: give a finite number of 0 or more")


def check_schedule(path: Path, step: int, saved: dict, recipe: Recipe) -> None:
    """Raise ValueError if a recipe cannot resume from a checkpoint.

    path: the checkpoint's path. step: the number of steps that it has done.
    saved: {'steps', 'decay', 'warmup'} of the run that saved it.

    The learning rates up to that step must equal this recipe's. With another number of
    steps, rates must not have begun to fall in either run, and the warm-up must be
    given in steps.
    """
    then = saved["steps"], saved["decay"], saved.get("warmup", 0.0)
    now = recipe.steps, recipe.decay, recipe.warmup
    if then == now:
        return
    if step > recipe.steps:
        raise ValueError(
            f"the checkpoint {path} is at step {step}, past steps = {recipe.steps}: "
            "ask for as many or more, or name another path"
        )
    for t in range(step):
        if schedule(t, *then) != schedule(t, *now):
            raise ValueError(
                f"the checkpoint {path} is at step {step}, and from step {t} on its "
                f"rates were those of steps = {then[0]}, decay = {then[1]} and warmup "
                f"= {then[2]}, not of {now[0]}, {now[1]} and {now[2]}: give the former "
                "to end that run, or another path to start a new one (decay = 0 and a "
                "warm-up in steps leave every later length open)"
            )
