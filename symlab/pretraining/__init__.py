"""Pretraining of a decoder on text, on one process or several, with exact resumption.

    from symlab.data.text import corpus
    from symlab.models.families import preset
    from symlab.pretraining import Recipe, pretrain

    text = corpus("stdlib", vocabulary=1024)
    recipe = Recipe(steps=100, batch=8, length=128)
    config = preset("dense-small", vocabulary=text.vocabulary)
    row = pretrain(config, text, recipe, {"lr": 0.02}, show=True)

`row` is a dict with the losses, the load of experts, and the cost of the run. A shell
starts the same on as many processes as torchrun makes:
`torchrun ... -m symlab.pretraining --help`.
"""

from symlab.pretraining.checkpoint import forget
from symlab.pretraining.cost import flops_per_token, state_bytes
from symlab.pretraining.interrupt import Stopped
from symlab.pretraining.loop import NotKept, pretrain, train
from symlab.pretraining.processes import Processes
from symlab.pretraining.recipe import Recipe
from symlab.pretraining.saved import load
from symlab.schedule import schedule

__all__ = [
    "NotKept",
    "Processes",
    "Recipe",
    "Stopped",
    "flops_per_token",
    "forget",
    "load",
    "pretrain",
    "schedule",
    "state_bytes",
    "train",
]
