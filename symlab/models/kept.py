"""A training run by epochs that was killed goes on, and is the same run.

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
    """The state of a run in one file, saved once a minute.

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
        """Put the saved state back; return its epoch and losses, or (0, [])."""
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
        """Save the state before this epoch, where the last save is a minute ago."""
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
