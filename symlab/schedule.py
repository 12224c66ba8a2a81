"""The learning-rate schedule of every training: warm-up, constant, linear to zero."""


def schedule(step: int, steps: int, decay: float, warmup: float = 0.0) -> float:
    """The factor on every learning rate at a step, in (0, 1].

    It rises linearly to 1 in the last step of the warm-up, stays, and falls linearly
    towards 0 over the last fraction `decay` of the steps; where the two overlap it is
    the smaller. warmup: a number of steps, or below 1 a fraction of them. The factor is
    never 0: the first step is one step after the start of the line.
    """
    rising = warmup * steps if warmup < 1 else warmup
    left = steps - step
    up = min(1.0, (step + 1) / rising) if rising else 1.0
    return min(up, left / (decay * steps)) if decay else up
