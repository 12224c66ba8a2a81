"""Where a long run may keep its state, so that a killed one goes on where it was.

`run` stays pure as far as its rows go: with or without a checkpoint it returns the same.
The file is named by the config and the code, and the engine deletes it when the row is
safe, so no state of an older code is ever resumed.
"""

import os
from dataclasses import asdict, is_dataclass
from pathlib import Path

from symlab.harness import sweep


def path(config) -> Path | None:
    """A file for this run's state, in an existing folder; None where none is kept."""
    folder = os.environ.get("SYMLAB_CHECKPOINTS")
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    values = sweep.typed(config) if is_dataclass(config) else asdict(config)
    return Path(folder) / f"{sweep.key(values)}.state"
