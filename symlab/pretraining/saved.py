"""Trained weights on disk: kept whole, loaded again, sampled from.

    save("runs/first", model, text, about={"steps": 1000})
    kept = load("runs/first")
    kept.sample("def main", tokens=50, temperature=0.8)

A folder has model.safetensors, whole tensors under a Decoder's own names; symlab.json,
the configuration, what was said of the run and checksums; and tokenizer.json.
`load` also takes a folder in Hugging Face's format. From a shell:
`python -m symlab.pretraining.weights --help`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from symlab.data.text import Corpus
from symlab.models import huggingface
from symlab.models.families import DecoderConfig, Yarn
from symlab.models.folder import (
    WEIGHTS,
    Weights,
    read_json,
    whole,
    write_json,
    write_weights,
)
from symlab.models.generate import check_sampling, generate
from symlab.models.transformer import Decoder

FORMAT = 2  # change it with anything that older code would read wrongly
ABOUT, TOKENIZER = "symlab.json", "tokenizer.json"

# --- kept ----------------------------------------------------------------------------


def save(
    directory: str | Path,
    model: Decoder,
    text: Corpus | None = None,
    about: dict | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model's weights to a folder, which is complete or absent at any moment.

    directory: the folder. One with the same configuration and the same `about` is
        replaced; `check` says what happens to others.
    model: the decoder.
    text: the corpus that it was trained on, whose tokenizer and end-of-document token
        are kept.
    about: a description of the weights, such as the recipe: numbers, strings, lists and
        dicts of these.
    weights: {name of a parameter: whole tensor}, to be written instead of the model's
        own.

    If there are several processes, all must call it, because shards are gathered; the
    first one writes, and an error is raised in all of them. Raises ValueError or
    OSError with a message of one sentence.
    """
    kept = _gathered(model, weights)
    said = {"format": FORMAT, "config": asdict(model.config), "about": about or {}}
    said |= {"end": text.vocabulary - 1 if text else None}

    def write() -> None:
        check(directory, model.config, about)
        with whole(directory) as made:
            write_weights(made, kept)
            tokenizer = _tokenizer_of(text)
            if tokenizer:
                (made / TOKENIZER).write_text(tokenizer, encoding="utf-8")
            content = said | {"sha256": _checksums(made)}
            write_json(made / ABOUT, content | {"checksum": _own_checksum(content)})

    _first_alone(write)


def _gathered(model: Decoder, weights: Mapping[str, Tensor] | None) -> dict:
    """Whole tensors by name, on the CPU, in the first process; in others nothing."""
    if not isinstance(model, Decoder):
        raise ValueError(
            f"a {type(model).__name__} is no Decoder: give the one inside, as "
            "model.module of DistributedDataParallel"
        )
    own = dict(model.named_parameters())
    weights = own if weights is None else weights
    if set(weights) != set(own):
        name = min(set(weights) ^ set(own))
        raise ValueError(
            f"the weights and the parameters of the model differ in {name}: give one "
            "tensor for each parameter"
        )
    first, kept = not _several() or dist.get_rank() == 0, {}
    for name, p in weights.items():
        p = p.detach()
        p = p.full_tensor() if hasattr(p, "full_tensor") else p
        if p.is_meta:
            raise ValueError(
                f"{name} is on the meta device and has no values: give the model its "
                "weights before it is kept"
            )
        if first:  # others have only helped to gather it
            kept[name] = p.cpu().contiguous()
    return kept


