"""What test_pretraining_ranks.py starts by torchrun: each run in each mode, as JSON.

`each` is every run, and one that the second process is asked to stop. `ddp` and `fsdp`
are a run whose second process is killed in that mode; `again` ends both.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from symlab.pretraining import Stopped, loop, pretrain
from symlab.pretraining.processes import Processes, join, leave
from tests.test_pretraining import RUNS, text

KEPT = ("train_loss", "val_curve", "head_shift", "state_bytes", "load_cv")
KEPT += ("gradient_norm", "gradient_norm_max")


def main(out: str, what: str, modes: list[str]) -> None:
    torch.set_num_threads(1)
    mine = join()
    found = {}
    for mode in modes:
        processes = Processes(mine.rank, mine.world, mode)
        path = Path(out).with_name(f"{mode}.state")
        found |= (each if what == "each" else killed)(mode, processes, path, what)
    if mine.first:
        Path(out).write_text(json.dumps(found))
    leave()


def each(mode: str, processes: Processes, path: Path, what: str) -> dict:
    """Rows of all runs, and of one that the second process is asked to stop."""
    found = {f"{mode} {name}": once(run, processes) for name, run in RUNS.items()}
    signalled(9, signal.SIGTERM, processes)
    try:
        once(RUNS["mixture"], processes, path=path, save_every=4)
    except Stopped as stopped:
        said = str(stopped)
    files = sorted(f.name for f in path.parent.glob(f"{path.name}.*"))
    again = once(RUNS["mixture"], processes, path=path, save_every=4)
    return found | {f"{mode} resumed": again | {"files": files, "said": said}}


def killed(mode: str, processes: Processes, path: Path, what: str) -> dict:
    """The row of a run that is as long as it is not killed."""
    if mode == what:
        signalled(9, signal.SIGKILL, processes)
    before = sorted(f.name for f in path.parent.glob(f"{path.name}.*"))
    row = once(RUNS["mixture"], processes, path=path, save_every=4)
    return {f"{mode} restarted": row | {"files": before}}


def once(run: tuple, processes: Processes, **options) -> dict:
    config, recipe, optimizer = run
    row = pretrain(config, text(), recipe, optimizer, processes=processes, **options)
    return {k: row[k] for k in KEPT if k in row}


def signalled(step: int, number: int, processes: Processes) -> None:
    """The second process alone gets the signal, once, after that step."""
    tell = loop._Run._tell

    def told(self, bar):
        tell(self, bar)
        if self.step == step and processes.rank == 1:
            loop._Run._tell = tell
            os.kill(os.getpid(), number)

    loop._Run._tell = told


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
