"""Statistics that show how an advantage estimator acts on the batches of a run.

    advantage_metrics(a, success)      a, success (B, G): a dictionary of floats to log

omega, the mean success, shows the progress of the policy; the fractions of all-wrong
and all-right groups show how much of a batch gives a group-relative estimator no
signal; the sum of advantages shows how far the probabilities of unsampled answers are
changed (theorem 1 of arXiv 2602.05548); and the weights show which prompts the
estimator favours: see `group_weights`.
"""

import numpy as np

from symlab.rlvr.parts import numbered


def group_weights(advantages, success, groups=None, *, valid=None):
    """Return the success rates p (P,) of P groups, and the weights W (P,) of their
    updates.

    advantages, success: (B, G), or (N,) with `groups`, N labels. valid: (N,) booleans;
        the other rollouts are left out.

    W = sum_i A_i (s_i - p) over the rollouts of a group, A their advantages and s their
    successes. Its mean over groups sampled at one success rate is
    `theory.update_weight`: the expected policy update of a prompt is W times a
    direction that is the same for every estimator. For GRPO with the population's std,
    W = G sqrt(p (1 - p)). Raises ValueError for shapes that differ and for success
    other than 0 and 1.
    """
    a, s, member, sizes = _flat(advantages, success, groups, valid)
    p = np.bincount(member, s) / sizes
    return p, np.bincount(member, a * (s - p[member]))


def advantage_metrics(
    advantages, success=None, groups=None, *, valid=None, omega=None
) -> dict[str, float]:
    """Return statistics of a batch's advantages, {name: float}, for a training log.

    advantages: (B, G), or (N,) with `groups`, N labels.
    success: of the same shape, 0 or 1; None if unknown.
    valid: (N,) booleans; the other rollouts are left out.
    omega: the mean success of the batch as the estimator took it, a number, or an array
        whose mean is taken; by default the mean of `success`.

    Raises ValueError for shapes that differ, for success other than 0 and 1, and for an
    omega that is a function.

      groups              the number of groups
      zero_groups         the fraction of groups whose advantages are all 0
      sum, size           sum A and sum |A| of a group, means over groups
      omega               mean success of the batch, or as given
      all_wrong, all_right  fractions of groups
      weight_hard         W divided by GRPO's G sqrt(p (1 - p)), mean over groups with
                          0 < p < 1/2; left out if there is none
      weight_easy         the same for 1/2 < p < 1

    W = sum_i A_i (s_i - p) weighs a group's policy update: A_i and s_i are advantage
    and success of its G rollouts, p their mean success (see `group_weights`). GRPO with
    the population's std has 1 for both weights. weight_hard above weight_easy means a
    focus on hard prompts, which an asymmetric estimator has implicitly:
    positive_dominant has it, negative_dominant has the opposite.
    """
    a, s, member, sizes = _flat(advantages, success, groups, valid)
    if omega is not None:
        if callable(omega):
            raise ValueError("omega is a function: give what it returned")
        omega = float(_numpy(omega).mean())
    if not len(a):
        return {"groups": 0.0}
    size = np.bincount(member, abs(a))
    found = {
        "groups": float(len(sizes)),
        "zero_groups": float((size == 0).mean()),
        "sum": float(np.bincount(member, a).mean()),
        "size": float(size.mean()),
    }
    if success is None:
        return found if omega is None else found | {"omega": omega}
    p = np.bincount(member, s) / sizes
    found["omega"] = float(s.mean()) if omega is None else omega
    found |= {"all_wrong": float((p == 0).mean()), "all_right": float((p == 1).mean())}
    w = np.bincount(member, a * (s - p[member]))
    of_grpo = sizes * np.sqrt(p * (1 - p))
    for name, side in (("hard", (p > 0) & (p < 0.5)), ("easy", (p > 0.5) & (p < 1))):
        if side.any():
            found[f"weight_{name}"] = float((w[side] / of_grpo[side]).mean())
    return found


def _flat(advantages, success, groups, valid):
    """Advantages, successes and group numbers (N,), and the sizes of groups (P,)."""
    a = _numpy(advantages)
    s = np.zeros(a.shape) if success is None else _numpy(success)
    if a.shape != s.shape:
        raise ValueError(f"advantages have shape {a.shape} and success {s.shape}")
    if groups is None:
        if a.ndim != 2:
            raise ValueError(
                f"advantages have shape {a.shape}: give (B, G), or their groups, too"
            )
        groups = np.arange(a.size) // max(1, a.shape[1])
    a, s, member = a.ravel(), s.ravel(), numbered(groups)
    if member.shape != a.shape:
        raise ValueError(f"{len(member)} labels for {len(a)} advantages: give as many")
    if valid is not None:
        keep = _numpy(valid).astype(bool).ravel()
        if keep.shape != a.shape:
            raise ValueError(f"{len(keep)} of valid for {len(a)} advantages: give each")
        a, s, member = a[keep], s[keep], member[keep]
    if not ((s == 0) | (s == 1)).all():
        raise ValueError(
            "success has values other than 0 and 1: compare the rewards with the least "
            "reward of a success"
        )
    member = np.unique(member, return_inverse=True)[1]
    return a, s, member, np.bincount(member)


def _numpy(x) -> np.ndarray:
    if hasattr(x, "detach"):
        x = x.detach().cpu().double().numpy()
    return np.asarray(x, dtype=float)