def check(
    directory: str | Path,
    config: DecoderConfig | None = None,
    about: dict | None = None,
) -> None:
    """Raise ValueError or OSError, with a one-sentence message, if `save` may not write
    here.

    It may write to an empty or new folder, and over weights that were saved with this
    configuration and the same `about`. Without a configuration it may not replace any
    weights.

    directory: the folder. config, about: what `save` would record with the weights.
    """
    folder = Path(directory)
    try:
        json.dumps(about)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"about cannot be kept with the weights ({error}): use numbers, strings, "
            "lists and dicts of them"
        ) from None
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the weights")
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    other = [name for name in names if name not in (WEIGHTS, ABOUT, TOKENIZER)]
    if other or (names and ABOUT not in names):
        raise ValueError(
            f"{folder} has files that are no kept weights, such as "
            f"{(other or names)[0]}: name another folder for the weights"
        )
    if names:
        _check_same(folder, config, about)
    place = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{place} cannot be written: name another folder for the weights"
        )


def _check_same(folder: Path, config: DecoderConfig | None, about) -> None:
    if config is None:
        raise ValueError(f"{folder} has weights already: name another folder")
    there = _described(folder)
    for said, mine in (
        (there["config"], asdict(config)),
        (there["about"], json.loads(json.dumps(about or {}))),
    ):
        for key in said | mine:
            if repr(said.get(key)) != repr(mine.get(key)):  # nan is nan
                raise ValueError(
                    f"{folder} has the weights of another run, with {key} = "
                    f"{said.get(key)!r} instead of {mine.get(key)!r}: name another "
                    "folder, or delete it"
                )


def _tokenizer_of(text: Corpus | None) -> str | None:
    """Its JSON; None for a text without one, whose tokenizer is empty or {}."""
    if text is None or not text.tokenizer:
        return None
    try:
        said = json.loads(text.tokenizer)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ValueError(
            f"the tokenizer of the text {text.name!r} is no JSON object: give the text "
            "that of Tokenizer.to_str(), or an empty string"
        )
    return text.tokenizer if said.get("model") else None


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: _checksum(path) for path in sorted(folder.iterdir())}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_checksum(content: dict) -> str:
    """Of what symlab.json says, whatever its layout; without the checksum in it."""
    said = {key: value for key, value in content.items() if key != "checksum"}
    as_read = json.loads(json.dumps(said))  # whose keys are all strings
    plain = json.dumps(as_read, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _first_alone(action: Callable[[], None]) -> None:
    """In the first process, while the others wait; what it raises, all raise."""
    if not _several():
        action()
        return
    raised: list[Exception | None] = [None]
    if dist.get_rank() == 0:
        try:
            action()
        except Exception as error:
            raised = [error]
    dist.broadcast_object_list(raised)
    if raised[0] is not None:
        raise raised[0]


# --- loaded --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained decoder with its tokenizer, as `load` returns it.

    model: the decoder. tokenizer: a `tokenizers.Tokenizer`, or None if none was kept.
    about: the description that was saved with the weights.
    ends: the tokens that end a document.
    """

    model: Decoder = field(repr=False)
    tokenizer: object | None = field(repr=False)
    about: dict
    ends: tuple[int, ...]

    @property
    def config(self) -> DecoderConfig:
        return self.model.config

    def sample(
        self,
        prompt: str,
        tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> str:
        """Return the prompt and its continuation by at most `tokens` sampled tokens.

        The continuation is shorter if the document ends. An empty prompt begins a
        document.

        temperature, top_k, top_p: as for `symlab.models.generate.generate`.
        seed: equal seeds give equal texts.

        Raises ValueError if there is no tokenizer, for a prompt that is not a text, for
        a seed that torch does not accept, and if the tokens do not fit into the
        context.
        """
        check_sampling(tokens, temperature, top_k, top_p)
        _check_prompt(prompt)
        if not -(2**63) <= seed < 2**64:  # what torch takes
            raise ValueError(f"seed = {seed}: give a whole number of 0 to 2**64 - 1")
        if self.tokenizer is None:
            raise ValueError(
                "no tokenizer was kept with these weights: use "
                "symlab.models.generate.generate with numbers of tokens"
            )
        ids = self.tokenizer.encode(prompt).ids or list(self.ends[:1])
        if not ids:
            raise ValueError("the prompt is empty: give some text")
        if max(ids) >= self.config.vocabulary:
            raise ValueError(
                f"the tokenizer has the token {max(ids)} and the model only "
                f"{self.config.vocabulary}: they are not of one model"
            )
        device = self.model.embedding.weight.device
        found = generate(
            self.model,
            torch.tensor([ids], device=device),
            tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            draws=torch.Generator().manual_seed(seed),
            ends=self.ends,
        )
        kept = [i for i in found[0].tolist() if i not in self.ends]
        return self.tokenizer.decode(kept)


def _check_prompt(prompt: str) -> None:
    if not isinstance(prompt, str):
        raise ValueError(
            f"the prompt is of {type(prompt).__name__}: give a str, decoded from UTF-8"
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the prompt is no text, it has {prompt[error.start]!r} at place "
            f"{error.start}: give Unicode, from a shell as UTF-8"
        ) from None


def load(directory: str | Path) -> Pretrained:
    """Return the decoder and tokenizer of a folder, on the CPU.

    directory: a folder that `save` wrote, or one in Hugging Face's format.

    Raises FileNotFoundError or ValueError with a one-sentence message if files are
    missing or damaged, or belong to a model that `Decoder` cannot represent.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: name a folder with weights")
    if (folder / ABOUT).is_file():
        return _load_own(folder)
    if (folder / "config.json").is_file():
        model, ends = huggingface.imported(folder), huggingface.document_ends(folder)
        return Pretrained(model, _tokenizer(folder), {}, ends)
    raise FileNotFoundError(
        f"{folder} has neither {ABOUT} nor config.json: name a folder that save wrote, "
        "or one in Hugging Face's format"
    )


def _load_own(folder: Path) -> Pretrained:
    said = _described(folder)
    for name, checksum in said["sha256"].items():
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: copy the folder again with all its files"
            )
        if _checksum(folder / name) != checksum:
            raise ValueError(
                f"{folder / name} is damaged, its checksum is another: copy it again"
            )
    config, weights = _configuration(folder, said["config"]), Weights(folder)
    model = Decoder.from_weights(
        config, weights.__getitem__, weights["embedding.weight"].dtype
    )
    left = set(weights) - {name for name, _ in model.named_parameters()}
    if left:
        raise ValueError(
            f"{folder / WEIGHTS} has the weight {min(left)}, which a model of its "
            "configuration has not: use the version that wrote it"
        )
    ends = () if said["end"] is None else (said["end"],)
    return Pretrained(model.eval(), _tokenizer(folder), said["about"], ends)


