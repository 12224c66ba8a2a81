"""The device of this call. Not part of a config: a row is the same run anywhere."""

import os


def name() -> str:
    """'cpu' or 'cuda', as the command line asked for (DEVICE=...)."""
    return os.environ.get("SYMLAB_DEVICE", "cpu")
