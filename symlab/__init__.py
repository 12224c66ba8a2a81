"""symlab: executable claims on symmetry in deep learning.

A notebook needs five functions, loaded on first use so that `import symlab` is fast:

    symlab.load("rescaling_sparsity")     the current rows as a DataFrame
    symlab.columns("rescaling_sparsity")  what each column of these rows means
    symlab.run("rescaling_sparsity")      make the missing runs, then return all rows
    symlab.claims("fig3")                 one row per claim; all claims without a name
    symlab.figure("fig3")                 the figure, drawn from current rows
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["claims", "columns", "figure", "load", "run"]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(import_module("symlab.notebook"), name)
    raise AttributeError(f"module 'symlab' has no attribute {name!r}")
