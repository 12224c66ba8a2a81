"""Parameters that are sharded over several processes: DTensors, as `fully_shard` makes.

These functions also accept plain tensors, which count as whole. If one dimension of the
device mesh shards a parameter, `collect` brings each whole tensor to the one process
that owns it, and `spread` sends the results back. Each is one collective operation and
sends 1/W of what gathering on all W processes would send; no two processes do the same
work. For other shardings `whole` gathers on all processes and `part_of` keeps a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed(t: Tensor) -> bool:
    """Return whether t is a DTensor.

    It is recognised by its attributes, because importing the class is slow.
    """
    return hasattr(t, "device_mesh")


def local(t: Tensor) -> Tensor:
    """Return this process's shard of t, as writable memory; t itself if it is not
    sharded.
    """
    return t.to_local() if is_distributed(t) else t


def local_grad(p: Tensor) -> Tensor:
    """Return the part of p's gradient that belongs to this process's shard of p."""
    if not is_distributed(p):
        return p.grad
    if p.grad.placements == p.placements:
        return p.grad.to_local()
    return p.grad.redistribute(placements=p.placements).to_local()


def outline(p: Tensor) -> Tensor:
    """Return a tensor of p's whole shape: on the meta device if p is sharded, else p
    itself.
    """
    return torch.empty(p.shape, device="meta") if is_distributed(p) else p


def cut_axes(p: Tensor) -> list[int]:
    """Return the axis of p that each sharding dimension of the device mesh shards.

    The result is [] if p is not sharded.
    """
    placements = p.placements if is_distributed(p) else ()
    return [s.dim for s in placements if s.is_shard()]


def whole(part: Tensor, p: Tensor) -> Tensor:
    """Return, on every process, the whole tensor of which `part` is this process's
    shard.

    part: sharded along the same axes as p, and with as many axes.
    """
    from torch.distributed.tensor import DTensor

    cut = cut_axes(p)
    shape = (p.shape[i] if i in cut else n for i, n in enumerate(part.shape))
    like = torch.empty(*shape, device="meta")
    return DTensor.from_local(
        part,
        p.device_mesh,
        p.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    ).full_tensor()


def part_of(x: Tensor, p: Tensor) -> Tensor:
    """Return this process's shard of a whole tensor x, sharded as p is."""
    return local(_distributed(x, p, p.placements))


def cut_along(x: Tensor, p: Tensor, axis: int | None) -> Tensor:
    """Return a whole tensor x sharded along `axis` over each mesh dimension that shards
    p.

    axis: None leaves x whole on every process.
    """
    if not is_distributed(p):
        return x.contiguous()
    from torch.distributed.tensor import Replicate, Shard

    kept = Replicate() if axis is None else Shard(axis)
    placements = [kept if s.is_shard() else Replicate() for s in p.placements]
    return _distributed(x.contiguous(), p, placements)


def _distributed(x: Tensor, p: Tensor, placements: Sequence) -> Tensor:
    """A whole x as a DTensor on the mesh of p; sends nothing."""
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * p.device_mesh.ndim
    x = DTensor.from_local(x, p.device_mesh, everywhere, run_check=False)
    return x.redistribute(placements=placements)


# --- each whole to one process -------------------------------------------------------


def team(p: Tensor) -> "dist.ProcessGroup | None":
    """Return the group of processes that have shards of p.

    None unless exactly one dimension of the device mesh shards it.
    """
    from torch.distributed.tensor import Shard

    cutting = [i for i, s in enumerate(p.placements) if s.is_shard()]
    if len(cutting) != 1 or type(p.placements[cutting[0]]) is not Shard:
        return None
    return p.device_mesh.get_group(cutting[0])


@dataclass(frozen=True)
class Dealt:
    """A sharded tensor that one process will receive as a whole.

    shape: its whole shape. axis: the axis along which it is sharded.
    owner: the rank of the process that receives it.
    """

    shape: tuple[int, ...]
    axis: int
    owner: int

    def lengths(self, world: int) -> list[int]:
        """Return the length along the axis of each of the `world` shards.

        All are equal, except that the last ones may be shorter or empty.
        """
        n = self.shape[self.axis]
        most = -(-n // world)
        return [min(n, (r + 1) * most) - min(n, r * most) for r in range(world)]

    def part(self, rank: int, world: int) -> tuple[int, ...]:
        """Return the shape of the shard of process `rank` among `world` processes."""
        first, rest = self.shape[: self.axis], self.shape[self.axis + 1 :]
        return *first, self.lengths(world)[rank], *rest


def deal(costs: list[int], world: int) -> list[int]:
    """Return for each task the process that does it, so that loads are about equal.

    costs: the costs of the tasks. world: the number of processes.

    The tasks are assigned in order of decreasing cost, each to the process with the
    least load so far.
    """
    loads, owners = [0] * world, [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += costs[i]
    return owners


def collect(parts: list[Tensor], dealt: list[Dealt], group) -> list[Tensor]:
    """Return the whole tensors that this process owns, after an exchange of all shards.

    parts: this process's shards, of one dtype. dealt: shape and owner of each whole
        tensor.
    group: the processes that take part; all of them must call it.
    """
    if not dealt:
        return []
    me, world = dist.get_rank(group), dist.get_world_size(group)
    mine = [d for d in dealt if d.owner == me]
    sent = [(d.owner, t) for t, d in zip(parts, dealt, strict=True)]
    shapes = [(r, d.part(r, world)) for d in mine for r in range(world)]
    got = iter(_exchanged(sent, shapes, parts[0], group))
    return [torch.cat([next(got) for _ in range(world)], d.axis) for d in mine]


def spread(wholes: list[Tensor], dealt: list[Dealt], like: list[Tensor], group):
    """Return this process's shards of whole tensors that several processes own.

    It is the inverse of `collect`.

    wholes: the whole tensors that this process owns.
    dealt: shape and owner of each whole tensor.
    like: tensors that determine the dtype and device of the result.
    group: the processes that take part; all of them must call it.
    """
    if not dealt:
        return []
    me, world = dist.get_rank(group), dist.get_world_size(group)
    mine = [d for d in dealt if d.owner == me]
    cut = [w.split(d.lengths(world), d.axis) for w, d in zip(wholes, mine, strict=True)]
    sent = [(r, part) for parts in cut for r, part in enumerate(parts)]
    shapes = [(d.owner, d.part(me, world)) for d in dealt]
    return _exchanged(sent, shapes, like[0], group)


def _exchanged(sent: list, shapes: list, like: Tensor, group) -> list[Tensor]:
    """One collective. sent: (to whom, tensor); shapes: (from whom, shape) of each."""
    ranks = range(dist.get_world_size(group))
    to = [[t.flatten() for r, t in sent if r == rank] for rank in ranks]
    of = [[i for i, (r, _) in enumerate(shapes) if r == rank] for rank in ranks]
    sizes = [[torch.Size(shapes[i][1]).numel() for i in their] for their in of]
    counts = [sum(map(len, tensors)) for tensors in to]
    flat = torch.cat([like.new_empty(0), *sum(to, [])])
    got = like.new_empty(sum(map(sum, sizes)))
    dist.all_to_all_single(got, flat, list(map(sum, sizes)), counts, group=group)
    pieces = dict(zip(sum(of, []), got.split(sum(sizes, [])), strict=True))
    return [pieces[i].view(shape) for i, (_, shape) in enumerate(shapes)]
