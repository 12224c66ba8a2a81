"""Pretrain a named decoder from a shell, on one process or as many as torchrun starts.

    python -m symlab.pretraining dense-small --steps 200 --vocabulary 1024

    torchrun --nproc-per-node 8 -m symlab.pretraining qwen3-626m --device cuda \
        --mode fsdp --text fineweb-edu --limit 40_000_000_000 --vocabulary 151936 \
        --steps 30_000 --batch 224 --micro 28 --precision bfloat16 --compile \
        --lr 0.02 --weight-decay 0.001 --set embedding.lr=0.5 --set head.lr=0.005 \
        --checkpoint /scratch/qwen3 --save-every 500

The row goes to results/full/pretraining.parquet, when the run has ended. The same
command goes on from the checkpoint; another one is refused there.
"""

import argparse
import ast
import sys
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

import torch

from symlab.data.text import corpus
from symlab.harness import code, sweep
from symlab.harness.engine import origin
from symlab.harness.errors import UserError
from symlab.harness.project import find
from symlab.harness.store import Store, plain
from symlab.models.families import PRESETS, preset
from symlab.pretraining.loop import PRECISIONS, Recipe, pretrain
from symlab.pretraining.processes import MODES, Processes, join, leave
from symlab.symopt.presets import PRESETS as OPTIMIZERS


def main(argv: list[str] | None = None) -> int:
    """0 when the run has ended, 1 when it diverged, 2 for what cannot be run."""
    options = _parser().parse_args(argv)
    try:
        processes = join(options.device, options.mode)
        return _run(options, processes)
    except (UserError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"symlab.pretraining: {error}", file=sys.stderr)
        return 2
    finally:
        leave()


def _run(options, processes: Processes) -> int:
    text = corpus(options.text, options.vocabulary, options.limit)
    shape = {"vocabulary": options.vocabulary, "context": options.length}
    recipe = Recipe(
        **{f.name: getattr(options, f.name) for f in fields(Recipe)},
    )
    optimizer = _optimizer(options)
    start = time.perf_counter()
    row = pretrain(
        preset(options.model, **shape),
        text,
        recipe,
        optimizer,
        processes=processes,
        path=options.checkpoint,
        save_every=options.save_every,
        show=True,
    )
    if processes.first:
        said = {"model": options.model, "mode": processes.mode, **asdict(recipe)}
        said |= {"world": processes.world, "optimizer": repr(sorted(optimizer.items()))}
        said |= {"text": text.name, "text_hash": text.hash, "limit": options.limit or 0}
        file = _store(said, row, time.perf_counter() - start, processes)
        _tell(row, file)
    return 0 if row["diverged_at"] < 0 else 1


def _optimizer(options) -> dict:
    """Arguments of SymOpt."""
    overrides: dict[str, dict] = {}
    for item in options.set:
        where, equals, value = item.partition("=")
        role, dot, field = where.rpartition(".")
        if not (equals and dot):
            raise ValueError(f"--set {item}: write role.field=value, as head.lr=0.005")
        overrides.setdefault(role.replace("_", " "), {})[field] = _value(value)
    chosen = {"preset": options.preset, "lr": options.lr}
    chosen |= {"weight_decay": options.weight_decay, "compile": options.compile}
    return chosen | ({"overrides": overrides} if overrides else {})


def _value(text: str):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _store(said: dict, row: dict, wall: float, processes: Processes) -> Path:
    """Add the row to results/full, beside what is there."""
    project = find()
    reached = code.reach(project.root, "symlab.pretraining.loop", ["pretrain"])
    bad = row["diverged_at"] >= 0
    meta = {
        "key": sweep.key(said),
        "code": reached.code,
        "status": "failed" if bad else "ok",
        "error": f"diverged at step {row['diverged_at']}" if bad else "",
        "lanes": 1,
        "wall_s": wall,
        "device": processes.device.type,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": torch.get_num_threads(),
        **origin(project),
    }
    store = Store(project.results / "full", "pretraining")
    found = {name: plain(value) for name, value in row.items()}
    store.write_part([{**meta, **said, **found}], {reached.code: reached.definitions})
    store.pack()
    return store.file


def _tell(row: dict, file: Path) -> None:
    if row["diverged_at"] >= 0:
        print(f"diverged at step {row['diverged_at']}: row in {file}", file=sys.stderr)
        return
    said = f"validation loss {row['val_loss']:.4f} nats per token, "
    said += f"{row['bits_per_byte']:.4f} bits per byte; {row['tokens_per_s']:,.0f} "
    said += f"tokens/s, {row['optimizer_share']:.0%} of the time in the optimizer; "
    print(f"{said}row in {file}")


def _parser() -> argparse.ArgumentParser:
    about, example = __doc__.split("\n\n", 1)
    p = argparse.ArgumentParser(
        prog="python -m symlab.pretraining",
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole = lambda s: int(s.replace("_", ""))  # noqa: E731
    p.add_argument("model", choices=PRESETS, metavar="model", help=", ".join(PRESETS))
    p.add_argument("--text", default="stdlib", help="a name, or a folder of text")
    p.add_argument("--limit", type=whole, help="bytes of text, at most")
    p.add_argument("--vocabulary", type=whole, default=4096)
    for name, default in (("steps", 1000), ("batch", 8), ("length", 128)):
        p.add_argument(f"--{name}", type=whole, default=default)
    for name in ("micro", "evaluate-every", "save-every", "seed"):
        p.add_argument(f"--{name}", type=whole, default=0)
    p.add_argument("--validation", type=whole, default=8, help="batches")
    for name in ("balance", "z", "phi"):
        p.add_argument(f"--{name}", type=float, default=0.0, help="auxiliary loss")
    p.add_argument("--decay", type=float, default=0.4, help="part of the steps")
    p.add_argument("--precision", choices=PRECISIONS, default="float32")
    p.add_argument("--compile", action="store_true", help="model, loss and optimizer")
    p.add_argument("--preset", choices=OPTIMIZERS, default="symmetric")
    p.add_argument("--lr", type=float, default=0.02)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="role.field=value",
        help="of SymOpt's overrides, such as head.lr=0.005 (may be repeated)",
    )
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--mode", choices=MODES, default="ddp")
    p.add_argument("--checkpoint", type=Path, help="where the state is kept")
    return p


if __name__ == "__main__":
    sys.exit(main())
