"""Sample text from saved weights, or export them for transformers, from a shell.

    python -m symlab.pretraining.weights sample runs/first "def main" --tokens 50
    python -m symlab.pretraining.weights export runs/first runs/first-hf

The folder is one that `--out` of `python -m symlab.pretraining` has written, or one in
Hugging Face's format.
"""

import argparse
import sys
from pathlib import Path

from symlab.models import huggingface
from symlab.pretraining.saved import load

TOKENS = "fewer only where the document ends; with the prompt they must fit the context"


def main(argv: list[str] | None = None) -> int:
    """Run this module's command line; return 0, or 2 if the command cannot be carried
    out.

    argv: the arguments, by default those of the shell.
    """
    options = _parser().parse_args(argv)
    try:
        options.action(options)
    except (ValueError, OSError) as error:
        print(f"symlab.pretraining.weights: {error}", file=sys.stderr)
        return 2
    return 0


def _sample(options) -> None:
    names = ("tokens", "temperature", "top_k", "top_p", "seed")
    settings = {name: getattr(options, name) for name in names}
    print(load(options.folder).sample(options.prompt, **settings))


def _export(options) -> None:
    kept = load(options.folder)
    huggingface.export(kept.model, options.out, kept.tokenizer, kept.ends)
    print(f"{options.out} is written: load it by AutoModelForCausalLM.from_pretrained")


def _parser() -> argparse.ArgumentParser:
    about, example = __doc__.split("\n\n", 1)
    p = argparse.ArgumentParser(
        prog="python -m symlab.pretraining.weights",
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = p.add_subparsers(required=True, metavar="action")
    sample = actions.add_parser("sample", help="text that goes on from a prompt")
    sample.add_argument("folder", type=Path)
    sample.add_argument("prompt")
    sample.add_argument("--tokens", type=int, default=100, help=TOKENS)
    sample.add_argument(
        "--temperature", type=float, default=1.0, help="0: the most probable tokens"
    )
    sample.add_argument("--top-k", type=int, help="of so many tokens only")
    sample.add_argument("--top-p", type=float, help="of the fewest that reach it")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(action=_sample)
    export = actions.add_parser("export", help="a folder in Hugging Face's format")
    export.add_argument("folder", type=Path)
    export.add_argument("out", type=Path)
    export.set_defaults(action=_export)
    return p


if __name__ == "__main__":
    sys.exit(main())
