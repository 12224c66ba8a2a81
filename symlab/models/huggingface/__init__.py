"""Decoders in Hugging Face's format, and back: the same logits to 1e-4.

    export(model, "out", tokenizer)     then AutoModelForCausalLM.from_pretrained("out")
    model = imported("folder")          a folder of theirs, or a model of transformers

Four kinds are known: qwen3, gemma3_text, olmoe and gpt_oss. Files are written as by
transformers 5; that package is not needed to write or to read them. Configurations of
models that were published before version 5 are read, too.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from symlab.models.families import DecoderConfig
from symlab.models.folder import Weights, read_json, whole, write_json, write_weights
from symlab.models.huggingface.configurations import configuration, described, kind_of
from symlab.models.huggingface.weights import Reader, converted, has_own_head
from symlab.models.transformer import Decoder

__all__ = ["document_ends", "export", "imported"]

END = "<|endoftext|>"  # the name of the end of a document, where it has none


def export(
    model: Decoder, directory: str | Path, tokenizer=None, ends: Sequence[int] = ()
) -> None:
    """Write a folder that transformers loads: configuration, weights, tokenizer.

    directory: the folder to write, new or empty.
    tokenizer: a `tokenizers.Tokenizer` or its JSON.
    ends: ids of the tokens that end a document. If the tokenizer's ids stop just before
        the first of these, as with tokenizers of `symlab.data.text`, it gets that token
        as the special token <|endoftext|>.

    Raises ValueError for a configuration that none of the four kinds can express, for a
    model that is sharded over processes or has no values, for an invalid tokenizer, and
    for a folder that holds files.
    """
    folder = Path(directory)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: name a new folder")
    weights = {name: p.detach() for name, p in model.named_parameters()}
    if any(hasattr(p, "full_tensor") for p in weights.values()):
        raise ValueError(
            "the model is in shards: keep it by symlab.pretraining.saved.save, load "
            "that, and export what was loaded"
        )
    if any(p.is_meta for p in weights.values()):
        raise ValueError(
            "the model is on the meta device and its weights have no values: give it "
            "weights before it is exported"
        )
    tokens = None if tokenizer is None else _copied(tokenizer)
    kind = kind_of(model.config)
    content = described(kind, model.config)
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    end = ends[0] if len(ends) == 1 else list(ends) or None
    content |= {"dtype": dtype, "eos_token_id": end}
    with whole(folder) as made:
        write_json(made / "config.json", content)
        if ends:
            ids = {"eos_token_id": end, "pad_token_id": ends[0]}
            write_json(made / "generation_config.json", ids)
        write_weights(made, dict(converted(kind, weights)))
        if tokens is not None:
            _write_tokenizer(made, tokens, ends, model.config)


def imported(source, context: int | None = None) -> Decoder:
    """Return a Decoder with the weights of a Hugging Face model.

    source: a folder in Hugging Face's format, or a model of transformers.
    context: a context length below the source's, which takes less memory for positions;
        None for the source's.

    The decoder is in float32, or in float64 if the weights are. Its head is the
    embedding if the source's configuration says so and stores no other head.

    Raises ValueError with the name of each setting or weight that a Decoder lacks,
    FileNotFoundError if a file is missing.
    """
    if isinstance(source, str | Path):
        folder = Path(source)
        content, stored = read_json(_config(folder)), Weights(folder)
    else:
        content, stored = source.config.to_dict(), source.state_dict()
    config = configuration(content)
    if context is not None:
        if not 1 <= context <= config.context:
            raise ValueError(
                f"context = {context}: use 1 to the model's own {config.context}"
            )
        config = replace(config, context=context)
    if config.tied and has_own_head(stored):
        config = replace(config, tied=False)
    read = Reader(content["model_type"], stored, config.tied)
    double = all(stored[name].dtype == torch.float64 for name in stored)
    model = Decoder.from_weights(
        config, read, torch.float64 if double else torch.float32
    )
    left = [name for name in stored if name not in read.used]
    if left:
        raise ValueError(
            f"a Decoder has no place for {len(left)} of the weights, such as {left[0]}"
            ": only models of the four kinds without additions can be imported"
        )
    return model.eval()


def document_ends(directory: str | Path) -> tuple[int, ...]:
    """Return the ids of the tokens that end a document, () if no file names them.

    directory: a folder in Hugging Face's format.
    """
    folder = Path(directory)
    for file in (folder / "generation_config.json", folder / "config.json"):
        said = read_json(file).get("eos_token_id") if file.is_file() else None
        if said is not None:
            return tuple(said) if isinstance(said, list) else (said,)
    return ()


def _config(folder: Path) -> Path:
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: name a folder in Hugging Face's format"
        )
    return file


def _copied(tokenizer):
    """A `tokenizers.Tokenizer` that is free to change."""
    from tokenizers import Tokenizer

    try:
        said = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
        return Tokenizer.from_str(said)
    except Exception as error:  # the library raises no class of its own
        raise ValueError(
            f"the tokenizer cannot be read ({error}): give a tokenizers.Tokenizer or "
            "its JSON"
        ) from None


def _write_tokenizer(
    folder: Path, tokenizer, ends: Sequence[int], config: DecoderConfig
) -> None:
    end = ends[0] if ends else None
    if tokenizer.get_vocab_size() == end and tokenizer.token_to_id(END) is None:
        tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": False,
    }
    name = None if end is None else tokenizer.id_to_token(end)
    if name is not None:
        said |= {"eos_token": name, "pad_token": name}
    write_json(folder / "tokenizer_config.json", said)
