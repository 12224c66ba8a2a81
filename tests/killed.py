"""What test_pretraining_checkpoints.py starts: a run that is killed ten times.

Each child trains the same tiny model with a checkpoint after each step, and is killed
(signal 9) at a random moment after its first new checkpoint. Children are forks of a
process that has trained, so that torch is imported and has found its kernels once.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from symlab.pretraining import checkpoint, pretrain
from tests.test_pretraining import MIXTURE, RECIPE, text, with_

STEPS, KILLS = 60, 10
LONGEST = 4  # steps' time from a new checkpoint to the kill


def main(folder: str) -> None:
    torch.set_num_threads(1)
    path, draws = Path(folder) / "run", random.Random(0)
    go(None)
    began = time.monotonic()
    whole = go(None)
    longest = LONGEST * (time.monotonic() - began) / STEPS
    at = [killed(path, draws.uniform(0, longest)) for _ in range(KILLS)]
    print(json.dumps({"at": at, "resumed": go(path), "whole": whole}))


def killed(path: Path, after: float) -> int:
    """The last step on disk when the child was killed."""
    before = checkpoint.latest(path) or 0
    child = os.fork()
    if child == 0:
        go(path)
        os._exit(0)
    while (checkpoint.latest(path) or 0) <= before:
        time.sleep(0.001)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    return checkpoint.latest(path)


def go(path: Path | None) -> list[float]:
    recipe = with_(RECIPE, steps=STEPS, evaluate_every=0)
    row = pretrain(
        MIXTURE,
        text(),
        recipe,
        {"lr": 0.01},
        path=path,
        save_every=1 if path else 0,
    )
    return [*row["train_loss"], row["val_loss"], row["head_shift"]]


if __name__ == "__main__":
    main(sys.argv[1])
