r"""Pretrain a named decoder from a shell, on one process or as many as torchrun starts.

    python -m symlab.pretraining dense-small --steps 200 --vocabulary 1024

    torchrun --nproc-per-node 8 -m symlab.pretraining qwen3-626m --device cuda \
        --mode fsdp --text fineweb-edu --limit 40_000_000_000 --vocabulary 151936 \
        --steps 30_000 --batch 224 --micro 28 --precision bfloat16 --compile \
        --lr 0.02 --weight-decay 0.001 --set embedding.lr=0.5 --set head.lr=0.005 \
        --checkpoint /scratch/qwen3 --save-every 500 --out /scratch/qwen3-weights \
        --warmup 500 --clip 1 --log /scratch/qwen3.csv

The row is written to results/full/pretraining.parquet and the weights to --out when the
run has ended; then the checkpoint is deleted. Until then the same command resumes the
run, also after Ctrl-C and SIGTERM, which save the state first. A command with more
--steps resumes it, too, if learning rates have not begun to fall, and so does one with
other evaluations; a command with any other change is refused.
"""

import argparse
import ast
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

import torch

from symlab.data.text import corpus
from symlab.harness import code, sweep
from symlab.harness.columns import plain
from symlab.harness.engine import origin
from symlab.harness.errors import UserError
from symlab.harness.project import find
from symlab.harness.store import Store
from symlab.models.families import PRESETS, DecoderConfig, preset
from symlab.models.huggingface import END
from symlab.pretraining import checkpoint
from symlab.pretraining.interrupt import Stopped
from symlab.pretraining.loop import NotKept, pretrain, ready
from symlab.pretraining.model import fingerprint, roles_of
from symlab.pretraining.processes import MODES, Processes, join, leave
from symlab.pretraining.recipe import PRECISIONS, Recipe
from symlab.symopt.presets import PRESETS as OPTIMIZERS
from symlab.symopt.roles import ROLES

WORDS = {"true": True, "yes": True, "false": False, "no": False}  # 'none' is a scale
VOCABULARY = 4096  # unless given, or that of the weights to begin with


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    The code is 0 if the training run has ended, 1 if it diverged and 2 for arguments
    that cannot be used. After a signal it is 128 plus the signal's number: 130 for
    Ctrl-C and 143 for SIGTERM. torchrun itself exits with 1 if one of its processes did
    not return 0.

    argv: the arguments, by default those of the shell.
    """
    options = _parser().parse_args(argv)
    try:
        return _run(options, join(options.device, options.mode))
    except Stopped as stopped:
        _complain(stopped)
        return 128 + stopped.number
    except KeyboardInterrupt:
        where = options.checkpoint
        step = None if where is None else checkpoint.latest(where)
        rest = f"; the same command goes on from step {step}, which is in {where}"
        _complain(f"stopped by SIGINT{'' if step is None else rest}")
        return 128 + signal.SIGINT
    except (UserError, ValueError, OSError, ModuleNotFoundError) as error:
        _complain(error)
        return 2
    finally:
        leave()


def _complain(said) -> None:
    print(f"symlab.pretraining: {said}", file=sys.stderr)


def _run(options, processes: Processes) -> int:
    start = _start(options)
    config = _config(options, start)
    recipe = Recipe(
        **{f.name: getattr(options, f.name) for f in fields(Recipe)},
    )
    optimizer = _optimizer(options)
    kept = {"path": options.checkpoint, "save_every": options.save_every}
    kept |= {"out": options.out, "processes": processes}
    kept |= {"log": options.log, "tensorboard": options.tensorboard}
    ready(config, recipe, optimizer, **kept)
    _check_roles(config, optimizer)
    _check_results(processes)
    text = corpus(options.text, config.vocabulary, options.limit)
    if processes.first and text.left_out():
        _complain(text.left_out())
    if start is not None:
        _check_tokens(options.start, start.tokenizer, text.tokenizer)
        weights = kept["weights"] = dict(start.model.named_parameters())
    began = time.perf_counter()
    lost = None
    try:
        row = pretrain(config, text, recipe, optimizer, **kept, show=True)
    except NotKept as error:
        lost, row = error, error.row
    if processes.first:
        said = {"model": options.model or f"weights {fingerprint(weights)}"}
        said |= {"tied": config.tied, "mode": processes.mode, **asdict(recipe)}
        said |= {"world": processes.world, "optimizer": repr(sorted(optimizer.items()))}
        said |= {"text": text.name, "text_hash": text.hash, "limit": options.limit or 0}
        wall = time.perf_counter() - began
        _finish(said, row, wall, processes, options.checkpoint, lost)
    if lost:
        return 2
    return 0 if row["diverged_at"] < 0 else 1


def _start(options):
    """What `symlab.pretraining.load` finds in --start, None without it."""
    if (options.model is None) == (options.start is None):
        raise ValueError(
            "name a model, or the folder of weights to begin with as --start: one of "
            "the two, as weights come with their configuration"
        )
    if options.start is None:
        return None
    from symlab.pretraining import load

    return load(options.start)


def _config(options, start) -> DecoderConfig:
    """The preset with the text's vocabulary, or what the weights were trained as."""
    if start is None:
        given = options.vocabulary
        vocabulary = VOCABULARY if given is None else given
        if vocabulary < 1:
            raise ValueError(f"--vocabulary {given}: give 1 or more tokens")
        shape = {"vocabulary": vocabulary, "context": options.length}
        return preset(options.model, **shape, tied=options.tied)
    config = start.model.config
    if options.tied and not config.tied:
        raise ValueError(
            f"the weights of {options.start} have a head of their own: leave out --tied"
        )
    if options.vocabulary not in (None, config.vocabulary):
        raise ValueError(
            f"the weights of {options.start} are for a vocabulary of "
            f"{config.vocabulary:,}, not {options.vocabulary:,}: leave out --vocabulary"
        )
    return config


