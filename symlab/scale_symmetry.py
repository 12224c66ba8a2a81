"""Networks with a scale symmetry of each neuron's weights, and its Noether charge.

Every row of weights enters the network divided by its norm: the loss does not change
when a row is multiplied by a positive number, and its gradient is orthogonal to the
row. By Noether's theorem this symmetry has a charge, <w, v> with the velocity v. As
|v|^2 does not have the symmetry, the charge is not conserved, but changes by a law
(Tanaka and Kunin, arXiv 2105.02716). `Laws` follows the forms of that law along a run.

All tensors have a leading axis L, over runs that are computed side by side ("lanes").
"""

import numpy as np

from symlab import fits

SCALE = 8.0  # size of the inputs of the ReLU and of the logits: rows have norm 1


def gradients(w, x, y):
    """Return the loss, its gradient and the squared row norms of networks, side by
    side.

    The shapes are (L,), (L, H + C, H) and (L, H + C, 1), for L networks with one hidden
    layer of H units and C classes, all of whose weight rows are normalised.

    w: (L, H + C, H), the H rows of the first layer above the C rows of the second.
    x: (L, N, H) inputs. y: (L, N, C), 1 at the label.

    With n = w/|w| row by row, h = relu(SCALE n_1 x) is divided by its root mean square
    over the H units, the logits are SCALE/sqrt(H) n_2 h, and the loss is the mean cross
    entropy over N.
    """
    import torch

    n_hidden = w.shape[2]
    square = w.square().sum(2, keepdim=True)
    r = square.sqrt()
    n = w / r
    first, second = n[:, :n_hidden], n[:, n_hidden:]
    z = torch.relu(torch.bmm(x, first.mT * SCALE))  # (L, N, H)
    size = z.square().mean(2, keepdim=True).sqrt() + 1e-12  # does not see |w|
    h = z / size
    gain = SCALE / n_hidden**0.5
    logits = torch.bmm(h, second.mT * gain)  # (L, N, C)
    log_p = torch.log_softmax(logits, 2)
    loss = -(log_p * y).sum(2).mean(1)
    d_logits = (log_p.exp() - y) * (gain / x.shape[1])
    d_h = torch.bmm(d_logits, second)
    d_z = (d_h - h * (d_h * h).mean(2, keepdim=True)) * ((z > 0) * (SCALE / size))
    g = torch.cat([torch.bmm(d_z.mT, x), torch.bmm(d_logits.mT, h)], 1)
    return loss, (g - n * (g * n).sum(2, keepdim=True)) / r, square


class Laws:
    """Predictions of |w|^2 of every weight row by laws of its charge, step by step.

    In SGD, v <- b v + g + k w and w <- w - lr v, with momentum b and weight decay k.
    Time is t = lr * step, and the charge is <w, v>. Each law is driven by what the run
    measures at each step, |v|^2 or |g|^2 at unit norm, and none is fitted:

      exact      c <- b (c - lr |v|^2) + k |w|^2 and |w|^2 <- |w|^2 - 2 lr c + lr^2
                 |v|^2, with c = <w, v> of the old w and the new v. Derived here.
      ode        m n'' + mu n' = -2 k n + 2 m |v|^2 of n = |w|^2, with m = lr (1 + b)/2
                 and mu = 1 - b: the law of Tanaka and Kunin (arXiv 2105.02716).
      flow       n = n(0) exp(-2 k t/mu): the limit lr -> 0, without kinetic energy.
      published  (n^2)' = -4 k/mu n^2 + 2 lr (1 + b)/mu^3 |g|^2: their equation 17.
      derived    the same with 2 lr/mu^2: gradients of successive steps are independent,
                 hence E|v|^2 = |g|^2/(1 - b^2). Derived here.

    square: (L, R) in float64, |w|^2 at the start of R rows in L lanes, with v = 0.
    lr, b, k: arrays (L,).
    """

    def __init__(self, square, lr, b, k):
        import torch

        def tensor(values):
            return torch.from_numpy(np.asarray(values, float))

        self.lr, self.b, self.k = (tensor(x).view(-1, 1) for x in (lr, b, k))
        lanes = list(zip(lr, b, k, strict=True))
        ode = [
            fits.propagator(
                [[0, 1], [-4 * k / (lr * (1 + b)), -2 * (1 - b) / (lr * (1 + b))]],
                [0, 2],
                lr,
            )
            for lr, b, k in lanes
        ]
        self._ode = [tensor([step[i] for step in ode]) for i in (0, 1)]
        self._fourth = {}
        for name, prefactor in (("published", published), ("derived", derived)):
            steps = [
                fits.propagator(-4 * k / (1 - b), prefactor(lr, b), lr)
                for lr, b, k in lanes
            ]
            self._fourth[name] = [tensor([s[i] for s in steps])[:, 0] for i in (0, 1)]
            self._fourth[name][0] = self._fourth[name][0].view(-1, 1)
            self._fourth[name][1] = self._fourth[name][1].view(-1, 1)
        self._fade = torch.exp(-2 * self.k * self.lr / (1 - self.b))
        self._charge = torch.zeros_like(square)
        self._velocity = torch.zeros_like(square)
        self._rate = torch.stack([square, -2 * self.k * square], -1)  # n and n'
        self.exact, self.flow = square.clone(), square.clone()
        self._n2 = {name: square**2 for name in self._fourth}

    def step(self, velocity2, unit_gradient2):
        """Advance all laws of |w|^2 by one step of SGD, for R rows in each of L runs.

        velocity2: (L, R), |v|^2 of each row's new velocity v.
        unit_gradient2: (L, R), |w|^2 |g|^2 of the old row w and its gradient g.
        """
        old = self._charge - self.lr * self._velocity
        self._charge = self.b * old + self.k * self.exact
        self._velocity = velocity2
        self.exact = self.exact - 2 * self.lr * self._charge + self.lr**2 * velocity2
        e, f = self._ode
        self._rate = self._rate @ e.mT + velocity2[..., None] * f[:, None]
        self.flow = self.flow * self._fade
        for name, (fade, gain) in self._fourth.items():
            self._n2[name] = fade * self._n2[name] + gain * unit_gradient2

    @property
    def ode(self):
        """Return |w|^2 (L, R) of each row by the paper's second-order law of the
        charge.
        """
        return self._rate[..., 0]

    @property
    def published(self):
        """Return |w|^2 (L, R) of each row by equation 17 of arXiv 2105.02716."""
        return self._n2["published"].sqrt()

    @property
    def derived(self):
        """Return |w|^2 (L, R) of each row by equation 17 of arXiv 2105.02716, if
        gradients of successive steps are taken as independent.

        The function `derived` gives the factor that this assumption puts in place of
        the paper's.
        """
        return self._n2["derived"].sqrt()


def published(lr: float, b: float) -> float:
    """Return 2 lr (1 + b)/(1 - b)^3, the factor of |g|^2 in equation 17.

    The paper is Tanaka and Kunin (arXiv 2105.02716). lr: the learning rate; b: the
    momentum of SGD.
    """
    return 2 * lr * (1 + b) / (1 - b) ** 3


def derived(lr: float, b: float) -> float:
    """Return 2 lr/(1 - b)^2, the factor of |g|^2 if gradients of steps are independent.

    lr: the learning rate; b: the momentum of SGD. In equation 17 it takes the place of
        the paper's factor, which `published` returns.
    """
    return 2 * lr / (1 - b) ** 2
