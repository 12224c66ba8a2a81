"""Texts as byte-level BPE tokens, to pretrain transformers on.

  stdlib           the source code and documentation of Python's standard library: on
                   every machine, without a download. Python versions differ in it
  site             the Python source of the installed packages: large, and different on
                   every machine
  tinyshakespeare  SYMLAB_DATA/tinyshakespeare/input.txt
  wikitext2        SYMLAB_DATA/wikitext2, raw text or Parquet; any other name that
                   begins with wikitext is read in the same way. The articles are split
                   anew
  fineweb-edu      streamed by Hugging Face `datasets` (arXiv 2406.17557); it needs a
                   limit
  a path           a file or folder of text: files in UTF-8, and the field `text` of
                   Parquet and JSON lines (.jsonl, .jsonl.gz, .jsonl.zst)

Results vary with the text and its split, so rows of experiments record `Corpus.hash`.

Long texts are cut into documents at blank lines, and of identical documents one is
kept. A hash of its content assigns one document in twenty to validation; a validation
document of which more than a tenth also occurs in the training text is moved to
training. So more text can move a document from validation to training, but never back.
See `splitting`.

Text is read as a stream: memory keeps 20 bytes per document. Tokens are kept under
SYMLAB_CACHE (or ~/.cache/symlab) by text, vocabulary and version of `tokenizers`, and
memory-mapped from there. If several processes ask for one text, one makes the tokens
and the others wait. OMP_NUM_THREADS limits the threads of the first tokenisation; the
workers of a sweep have one thread.
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
