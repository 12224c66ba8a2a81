"""Where a long run may keep its state, so that a killed one goes on where it was.

`run` stays pure as far as its rows go: with or without a checkpoint it returns the
same. The engine gives each task a folder, named by its runs and the code, so that no
state of other code is resumed; it deletes the folder when the rows are safe.
"""

import os
from hashlib import sha256
from pathlib import Path


def path(config) -> Path | None:
    """A file for this run's state, in an existing folder; None where none is kept."""
    folder = os.environ.get("SYMLAB_CHECKPOINTS")
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / f"{sha256(repr(config).encode()).hexdigest()[:16]}.state"
