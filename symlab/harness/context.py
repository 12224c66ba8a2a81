"""What the harness tells a run that asks for it: where to compute, where to keep state.

An experiment whose `run` has a second parameter `context` gets one; other experiments
have `run(configs)`. A context is no part of a config, since a row is the same run on
any device, with or without a checkpoint. `Context()` computes on the CPU and keeps
nothing: it is what tests and notebooks pass.
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
        """Return a file for the state of this run, so that a killed one can go on.

        It lies in an existing folder whose name holds the runs and the code, so no
        state of other code is resumed. None where no state is kept.
        """
        if self.checkpoints is None:
            return None
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        name = sha256(repr(config).encode()).hexdigest()[:16]
        return self.checkpoints / f"{name}.state"

    def shared(
        self, function: Callable[..., dict[str, np.ndarray]], **arguments
    ) -> dict[str, np.ndarray]:
        """Return function(**arguments), a dict of arrays, computed once for all runs
        that ask for it and then read from disk.

        See `symlab.harness.stage`. Without a folder for such results it is computed
        anew.
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
