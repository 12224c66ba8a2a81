"""Checkpoints of a training run: complete or absent, and refused by any other run.

Files are named <path>.<step>.<rank>of<parts>. There is one file, written by the first
process, if all processes have the same weights, and one per process if the weights are
sharded. A step is complete when all its files exist. The last two complete steps are
kept: if the newest file is damaged, which the SHA-256 at its end shows, the run resumes
from the step before.
"""

import glob
import os
import pickle
import re
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from symlab.models.folder import sync
from symlab.pretraining.processes import Processes

COUNT = "(0|[1-9][0-9]*)"  # as Python writes a whole number
NAME = re.compile(rf"\.{COUNT}\.{COUNT}of{COUNT}")
KEPT = 2  # steps
MARK = b"symlab sha256 "  # stands before the digest, at the end of a file
CHUNK = 1 << 22  # bytes read at once


def check(path: Path, steps: int, processes: Processes) -> None:
    """Raise ValueError or OSError, in all processes, unless `path` can be written to.

    steps: the number of steps of the whole run. processes: those of the run.

    To test this, a file with the name of the last step's checkpoint is written and
    deleted.
    """
    path = Path(path)
    if path.name in ("", ".."):
        raise ValueError(
            f"{str(path)!r} is no name for a checkpoint: give a folder and a name in "
            "it, as run/state"
        )
    failed, parts = None, processes.world if processes.sharded else 1
    if processes.rank < parts:
        trial = _temporary(_part(path, steps, processes.rank, parts))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                trial.write_bytes(MARK)
            finally:
                trial.unlink(missing_ok=True)
        except OSError as error:
            failed = OSError(
                f"the checkpoint {path} cannot be written ({error.strerror}): name "
                "another place, or make this one writable"
            )
    processes.agree(failed)


def save(path: Path, step: int, state: dict, processes: Processes) -> None:
    """Write the training state of all processes to disk.

    path, step: determine the file's name.
    state: nested dicts and lists of numbers, strings and tensors, which may be sharded.
    processes: those of the run; all must call this.

    Raises OSError, in all processes, if one of them cannot write; earlier checkpoints
    are kept.
    """
    parts = processes.world if processes.sharded else 1
    failed = None
    if processes.rank < parts:
        try:
            _write(_part(path, step, processes.rank, parts), plain(state))
        except OSError as error:
            failed = error
    if processes.any(failed is not None):  # known when all have written
        reason = failed.strerror or failed if failed else "see the other processes"
        before = latest(path)
        rest = "" if before is None else f"; that of step {before} is intact"
        raise OSError(
            f"the state of step {step} could not be saved as {path} ({reason}){rest}: "
            "make room, and start the same command again"
        ) from failed
    if processes.first:
        _drop(path, up_to=step)


def load(path: Path, about: dict, processes: Processes) -> dict | None:
    """Return the last saved training state that is not damaged; None if none was saved.

    path: the checkpoint's path.
    about: the settings that identify the run, which must equal those in the state.
    processes: those of the run; all must call this.

    A damaged file is named on stderr. Raises ValueError if the state belongs to another
    run or has another number of shards, and if all states are damaged.
    """
    parts = processes.world if processes.sharded else 1
    damaged: list[str] = []
    steps = _steps(path)
    for step in sorted(steps, reverse=True):
        of, found = steps[step]
        if of != parts:
            raise ValueError(
                f"the checkpoint {path} has {of} parts and this run {parts}: start as "
                "many processes in the same mode, or name another path"
            )
        if len(found) < of:
            continue
        file = _part(path, step, processes.rank if processes.sharded else 0, parts)
        state = _read(file, step)
        if state is None:
            damaged.append(str(file))
        if not processes.any(state is None):
            _check(path, state["about"], about)
            for name in damaged:
                print(
                    f"symlab.pretraining: {name} is damaged, so the run goes on from "
                    f"step {step}, which was saved before it",
                    file=sys.stderr,
                )
            return state
    if processes.any(bool(damaged)):
        files = " and ".join(damaged) or "parts of other processes"
        raise ValueError(
            f"the checkpoint {path} cannot be read, as {files} "
            f"{'is' if len(damaged) == 1 else 'are'} damaged: delete what begins with "
            f"{path.name}. to start again, or name another path"
        )
    return None


def is_part(path: Path, file: Path) -> bool:
    """Return whether `save` may give this file name to a checkpoint at `path`.

    file: the path of a file or folder.
    """
    if file.parent != path.parent or not file.name.startswith(path.name):
        return False
    return NAME.fullmatch(file.name[len(path.name) :]) is not None


