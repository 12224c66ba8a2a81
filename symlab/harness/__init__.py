"""The harness: turns an experiment file into rows, verdicts and figures; knows no
science.

An experiment file imports from here `grid`, `lanes` and `rng` for its runs, `Claim`,
`where`, `family`, `after` and `stats` for its claims, and `figure`, `Arm`, `panels` and
`plot` for its figures. Each name is loaded on first use, so that planning runs need not
wait for matplotlib.
"""

from importlib import import_module

_WHERE = {
    "Claim": "claims",
    "Context": "context",
    "Estimate": "estimates",
    "Paper": "claims",
    "Smallest": "claims",
    "Arm": "panels",
    "estimate": "estimates",
    "family": "estimates",
    "after": "claims",
    "named": "estimates",
    "weakest": "estimates",
    "where": "estimates",
    "Interval": "stats",
    "figure": "contract",
    "grid": "sweep",
    "zipped": "sweep",
}
_MODULES = ("lanes", "panels", "plot", "race", "rng", "stats")
__all__ = [*sorted(_WHERE, key=str.lower), *_MODULES]  # noqa: PLE0604


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"symlab.harness.{name}")
    if name in _WHERE:
        return getattr(import_module(f"symlab.harness.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'symlab.harness' has no attribute {name!r}")
