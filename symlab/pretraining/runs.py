"""What a run of an experiment hands to `pretrain` or `train`, from its config.

    from symlab.pretraining.runs import place_of, recipe_of

    def run(configs, context):
        return [pretrain(model(c), text, recipe_of(c), optimizer(c),
                         **place_of(c, context, save_every=200)) for c in configs]
"""

from dataclasses import fields

from symlab.harness.context import Context
from symlab.pretraining.processes import Processes, on
from symlab.pretraining.recipe import Recipe


def recipe_of(config, **more) -> Recipe:
    """Return a `Recipe` with the values of a config's fields of equal names.

    config: the config; fields that it lacks have the defaults of `Recipe`. more:
        further fields of the recipe.
    """
    names = [f.name for f in fields(Recipe) if hasattr(config, f.name)]
    return Recipe(**{name: getattr(config, name) for name in names}, **more)


def place_of(config, context: Context, save_every: int) -> dict:
    """Return the arguments `processes`, `path` and `save_every` of a run: the device
    that the context names, and its file for checkpoints.

    save_every: steps between two checkpoints; 0 keeps none, and neither does a context
    without a folder for them.
    """
    path = context.checkpoint(config) if save_every else None
    processes = Processes(device=on(context.device))
    return {
        "processes": processes,
        "path": path,
        "save_every": save_every if path else 0,
    }
