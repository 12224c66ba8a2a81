"""Borrow a model and its optimizers, and restore them bit for bit."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from symlab.symopt.sharded import is_distributed


@contextmanager
def as_found(model: nn.Module, optimizers: list) -> Iterator[Callable]:
    """A context that restores a model and its optimizers bit for bit when it ends.

    At the start it clears gradients and copies the optimizers' states. It yields a
    function from a parameter to its values at the start. Raises ValueError for sharded
    parameters.
    """
    params = list(model.parameters()) + [p for p, *_ in listed(optimizers)]
    if any(is_distributed(p) for p in params):
        raise ValueError("the model is sharded: check it whole, on one process")
    modules = list(model.modules())
    plain = [t for m in modules for t in vars(m).values() if isinstance(t, Tensor)]
    aliases = [(t, t.data) for t in (*params, *model.buffers(), *plain)]
    memory = {s.data_ptr(): s for s in (t.untyped_storage() for _, t in aliases)}
    values = {at: s.clone() for at, s in memory.items()}
    starts = {id(t): alias for t, alias in aliases}
    grads = [(p, p.grad) for p in params]
    restore_optimizers = _lent(optimizers, params)
    tables = [vars(m) for m in modules]
    tables += [t for m in modules for t in (m._parameters, m._buffers, m._modules)]
    tables = [(t, dict(t)) for t in tables]
    restore_random = _random_numbers()

    def start(p: Tensor) -> Tensor:
        like = starts[id(p)]
        saved = values[like.untyped_storage().data_ptr()]
        empty = torch.empty(0, dtype=like.dtype, device=like.device)
        return empty.set_(saved, like.storage_offset(), like.shape, like.stride())

    try:
        for p in params:
            p.grad = None
        with torch.enable_grad():
            yield start
    finally:
        restore_optimizers()
        for table, content in tables:
            table.clear()
            table.update(content)
        for t, alias in aliases:
            if t.data_ptr() != alias.data_ptr():
                t.data = alias
        for at, storage in memory.items():
            storage.copy_(values[at])
        for p, grad in grads:
            p.grad = grad
        restore_random()


def _lent(optimizers: list, params: list[Tensor]) -> Callable[[], None]:
    """Give optimizers copies of their state; return a function that takes them back.

    Where a scheduler has set lr to 0, the copy has `initial_lr`.
    """
    kept = [(o, o.state, o.param_groups, dict(vars(o))) for o in optimizers]

    def copied(value):
        own = isinstance(value, dict | list | Tensor)
        return copy.deepcopy(value, {id(p): p for p in params}) if own else value

    states = [copied(o.state) for o in optimizers]
    groups = [[{k: copied(v) for k, v in g.items()} for g in o.param_groups]
              for o in optimizers]  # fmt: skip
    for o, state, own in zip(optimizers, states, groups, strict=True):
        o.state, o.param_groups = state, own
        for g in own:
            if not g.get("lr", True):
                g["lr"] = g.get("initial_lr", g["lr"])

    def restore() -> None:
        for o, state, own, table in kept:
            o.state, o.param_groups = state, own
            vars(o).clear()
            vars(o).update(table)

    return restore


def _random_numbers() -> Callable[[], None]:
    """Return a function that sets torch's, numpy's and Python's generators back."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    ours, theirs = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    pythons = random.getstate()

    def restore() -> None:
        torch.set_rng_state(ours)
        torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(theirs)  # noqa: NPY002
        random.setstate(pythons)

    return restore


def listed(optimizers: list) -> Iterator[tuple]:
    """Yield (parameter, name, optimizer, param_group) for each entry of the optimizers.

    The name is taken from the group's `param_names`; without these it is the shape and
    the number of the group.
    """
    for o in optimizers:
        for i, g in enumerate(o.param_groups):
            names = g.get("param_names") or [
                f"{tuple(p.shape)} in group {i}" for p in g["params"]
            ]
            for p, name in zip(g["params"], names, strict=True):
                yield p, name, o, g