def _check_tokens(folder: Path, weights, text: str) -> None:
    """Raise ValueError unless the weights have seen the tokens of this text.

    An export adds the end of a document, which no text's own tokenizer has; it is the
    next number, as it is in the text.
    """
    from tokenizers import Tokenizer

    mine = Tokenizer.from_str(text)
    theirs = {} if weights is None else json.loads(weights.to_str())
    theirs["added_tokens"] = [
        token
        for token in theirs.get("added_tokens", [])
        if (token["id"], token["content"]) != (mine.get_vocab_size(), END)
    ]
    if theirs != json.loads(mine.to_str()):
        raise ValueError(
            f"the weights of {folder} are for other tokens than the text's: give the "
            "--text and --limit with which they were trained, or make a "
            "symlab.data.text.Corpus with their tokenizer in Python, and give it to "
            "symlab.pretraining.pretrain with weights=dict(model.named_parameters())"
        )


def _finish(
    said: dict, row: dict, wall: float, processes: Processes, path, lost: NotKept | None
) -> None:
    """First the row is stored, then the checkpoint goes.

    That of a run that has diverged stays, and of one whose weights were not written.
    """
    try:
        file = _store(said, row, wall, processes)
    except (UserError, OSError) as error:
        _tell(row)
        rest = f", from the checkpoint {path}, which is at its end" if path else ""
        raise UserError(
            f"the run has ended and its row could not be stored ({error}): make the "
            f"folder of results writable and start the same command again{rest}"
        ) from error
    _tell(row)
    if lost:
        print(f"row in {file}")
        rest = "there is no checkpoint to take them from: train again"
        if path:
            rest = f"{path} has the state at the end: start the same command again"
        _complain(f"the final weights are not kept ({lost}); {rest}")
    elif row["diverged_at"] < 0:
        print(f"row in {file}")
        if path:
            checkpoint.forget(path)
    else:
        step = checkpoint.latest(path) if path else None
        rest = f"; the last good state, of step {step}, is in {path}"
        print(f"row in {file}{'' if step is None else rest}", file=sys.stderr)


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