def latest(path: Path) -> int | None:
    """Return the last step whose checkpoint at `path` is complete; None if there is
    none.
    """
    steps = _steps(Path(path))
    return max(
        (s for s, (of, found) in steps.items() if len(found) == of), default=None
    )


def forget(path: Path) -> None:
    """Delete the checkpoints at `path`, which are not needed once the run's row is
    stored.
    """
    _drop(Path(path), up_to=-1)


def _write(target: Path, state: dict) -> None:
    """So that the file is whole under its name, or absent, also after a power cut."""
    temporary = _temporary(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            summed = _Summed(file)
            try:
                torch.save(state, summed)
            except RuntimeError:  # torch's own, of a file that is shorter than it wrote
                raise summed.error or OSError("torch could not write it") from None
            file.write(MARK + summed.digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


class _Summed:
    """A file to write to that knows the digest of what it got, and its first error."""

    def __init__(self, file):
        self.file, self.digest, self.error = file, sha256(), None

    def write(self, data) -> int:
        try:
            self.digest.update(data)
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def _read(file: Path, step: int) -> dict | None:
    """None where the content is not what was written, as the state of this step."""
    left, digest = file.stat().st_size - len(MARK) - sha256().digest_size, sha256()
    with file.open("rb") as stream:
        while left > 0 and (data := stream.read(min(left, CHUNK))):
            digest.update(data)
            left -= len(data)
        if stream.read() != MARK + digest.digest():
            return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError):  # no file of torch's
        return None
    own = isinstance(state, dict) and {"about", "step"} <= set(state)
    return state if own and state["step"] == step else None


def plain(state):
    """Return a state in a form that can be saved: sharded tensors as {"shard": own
    part}.

    state: nested dicts, lists and tuples. Each sharded tensor is replaced by a dict
    with this process's part of it, NumPy numbers by Python's, and tuples by lists.
    """
    if isinstance(state, dict):
        return {k: plain(v) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return [plain(v) for v in state]
    if isinstance(state, np.generic):
        return state.item()
    return {"shard": state.to_local()} if hasattr(state, "to_local") else state


@torch.no_grad()
def put_back(tensors: dict[str, Tensor], saved: dict) -> None:
    """Copy saved tensors into the tensors of the same names, in place.

    tensors: {name: tensor}, which may be sharded. saved: {name: value}, as `plain` made
        it.
    """
    for name, value in tensors.items():
        if hasattr(value, "to_local"):
            value.to_local().copy_(saved[name]["shard"])
        else:
            value.copy_(saved[name])


def optimizer_state(optimizer: torch.optim.Optimizer, saved: dict) -> dict:
    """Return a saved optimizer state in the form that `load_state_dict` takes.

    optimizer: the optimizer that will load it; its parameters may be sharded.
    saved: the state as `plain` made it.
    """
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
    about = plain(about)
    differing = [k for k in {**about, **saved} if saved.get(k) != about.get(k)]
    if differing:
        k = differing[0]
        raise ValueError(
            f"the checkpoint {path} is of another run, with {k} = {saved.get(k)!r} "
            f"instead of {about.get(k)!r}: name another path, or delete it"
        )


def _steps(path: Path) -> dict[int, tuple[int, set]]:
    """step -> (number of parts, ranks whose part is there)."""
    steps: dict[int, tuple[int, set]] = {}
    for file in path.parent.glob(f"{glob.escape(path.name)}.*of*"):
        match = NAME.fullmatch(file.name[len(path.name) :])
        if match and file.is_file():
            step, rank, parts = map(int, match.groups())
            steps.setdefault(step, (parts, set()))[1].add(rank)
    return steps


def _drop(path: Path, up_to: int) -> None:
    """Delete all but the last steps up to this one, and what killed processes left."""
    steps = _steps(path)
    kept = sorted(step for step in steps if step <= up_to)[-KEPT:]
    gone = [
        _part(path, step, rank, parts)
        for step, (parts, ranks) in steps.items()
        if step not in kept
        for rank in ranks
    ]
    gone += _left(path)
    for file in gone:
        with suppress(OSError):
            file.unlink()


def _left(path: Path) -> list[Path]:
    """Files that processes were killed while they wrote them; of this path alone."""
    start, end = f".{path.name}", ".tmp"
    return [
        file
        for file in path.parent.glob(f"{glob.escape(start)}.*of*{end}")
        if NAME.fullmatch(file.name[len(start) : -len(end)])
    ]


def _temporary(target: Path) -> Path:
    """Where a file is written before it gets its name."""
    return target.with_name(f".{target.name}.tmp")


def _part(path: Path, step: int, rank: int, parts: int) -> Path:
    return path.with_name(f"{path.name}.{step}.{rank}of{parts}")
