"""What test_saved.py runs in two processes: a model in shards is kept by both."""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from symlab.models.families import family
from symlab.models.transformer import Decoder
from symlab.pretraining.processes import shard
from symlab.pretraining.saved import save

SHARDED = family(
    "qwen3",
    vocabulary=40,
    context=24,
    width=15,  # parts of unequal size
    layers=2,
    heads=2,
    kv_heads=1,
    head_width=8,
    hidden=24,
)


def keep(rank: int, place: str) -> str:
    """Keep the weights, then what is refused; the sentence that this process hears."""
    method = f"file://{place}.store"
    dist.init_process_group(
        "gloo", method, timedelta(minutes=2), rank=rank, world_size=2
    )
    try:
        model = Decoder(SHARDED, torch.Generator().manual_seed(0))
        shard(model)
        save(place, model, about={"mode": "fsdp"})
        save(place, model, about={"mode": "ddp"})
    except ValueError as error:
        return str(error)
    finally:
        dist.destroy_process_group()
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(keep(1, sys.argv[1]))
