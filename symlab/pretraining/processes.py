"""The processes of a training run: one, or several with replicas (DDP) or shards
(FSDP2).
"""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

MODES = ("ddp", "fsdp")


@dataclass(frozen=True)
class Processes:
    """The position of one process among all processes of a training run.

    rank: this process's number. world: the number of processes.
    mode: 'ddp', each process has the whole model, or 'fsdp', each has a part of every
        weight (torch's `fully_shard`).
    device: this process's device.
    """

    rank: int = 0
    world: int = 1
    mode: str = "ddp"
    device: torch.device = torch.device("cpu")

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}: use {' or '.join(MODES)}")

    @property
    def sharded(self) -> bool:
        """Whether each process has only a part of every weight."""
        return self.world > 1 and self.mode == "fsdp"

    @property
    def first(self) -> bool:
        """Whether this is the first process, which writes files and messages."""
        return self.rank == 0

    def share(self, rows):
        """Return this process's rows of a batch.

        Raises ValueError if the number of rows is not a multiple of the number of
        processes.
        """
        if len(rows) % self.world:
            raise ValueError(
                f"a batch of {len(rows)} sequences does not divide among {self.world} "
                "processes: choose a multiple"
            )
        size = len(rows) // self.world
        return rows[self.rank * size : (self.rank + 1) * size]

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean of x over all processes; all must call it."""
        if self.world > 1:
            dist.all_reduce(x)
            x = x / self.world
        return x

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of x of all processes, in the order of the processes.

        All must call it, with equally many rows.
        """
        if self.world == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.world)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    def any(self, here: bool) -> bool:
        """Return whether `here` is true in any process; all must call it, and each
        waits.
        """
        if self.world == 1:
            return here
        return bool(self.mean(torch.tensor(float(here), device=self.device)) > 0)

    def agree(self, failed: Exception | None) -> None:
        """Raise an error in all processes if one of them has failed; all must call it.

        failed: this process's error, or None. A process without an error of its own
        raises an OSError, so that all processes end and none waits for one that has
        ended.
        """
        if self.any(failed is not None):
            raise failed or OSError("another process has failed: see what it says")


ALONE = Processes()


def on(name: str) -> torch.device:
    """Return the torch device for the name 'cpu' or 'cuda'.

    For 'cuda' it is the GPU of this process, by its LOCAL_RANK. Raises ValueError if
    torch finds no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "cuda was asked for and torch finds none: use cpu, or a build of torch "
            "with CUDA on a machine with a GPU"
        )
    if name == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device(name)


def join(device: str = "cpu", mode: str = "ddp") -> Processes:
    """Join the processes that torchrun has started, and return them as `Processes`.

    device: 'cpu' or 'cuda'. mode: 'ddp' or 'fsdp', as for `Processes`.

    Without torchrun the result is a single process.
    """
    world, where = int(os.environ.get("WORLD_SIZE", 1)), on(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return Processes(int(os.environ.get("RANK", 0)), world, mode, where)


def leave() -> None:
    """Leave the process group that `join` has entered, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(model: nn.Module) -> None:
    """Shard each block of a decoder by itself, then the rest, with torch's fully_shard.

    One block can then be gathered while another is computed.
    """
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)


def replicate(objective: nn.Module, processes: Processes) -> nn.Module:
    """Return a training loss wrapped in DistributedDataParallel, which averages
    gradients.

    objective: the training loss, an `Objective`.

    The state of phi-balancing (a running load of each expert) is broadcast from the
    first process, so that it is the same in all processes and after a resume.
    """
    where = processes.device
    replica = nn.parallel.DistributedDataParallel(
        objective,
        device_ids=[where.index] if where.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    # not an argument above, whose name differs between versions of torch
    replica.broadcast_buffers = len(objective.phi) > 0
    return replica
