"""What test_pretraining_ranks.py starts by torchrun: each run in each mode, as JSON."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

from symlab.pretraining import loop, pretrain
from symlab.pretraining.processes import Processes, join, leave
from tests.test_pretraining import RUNS, text

KEPT = ("train_loss", "val_curve", "head_shift", "state_bytes", "load_cv")


def main(out: str, modes: list[str]) -> None:
    torch.set_num_threads(1)
    mine = join()
    found = {}
    for mode in modes:
        processes = Processes(mine.rank, mine.world, mode)
        for name, run in RUNS.items():
            found[f"{mode} {name}"] = once(run, processes)
        path = Path(out).with_name(f"{mode}.state")
        killed(RUNS["mixture"], processes, path)
        files = sorted(f.name for f in path.parent.glob(f"{path.name}.*"))
        again = once(RUNS["mixture"], processes, path=path)
        found[f"{mode} resumed"] = again | {"files": files}
    if mine.first:
        Path(out).write_text(json.dumps(found))
    leave()


def once(run: tuple, processes: Processes, **options) -> dict:
    config, recipe, optimizer = run
    row = pretrain(config, text(), recipe, optimizer, processes=processes, **options)
    return {k: row[k] for k in KEPT if k in row}


def killed(run: tuple, processes: Processes, path: Path) -> None:
    """At the ninth step, all processes at once."""
    tell = loop._Run._tell

    def die(self, bar):
        if self.step == 9:
            raise KeyboardInterrupt

    loop._Run._tell = die
    with suppress(KeyboardInterrupt):
        once(run, processes, path=path, save_every=4)
    loop._Run._tell = tell


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
