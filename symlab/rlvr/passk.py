"""pass@k: the probability that at least one of k samples is correct.

    pass_at_k(n, c, k)      unbiased estimate from c correct of n samples
    pass_at_k_exact(p, k)   exact value for the success rate p

Both take numbers, numpy arrays or torch tensors that broadcast, and return float64. The
estimate is equation 1 of arXiv 2107.03374.
"""

import numpy as np

from symlab.rlvr.arrays import namespace

NEGLIGIBLE = 40.0  # exp(-40) is below half a unit in the last place of 1


def pass_at_k(n, c, k):
    """Return 1 - C(n-c, k) / C(n, k), the unbiased estimate of pass@k.

    It is the probability that k of n samples, c of which are correct, include a correct
    one.

    n, c, k: integers, arrays of them or tensors, which broadcast.

    The ratio is the product over i < a of 1 - b/(n-i), a = min(c, k) and b = max(c, k).
    Its logarithm is a sum of terms of one sign, so that results are accurate even if
    they are small; for a b > 40 n they are 1. Raises ValueError unless 0 <= c <= n and
    1 <= k <= n.
    Source: arXiv 2107.03374, equation 1.
    """
    xp, (n, c, k) = _integers(n, c, k)
    if ((k > n) | (k < 1)).any():
        raise ValueError("k must be from 1 to n: draw no more than there are samples")
    if ((c > n) | (c < 0)).any():
        raise ValueError("c must be from 0 to n: no more are correct than there are")
    few, many = xp.minimum(c, k), xp.maximum(c, k)
    certain = (few > n - many) | (few * many > NEGLIGIBLE * n)
    terms = xp.where(certain, 0, few)
    n, many = _float64(n), _float64(many)
    log_fail = xp.where(certain, -xp.inf, 0.0 * n)
    for i in range(int(terms.max()) if 0 not in terms.shape else 0):
        left = xp.where(i < terms, n - i, 2 * many + 1)
        log_fail = log_fail + xp.where(i < terms, xp.log1p(-many / left), 0.0)
    return 0.0 - xp.expm1(log_fail)


def pass_at_k_exact(p, k):
    """Return 1 - (1 - p)^k, the probability that at least one of k samples is correct.

    p: the success rate of a sample, in [0, 1]. k: at least 1. They broadcast.

    The result is accurate for small p, too. Raises ValueError outside these ranges.
    """
    xp = namespace(p, k)
    p, k = (_float64(x if xp is np else xp.as_tensor(x)) for x in (p, k))
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p must be from 0 to 1: it is a success rate")
    if not (k >= 1).all():
        raise ValueError("k must be at least 1: it counts samples")
    sure = p >= 1
    fail = xp.log1p(-xp.where(sure, 0.0, p))
    return xp.where(sure, 1.0, -xp.expm1(k * fail))


def _integers(*values):
    xp = namespace(*values)
    device = next(
        (v.device for v in values if xp is not np and hasattr(v, "device")), 0
    )
    arrays = []
    for value in values:
        x = np.asarray(value) if xp is np else xp.as_tensor(value, device=device)
        whole = x.astype(np.int64) if xp is np else x.to(xp.int64)
        if not (whole == x).all():
            raise ValueError("n, c and k count samples: give integers")
        arrays.append(whole)
    shape = sum(arrays)  # what they broadcast to
    return xp, [x + 0 * shape for x in arrays]


def _float64(x):
    return np.asarray(x, dtype=np.float64) if namespace(x) is np else x.double()