def _check_roles(config: DecoderConfig, optimizer: dict) -> None:
    """Raise ValueError for a role that no parameter of the model has.

    Names of parameters, and what is no role at all, SymOpt checks.
    """
    there = roles_of(config)
    for role in optimizer.get("overrides", {}):
        if role in ROLES and role not in there:
            raise ValueError(
                f"--set {role.replace(' ', '_')}: no parameter of this model has this "
                f"role, but {', '.join(sorted(there))}"
            )


def _value(text: str):
    """A value of Python, or the words themselves; true, false, yes, no in any case."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _check_results(processes: Processes) -> None:
    """Raise in all processes where the row could not be written, before the run."""
    failed, folder = None, find().results / "full"
    if processes.first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            failed = UserError(
                f"results cannot be written to {folder} ({error.strerror}): make it "
                "writable, or set SYMLAB_RESULTS to a folder that is"
            )
    processes.agree(failed)


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
        "versions": reached.made_with,
        **origin(project),
    }
    store = Store(project.results / "full", "pretraining")
    found = {name: plain(value) for name, value in row.items()}
    store.write_part([{**meta, **said, **found}], {reached.code: reached.definitions})
    store.pack()
    return store.file


def _tell(row: dict) -> None:
    if row["diverged_at"] >= 0:
        print(f"diverged at step {row['diverged_at']}", file=sys.stderr)
        return
    said = f"validation loss {row['val_loss']:.4f} nats per token, "
    said += f"{row['bits_per_byte']:.4f} bits per byte; {row['tokens_per_s']:,.0f} "
    print(f"{said}tokens/s, {row['optimizer_share']:.0%} of the time in the optimizer")


def whole(text: str) -> int:
    """Return the integer that a text such as 1000 or 1_000 stands for.

    Raises argparse.ArgumentTypeError for any other text.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no whole number, as 1000 or 1_000"
        ) from None


def _parser() -> argparse.ArgumentParser:
    about, example = __doc__.split("\n\n", 1)
    p = argparse.ArgumentParser(
        prog="python -m symlab.pretraining",
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(PRESETS)
    p.add_argument("model", nargs="?", choices=PRESETS, metavar="model", help=names)
    p.add_argument("--text", default="stdlib", help="a name, or a folder of text")
    p.add_argument("--limit", type=whole, help="bytes of text, at most")
    p.add_argument("--vocabulary", type=whole, help=f"default {VOCABULARY}")
    for name, default in (("steps", 1000), ("batch", 8), ("length", 128)):
        p.add_argument(f"--{name}", type=whole, default=default)
    for name in ("micro", "evaluate-every", "save-every", "seed"):
        p.add_argument(f"--{name}", type=whole, default=0)
    p.add_argument("--validation", type=whole, default=8, help="batches")
    for name in ("balance", "z", "phi", "z-logits"):
        p.add_argument(f"--{name}", type=float, default=0.0, help="auxiliary loss")
    p.add_argument("--documents", action="store_true", help="attention within each")
    p.add_argument("--chunk", type=whole, default=0, help="tokens with logits at once")
    p.add_argument("--recompute", action="store_true", help="less memory, more time")
    p.add_argument("--tied", action="store_true", help="the head is the embedding")
    p.add_argument("--decay", type=float, default=0.4, help="part of the steps")
    p.add_argument("--warmup", type=float, default=0.0, help="steps, or part of them")
    p.add_argument("--clip", type=float, default=0.0, help="norm of the gradients")
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
    p.add_argument("--out", type=Path, help="a folder for the final weights")
    p.add_argument("--log", type=Path, help="a .csv that gets a row for each step")
    p.add_argument("--tensorboard", type=Path, help="a folder for TensorBoard")
    p.add_argument("--start", type=Path, help="a folder of weights to begin with")
    return p


if __name__ == "__main__":
    sys.exit(main())
