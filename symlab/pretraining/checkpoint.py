"""The state of a run on disk: whole or absent, and of this run or refused.

Files are <path>.<step>.<rank>of<parts>: one, of the first process, where all have the
same weights, or one of each where they are shards. The step is complete when all its
parts are there; then the step before is deleted.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from symlab.pretraining.processes import Processes

NAME = re.compile(r"\.(\d+)\.(\d+)of(\d+)")


def save(path: Path, step: int, state: dict, processes: Processes) -> None:
    """Of all processes together; tensors of the state may be shards."""
    parts = processes.world if processes.sharded else 1
    if processes.rank < parts:
        target = _part(path, step, processes.rank, parts)
        temporary = target.with_name(f".{target.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(plain(state), temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    processes.wait()
    if processes.first:
        _drop(path, but=step)


def load(path: Path, about: dict, processes: Processes) -> dict | None:
    """The state last saved, None where there is none.

    about: what the state must say of itself. Raises ValueError where it is of another
    run or of another number of processes.
    """
    parts = processes.world if processes.sharded else 1
    steps = _steps(path)
    for step in sorted(steps, reverse=True):
        of, found = steps[step]
        if of != parts:
            raise ValueError(
                f"the checkpoint {path} has {of} parts and this run {parts}: start as "
                "many processes in the same mode, or name another path"
            )
        if len(found) == of:
            rank = processes.rank if processes.sharded else 0
            file = _part(path, step, rank, parts)
            try:
                state = torch.load(file, map_location="cpu", weights_only=True)
            except FileNotFoundError:  # taken away by another call
                return None
            except Exception:
                raise ValueError(
                    f"the checkpoint {file} cannot be read: delete it to start again"
                ) from None
            _check(path, state["about"], about)
            return state
    return None


def forget(path: Path, processes: Processes) -> None:
    """Delete it, when the run has ended."""
    processes.wait()
    if processes.first:
        _drop(path, but=None)


def plain(state):
    """The same without shards: each becomes {"shard": this process's tensor}."""
    if isinstance(state, dict):
        return {k: plain(v) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return [plain(v) for v in state]
    return {"shard": state.to_local()} if hasattr(state, "to_local") else state


@torch.no_grad()
def put_back(tensors: dict[str, Tensor], saved: dict) -> None:
    """What `plain` made of named tensors into those tensors, in place."""
    for name, value in tensors.items():
        if hasattr(value, "to_local"):
            value.to_local().copy_(saved[name]["shard"])
        else:
            value.copy_(saved[name])


def optimizer_state(optimizer: torch.optim.Optimizer, saved: dict) -> dict:
    """For `load_state_dict`: shards as the parameters have them."""
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    state = {
        i: {k: _sharded(v, parameters[i]) for k, v in values.items()}
        for i, values in saved["state"].items()
    }
    return {"state": state, "param_groups": saved["param_groups"]}


def _sharded(value, p: Tensor):
    if not isinstance(value, dict):
        return value
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        value["shard"].to(p.to_local().device),
        p.device_mesh,
        p.placements,
        run_check=False,
        shape=p.shape,
        stride=p.stride(),
    )


def _check(path: Path, saved: dict, about: dict) -> None:
    differing = [k for k in about if saved.get(k) != about[k]]
    if differing:
        k = differing[0]
        raise ValueError(
            f"the checkpoint {path} is of another run, with {k} = {saved.get(k)!r} "
            f"instead of {about[k]!r}: name another path, or delete it"
        )


def _steps(path: Path) -> dict[int, tuple[int, set]]:
    """step -> (number of parts, ranks whose part is there)."""
    steps: dict[int, tuple[int, set]] = {}
    for file in path.parent.glob(f"{path.name}.*of*"):
        match = NAME.fullmatch(file.name[len(path.name) :])
        if match:
            step, rank, parts = map(int, match.groups())
            steps.setdefault(step, (parts, set()))[1].add(rank)
    return steps


def _drop(path: Path, but: int | None) -> None:
    for step, (parts, ranks) in _steps(path).items():
        for rank in ranks if step != but else ():
            with suppress(OSError):
                _part(path, step, rank, parts).unlink()


def _part(path: Path, step: int, rank: int, parts: int) -> Path:
    return path.with_name(f"{path.name}.{step}.{rank}of{parts}")
