"""Resume a training run that was killed, from its last saved epoch, as the same run.

kept = Kept(context.checkpoint(c), model, optimizer)
first, losses = kept.resume()
for epoch in range(first, epochs):
    ...
    kept.save(epoch + 1, losses)
"""

import os
import time
from pathlib import Path

import torch


class Kept:
    """The state of a training run in one file, saved at most once a minute.

    path: the file; None keeps nothing.
    """

    def __init__(
        self,
        path: Path | None,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
    ):
        self.path, self.model, self.optimizer = path, model, optimizer
        self.clock, self.saved = time.monotonic, time.monotonic()

    def resume(self) -> tuple[int, list[float]]:
        """Load the saved state into model and optimizer; return the epoch that comes
        next and the losses so far, or (0, []) if no state can be read.
        """
        if self.path is None or not self.path.exists():
            return 0, []
        where = next(self.model.parameters()).device
        try:
            state = torch.load(self.path, map_location=where, weights_only=True)
        except Exception:  # the file is cut off, or another call removed it
            return 0, []
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["epoch"], state["losses"]

    def save(self, epoch: int, losses: list[float]) -> None:
        """Save the state between two epochs, unless one was saved in the last minute.

        epoch: the number of the epoch that comes next. losses: those so far.
        """
        if self.path is None or self.clock() - self.saved < 60:
            return
        state = {
            "model": self.model.state_dict(),
            "epoch": epoch,
            "losses": losses,
            "optimizer": self.optimizer.state_dict(),
        }
        new = self.path.with_suffix(f".{os.getpid()}")  # two calls may run at once
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, new)
        new.replace(self.path)
        self.saved = self.clock()