def _described(folder: Path) -> dict:
    """The content of symlab.json."""
    file = folder / ABOUT
    said = read_json(file)
    if said.get("format") != FORMAT:
        raise ValueError(
            f"{file} has the format {said.get('format')!r} and this version reads "
            f"{FORMAT}: use the version that wrote it"
        )
    missing = {"config", "about", "end", "sha256", "checksum"} - set(said)
    if missing:
        raise ValueError(f"{file} is damaged: it has no {sorted(missing)[0]!r}")
    if said["checksum"] != _own_checksum(said):
        raise ValueError(
            f"{file} is damaged or was edited, its checksum is another: copy it again"
        )
    return said


def _configuration(folder: Path, said: dict) -> DecoderConfig:
    unknown = set(said) - {f.name for f in fields(DecoderConfig)}
    if unknown:
        raise ValueError(
            f"{folder / ABOUT} has the setting {sorted(unknown)[0]!r}, which this "
            "version does not know: use the version that wrote it"
        )
    yarn = said.get("yarn")
    try:
        return DecoderConfig(**said | {"yarn": Yarn(**yarn) if yarn else None})
    except TypeError as error:  # a size is absent
        raise ValueError(f"{folder / ABOUT} is damaged ({error})") from None


def _tokenizer(folder: Path):
    file = folder / TOKENIZER
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no class of its own
        raise ValueError(f"{file} is no tokenizer ({error}): copy it again") from None
