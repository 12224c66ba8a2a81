"""What test_pretraining_ranks.py starts: runs of two processes, as JSON.

`each`: every run in each mode, and one that the second process is asked to stop.
`killed`: in each mode a run whose second process is killed, and then again as long as
it is not. The two processes are torchrun's, or else forks of this one, which has
imported torch and trained once: torchrun's would each import it anew.
"""

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed.fsdp  # before the forks

from symlab.pretraining import Stopped, loop, pretrain
from symlab.pretraining.processes import ALONE, MODES, Processes, join, leave
from tests.test_pretraining import RUNS, text

KEPT = ("train_loss", "val_curve", "head_shift", "state_bytes", "load_cv")
KEPT += ("gradient_norm", "gradient_norm_max")


def main(out: Path, what: str) -> None:
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:  # torchrun's
        mine = join()
        found = each(mine, out)
        leave()
        if not mine.first:
            return
    else:
        once(RUNS["mixture"], ALONE)
        found = forks(each, out) if what == "each" else killed(out)
    out.write_text(json.dumps(found))


def killed(out: Path) -> dict:
    """In both modes a run that loses its second process, and that is started again."""
    found = {}
    for mode in MODES:
        path = out.with_name(f"{mode}.state")
        assert forks(partial(lost, mode, path), out) is None
        files = sorted(f.name for f in path.parent.glob(f"{path.name}.*"))
        found[mode] = forks(partial(saved, mode, path), out) | {"files": files}
    return found


def lost(mode: str, path: Path, mine: Processes, out: Path) -> None:
    """A run whose second process is killed after step 9."""
    signalled(9, signal.SIGKILL, mine)
    saved(mode, path, mine, out)


def saved(mode: str, path: Path, mine: Processes, out: Path) -> dict:
    processes = Processes(mine.rank, mine.world, mode)
    return once(RUNS["mixture"], processes, path=path, save_every=4)


def forks(work: Callable, out: Path) -> dict | None:
    """What the first of two processes has found, None where the second was killed.

    As torchrun does, the one that is left is ended when the other has failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = [os.fork() or fork(rank, port, work, out) for rank in (0, 1)]
    ended = dict([os.wait()])
    (left,) = set(children) - set(ended)
    if any(ended.values()):
        os.kill(left, signal.SIGKILL)
    ended |= dict([os.waitpid(left, 0)])
    if os.WIFSIGNALED(ended[children[1]]):
        assert os.WTERMSIG(ended[children[1]]) == signal.SIGKILL
        return None
    assert not any(ended.values()), ended
    return json.loads(out.read_text())


def fork(rank: int, port: int, work: Callable, out: Path) -> None:
    """One of two processes, which ends here."""
    signal.alarm(200)  # it does not outlive a test that was given up
    try:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank)}
        mine = join()
        found = work(mine, out)
        leave()
        if mine.first:
            out.write_text(json.dumps(found))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def each(mine: Processes, out: Path) -> dict:
    """Every run in both modes."""
    found = {}
    for mode in MODES:
        processes = Processes(mine.rank, mine.world, mode)
        found |= {f"{mode} {name}": once(run, processes) for name, run in RUNS.items()}
        found[f"{mode} resumed"] = stopped(processes, out.with_name(f"{mode}.state"))
    return found


def stopped(processes: Processes, path: Path) -> dict:
    """A run that the second process is asked to stop, and that goes on."""
    signalled(9, signal.SIGTERM, processes)
    try:
        once(RUNS["mixture"], processes, path=path, save_every=4)
    except Stopped as error:
        said = str(error)
    files = sorted(f.name for f in path.parent.glob(f"{path.name}.*"))
    row = once(RUNS["mixture"], processes, path=path, save_every=4)
    return row | {"files": files, "said": said}


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
    main(Path(sys.argv[1]), sys.argv[2])
