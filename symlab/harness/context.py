"""Context: the device and the folders that an experiment's `run` may use.

An experiment whose `run` has a second parameter `context` is given one; other
experiments have `run(configs)`. A context is not part of a config, because a row is the
same on any device, with or without a checkpoint. `Context()` computes on the CPU and
keeps nothing on disk: tests and notebooks pass it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Context:
    """The device and the folders that a run of an experiment may use.

    By default it computes on the CPU and keeps nothing on disk.
    """

    device: str = "cpu"
    """'cpu' or 'cuda', as the command line asked for (DEVICE=...)."""
    checkpoints: Path | None = None
    """A folder of this task alone, deleted when its rows are safe; None keeps none."""
    stages: Path | None = None
    """A folder of all tasks, for what several of them share; None keeps nothing."""
    root: Path | None = None
    """The folder of the project, in which code is looked up; needed with `stages`."""

    def checkpoint(self, config) -> Path | None:
        """Return the path of a file for the state of a run, so that a killed run can
        continue.

        config: the config of the run.

        The file is in an existing folder whose name depends on the runs and on the
        code, so a state that other code has saved is never resumed. The result is None
        if no state is kept.
        """
        if self.checkpoints is None:
            return None
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        name = sha256(repr(config).encode()).hexdigest()[:16]
        return self.checkpoints / f"{name}.state"

    def shared(
        self, function: Callable[..., dict[str, np.ndarray]], **arguments
    ) -> dict[str, np.ndarray]:
        """Return function(**arguments), a dict of arrays, which is computed once and
        then read.

        All runs that ask for the same result share the file in which it is kept; see
        `symlab.harness.stage`. Without a folder for such files it is computed at each
        call.
        """
        from symlab.harness import stage

        if self.stages is None:
            return function(**arguments)
        return stage.shared(self.stages, self.root, function, arguments)


def of(task: dict) -> Context:
    """Return the Context of a worker's task, a dict with device, checkpoints and
    root.
    """
    if not task.get("checkpoints"):
        return Context(task["device"])
    folder = Path(task["checkpoints"])
    stages = folder.parent / "stages"
    return Context(task["device"], folder, stages, Path(task["root"]))
