"""The learning-rate schedule of every training: warm-up, constant, linear to zero."""


def schedule(step: int, steps: int, decay: float, warmup: float = 0.0) -> float:
    """Return the factor in (0, 1] that multiplies every learning rate at a step.

    steps: of the whole training.
    decay: the fraction of the steps, at the end, in which the factor falls.
    warmup: a number of steps, or below 1 a fraction of them.

    It rises linearly to 1 in the last step of the warm-up, stays, and falls linearly
    towards 0; where the two overlap it is the smaller. The factor is never 0: the first
    step is one step after the start of the line.
    """
    rising = warmup * steps if warmup < 1 else warmup
    left = steps - step
    up = min(1.0, (step + 1) / rising) if rising else 1.0
    return min(up, left / (decay * steps)) if decay else up
