"""The learning-rate schedule of all trainings here: linear warm-up, constant, linear
decay to zero."""


def schedule(step: int, steps: int, decay: float, warmup: float = 0.0) -> float:
    """Return the factor in (0, 1] that multiplies every learning rate at a step.

    step: the number of the step, from 0.
    steps: the number of steps of the whole training.
    decay: the fraction of the steps, at the end, in which the factor falls.
    warmup: a number of steps, or if below 1 a fraction of all steps.

    The factor rises linearly to 1, which it reaches in the last step of the warm-up,
    stays there, and falls linearly towards 0; if warm-up and decay overlap, the smaller
    of both counts. It is never 0: the first step has the value one step after the start
    of the line.
    """
    rising = warmup * steps if warmup < 1 else warmup
    left = steps - step
    up = min(1.0, (step + 1) / rising) if rising else 1.0
    return min(up, left / (decay * steps)) if decay else up
