"""Texts as byte-level BPE tokens, to pretrain transformers on.

stdlib           the standard library's source and documentation: on every machine, no
                 download. It differs between Python versions
site             the Python source installed beside it, large and your own
tinyshakespeare  SYMLAB_DATA/tinyshakespeare/input.txt
wikitext2        SYMLAB_DATA/wikitext2, raw text or Parquet; so is any other name that
                 begins with wikitext. The articles are split anew
fineweb-edu      streamed by Hugging Face `datasets` (arXiv 2406.17557), needs a limit
a path           a file or folder of text: whatever is UTF-8, and the field `text` of
                 Parquet and JSON lines (.jsonl, .jsonl.gz, .jsonl.zst)

`Corpus.hash` names the text and its split: results vary with it, so rows of experiments
record it.

Long texts are cut into documents at blank lines, and identical documents are taken
once. A hash of its content holds out one document in twenty for validation; one of
those of which more than a tenth also stands in the training text joins that. So more
text can move a document from validation to training, and never back. See `splitting`.

Text passes through in a stream: of a document, memory keeps 20 bytes.
Tokens are kept under SYMLAB_CACHE (or ~/.cache/symlab) by text, vocabulary and version
of `tokenizers`, and memory-mapped from there. Of several processes that ask for one
text, one makes the tokens and the others wait. OMP_NUM_THREADS bounds the threads of
the first tokenisation; workers of a sweep have one.
"""

from symlab.data.text.building import corpus
from symlab.data.text.cutting import documents
from symlab.data.text.sources import NAMES
from symlab.data.text.tokens import Corpus
from symlab.data.text.windows import (
    batches,
    check_validation,
    check_vocabulary,
    validation_batches,
)

__all__ = [
    "NAMES",
    "Corpus",
    "batches",
    "check_validation",
    "check_vocabulary",
    "corpus",
    "documents",
    "validation_batches",
]
