"""Build an advantage estimator from the parts of the published ones.

    mix = compose(normalise="rloo", difficulty=lambda p: 1 / (p + 0.1), sign="ass")
    advantages(rewards, mix)

The result of `compose` is accepted wherever an estimator's name is: in `advantages`, in
`grouped_advantages` and in the adapters of trainers. The parts are applied in this
order:

  normalise    baseline and scale, within the group or over the batch
  difficulty   a weight of each group, by its success rate p and omega
  sign         a factor on the positive advantages, by omega
"""

from functools import partial
from inspect import Parameter, Signature, signature
from numbers import Real

from symlab.rlvr import parts
from symlab.rlvr.advantages import as_estimator
from symlab.rlvr.arrays import like, namespace
from symlab.rlvr.parts import STD, above_zero

NORMALISE = {  # name: a function of rewards (B, G), and of their `parts.Batch`
    "grpo": lambda r, batch: parts.standardised(r),
    "verl": lambda r, batch: parts.standardised(r, *STD["verl"]),
    "trl": lambda r, batch: parts.standardised(r, *STD["trl"]),
    "dr_grpo": lambda r, batch: parts.centred(r),
    "rloo": lambda r, batch: parts.leave_one_out(r),
    "reinforce_pp": parts.of_batch,
    "reinforce_pp_baseline": parts.of_batch_within,
    "none": lambda r, batch: r,
}
OF_BATCH = ("reinforce_pp", "reinforce_pp_baseline")  # have a std, and no such option
BY_STD = ("grpo", "verl", "trl", *OF_BATCH)  # what divides by a standard deviation
ALONE = ("reinforce_pp", "none")  # what a group of one may have
DIFFICULTY = {  # name: a function of advantages (B, G), p and 1 - p (B, 1), and omega
    "hard": lambda a, p, q, omega: parts.towards_hard(0.5 * a, p, q),
    "easy": lambda a, p, q, omega: parts.towards_easy(0.5 * a, p, q),
    "ddas": parts.refocused,
}
SIGN = {  # name: a factor, or a function of omega
    "ass": parts.attenuation,
    "positive_dominant": 10.0,
    "negative_dominant": 1 / 10.0,
}


def compose(*, normalise="grpo", difficulty=None, sign=None, name: str = "mix"):
    """Return an advantage estimator made of a baseline and two optional weights.

    normalise: 'grpo' (r - mean) / std; 'verl' and 'trl', the same with the std of these
        libraries; 'dr_grpo' r - mean; 'rloo' r - mean of the others; 'reinforce_pp' and
        'reinforce_pp_baseline', divided by the std of the batch; 'none'; or a function
        that maps rewards (B, G) to advantages (B, G).
    difficulty: the weight of each group: 'hard', 'easy' or 'ddas' of arXiv 2602.05548;
        or a function that maps the groups' success rates p (B, 1) to weights (B, 1) or
        one number. If the function has a parameter named omega, or a second one without
        a default, it is also given omega, the mean success of the batch. Groups without
        a success or without a failure keep the weight 1.
    sign: the factor on positive advantages: 'ass', 'positive_dominant',
        'negative_dominant', a number, or a function of omega that returns one.
    name: the estimator's name in messages and logs.

    Raises ValueError for unknown parts. The estimator raises ValueError if a user's
    function returns a wrong shape, a value that is not finite, or, for difficulty and
    sign, a negative number, which would reverse advantages.
    """
    base = _part("normalise", normalise, NORMALISE)
    weigh = _part("difficulty", difficulty, DIFFICULTY)
    factor = _part("sign", sign, SIGN)
    if base is None:
        raise ValueError("normalise = None is no part: use 'none' for the rewards")
    if not isinstance(name, str):
        raise ValueError(f"name = {name!r} is no name: give a string")
    if isinstance(factor, Real):
        above_zero("sign", factor)
    if callable(normalise):
        base = partial(_own_base, normalise)
    if callable(difficulty):
        weigh = partial(_own_difficulty, difficulty, _takes_omega(difficulty))
    if callable(sign):
        factor = partial(_own_sign, sign)

    def rule(rewards, *, omega=None, success=None, batch=None):
        a = base(rewards, batch)
        if weigh is not None:
            a = parts.mixed_groups(
                success, lambda a, p, q: weigh(a, p, q, omega=omega), a
            )
        if factor is not None:
            a = parts.positives(a, factor(omega) if callable(factor) else factor)
        return a

    by_omega = callable(factor) or bool(_takes_omega(difficulty))
    uses = {
        "omega": by_omega,
        "success": by_omega or weigh is not None,
        "batch": normalise in OF_BATCH,
    }
    rule.__name__ = rule.__qualname__ = name
    rule.__doc__ = f"normalise={normalise}, difficulty={difficulty}, sign={sign}"
    rule.by_std = normalise in BY_STD
    rule.__signature__ = Signature(
        [Parameter("rewards", Parameter.POSITIONAL_OR_KEYWORD)]
        + [Parameter(x, Parameter.KEYWORD_ONLY, default=None) for x in uses if uses[x]]
    )
    return as_estimator(rule, alone=normalise in ALONE)


def _part(role: str, given, known: dict):
    """The part of a name; numbers are factors, functions are themselves."""
    if given is None or callable(given):
        return given
    if role == "sign" and isinstance(given, Real) and not isinstance(given, bool):
        return given
    if not isinstance(given, str) or given not in known:
        own = "a number or a function" if role == "sign" else "a function"
        raise ValueError(
            f"unknown {role} {given!r}: use {', '.join(known)}, or {own} of your own"
        )
    return known[given]


def _own_base(normalise, r, batch):
    return _returned("normalise", normalise(r), r, tuple(r.shape))


def _own_difficulty(difficulty, takes_omega: str, a, p, q, omega):
    if takes_omega == "by name":
        weight = difficulty(p, omega=omega)
    else:
        weight = difficulty(p, omega) if takes_omega else difficulty(p)
    return a * _returned("difficulty", weight, p, (), tuple(p.shape))


def _own_sign(sign, omega):
    return _returned("sign", sign(omega), omega, (), tuple(omega.shape))


def _returned(role: str, found, x, *shapes: tuple):
    """What a function of one's own returned, as an array of the kind of x."""
    each = "one number to a rollout" if role == "normalise" else "one number"
    expected = f"return {each}, shape {' or '.join(map(str, dict.fromkeys(shapes)))}"
    try:
        array = like(found, x)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(found).__name__
        raise ValueError(f"{role} returned a {kind}: {expected}") from error
    if tuple(array.shape) not in shapes:
        raise ValueError(f"{role} returned shape {tuple(array.shape)}: {expected}")
    finite = namespace(array).isfinite(array)
    if not finite.all():
        raise ValueError(
            f"{role} returned {float(array[~finite][0])}: return finite numbers"
        )
    if role != "normalise" and (array < 0).any():
        raise ValueError(
            f"{role} returned {float(array.min()):g}, which turns advantages round: "
            "return numbers from 0"
        )
    return array


def _takes_omega(difficulty) -> str:
    """How a difficulty is given omega: 'by name', 'second', or '' if it is not."""
    if not callable(difficulty):
        return "by name" if difficulty == "ddas" else ""
    try:
        parameters = signature(difficulty).parameters
    except ValueError:  # torch.exp and other built-in functions do not tell
        return ""
    if "omega" in parameters:
        return "by name"
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [x.kind in places and x.default is x.empty for x in parameters.values()]
    return "second" if sum(needed) > 1 else ""
