"""One process, or as many as torchrun starts: replicas (DDP) or shards (FSDP2)."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

MODES = ("ddp", "fsdp")


@dataclass(frozen=True)
class Processes:
    """What one process of a training run knows of all: its rank, their number `world`,
    and how they share the model.

    mode: 'ddp', every process has the whole model, or 'fsdp', each has a part of every
    weight (`fully_shard`). device: this process's.
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
        """Return this process's rows of a batch; raise ValueError where `world` does
        not divide it.
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
        waits for all.
        """
        if self.world == 1:
            return here
        return bool(self.mean(torch.tensor(float(here), device=self.device)) > 0)

    def agree(self, failed: Exception | None) -> None:
        """Raise `failed` if this process has an error, and an OSError if another
        process has one.

        All must call it; so all of them end, and none waits for one that has ended.
        """
        if self.any(failed is not None):
            raise failed or OSError("another process has failed: see what it says")


ALONE = Processes()


def on(name: str) -> torch.device:
    """Return the torch device of the name 'cpu' or 'cuda', for 'cuda' this process's
    own.

    Raises ValueError where torch finds no CUDA device.
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
    """Join the processes that torchrun has started and return them as `Processes`;
    without torchrun, one process.

    device: 'cpu' or 'cuda'. mode: 'ddp' or 'fsdp', as in `Processes`.
    """
    world, where = int(os.environ.get("WORLD_SIZE", 1)), on(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return Processes(int(os.environ.get("RANK", 0)), world, mode, where)


def leave() -> None:
    """Leave the group of processes that `join` has entered, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(model: nn.Module) -> None:
    """Shard each block of a decoder by itself, then the rest, with torch's fully_shard.

    So one block is gathered while another computes.
    """
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)


def replicate(objective: nn.Module, processes: Processes) -> nn.Module:
    """Return a training loss wrapped in DistributedDataParallel, which averages
    gradients over processes.

    The state of phi-balancing (a running load of each expert) is broadcast from the
    first process, so that it is the same everywhere and after a resume.
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
