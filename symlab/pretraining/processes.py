"""One process, or as many as torchrun starts: replicas (DDP) or shards (FSDP2)."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

MODES = ("ddp", "fsdp")


@dataclass(frozen=True)
class Processes:
    """This process among `world`; mode: 'ddp', every process has the whole model, or
    'fsdp', each has a part of every weight (`fully_shard`)."""

    rank: int = 0
    world: int = 1
    mode: str = "ddp"
    device: torch.device = torch.device("cpu")

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}: use {' or '.join(MODES)}")

    @property
    def sharded(self) -> bool:
        return self.world > 1 and self.mode == "fsdp"

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, rows):
        """Return this process's rows of a batch, which `world` must divide."""
        if len(rows) % self.world:
            raise ValueError(
                f"a batch of {len(rows)} sequences does not divide among {self.world} "
                "processes: choose a multiple"
            )
        size = len(rows) // self.world
        return rows[self.rank * size : (self.rank + 1) * size]

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean of a value over processes."""
        if self.world > 1:
            dist.all_reduce(x)
            x = x / self.world
        return x

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, equally many from each, in their order."""
        if self.world == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.world)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    def any(self, here: bool) -> bool:
        """Whether it is true in any process; each waits for all others."""
        if self.world == 1:
            return here
        return bool(self.mean(torch.tensor(float(here), device=self.device)) > 0)

    def agree(self, failed: Exception | None) -> None:
        """Raise this process's error; in the others, that another process failed.

        So all of them end, and none waits for one that has ended.
        """
        if self.any(failed is not None):
            raise failed or OSError("another process has failed: see what it says")


ALONE = Processes()


def on(name: str) -> torch.device:
    """Return the device of 'cpu' or 'cuda', for 'cuda' this process's own."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "cuda was asked for and torch finds none: use cpu, or a build of torch "
            "with CUDA on a machine with a GPU"
        )
    if name == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device(name)


def join(device: str = "cpu", mode: str = "ddp") -> Processes:
    """Return the Processes that torchrun has started; one process without it."""
    world, where = int(os.environ.get("WORLD_SIZE", 1)), on(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return Processes(int(os.environ.get("RANK", 0)), world, mode, where)


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(model: nn.Module) -> None:
    """Shard each block by itself, then the rest.

    So one block is gathered while another computes.
    """
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)


def replicate(objective: nn.Module, processes: Processes) -> nn.Module:
    """Wrap a model so that gradients are averaged over processes (DDP).

    The prices of phi-balancing are the first process's: they are broadcast, so that
    they are the same everywhere and after a resume.
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
