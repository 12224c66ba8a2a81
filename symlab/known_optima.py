"""Matrix problems whose optimum is known: sensing, an embedding, a head.

    problem = PROBLEMS["embedding"](configs)
    g = problem.gradient(w, t)
    rows = problem.measure(w)

w is (L, M, N), one lane for each config. A config has the fields `seed`, `basis`
('axes' or 'rotated'), `rows` M and `columns` N; for tokens also `study` ('embedding' or
'head'), `batch`, `steps` and `zipf`. Lanes of one seed and basis share a problem.

  Sensing    y_k = <A_k, W*>, full gradient. W* has rank 4 and singular values over 1.5
             decades; the A_k = P^(1/2) Z_k Q^(1/2) are anisotropic and four times as
             many as the entries, so that W* is the only optimum and its loss is 0
  Embedding  next-token prediction, softmax(W_i H^T) for token i, with the head H known
  Head       the same with the embedding known and W the head

Tokens are drawn from the model with W = W*, so that the excess of the loss over its
optimum is a Kullback-Leibler divergence, computed over the whole distribution. In the
basis 'axes' P, Q and the covariance of the known factor are diagonal; 'rotated' turns
the same problem at random.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from symlab.harness import rng

RANK, CONDITION = 4, 30.0  # rank of W*; condition numbers of P and Q in sensing
LOGITS = 2.0  # standard deviation of the true logits, without the frequencies


# --- sensing -------------------------------------------------------------------------


def measurements(c) -> tuple[np.ndarray, np.ndarray]:
    """Return the measurement matrices, flattened, (4 M N, M N), and the true matrix W*
    (M, N); in the basis 'rotated' those of 'axes', rotated at random.
    """
    draws = rng.stream(c.seed, "sensing")
    m, n = c.rows, c.columns
    left, right = (_haar(draws, k)[:, :RANK] for k in (m, n))
    truth = (left * np.logspace(0, -1.5, RANK)) @ right.T
    a = draws.normal(size=(4 * m * n, m, n))
    p, q = (np.logspace(0, -0.5 * np.log10(CONDITION), k) for k in (m, n))
    a = p[:, None] * a * q
    r, s = _haar(draws, m), _haar(draws, n)
    if c.basis == "rotated":
        a, truth = r @ a @ s.T, r @ truth @ s.T
    return a.reshape(len(a), m * n), truth


def _haar(draws, k: int) -> np.ndarray:
    """A random rotation (k, k)."""
    q, r = np.linalg.qr(draws.normal(size=(k, k)))
    return q * np.sign(np.diag(r))


class Sensing:
    """Matrix sensing: find W* from N linear measurements y_k = <A_k, W*>. The loss is
    |A vec W - y|^2 / 2N, where the rows of A are the A_k; `measure` reports it divided
    by its value at W = 0.
    """

    def __init__(self, configs: list):
        self.dtype = torch.float64
        self.data = []  # lanes of one problem, A^T A / N, A^T y / N, W*, oracle's gap
        keys = [(c.seed, c.basis) for c in configs]
        for key in dict.fromkeys(keys):
            at = [i for i, k in enumerate(keys) if k == key]
            a, truth = measurements(configs[at[0]])
            y = a @ truth.ravel()
            best = np.linalg.lstsq(a, y, rcond=None)[0].reshape(truth.shape)
            gap = np.linalg.norm(best - truth) / np.linalg.norm(truth)
            arrays = (torch.from_numpy(b / len(a)) for b in (a.T @ a, a.T @ y))
            self.data.append((torch.tensor(at), *arrays, truth, float(gap)))

    def gradient(self, w, t: int):
        g = torch.empty_like(w)
        for at, gram, target, _, _ in self.data:
            # one product per lane: a product of all lanes is rounded in a way that
            # depends on their number, which is felt near the optimum
            x = w[at].flatten(1).unsqueeze(1)
            x = torch.bmm(x, gram.expand(len(x), -1, -1)).squeeze(1)
            g[at] = (x - target).view(-1, *w.shape[1:])
        return g

    def measure(self, w) -> list[dict]:
        rows = [{}] * len(w)
        for at, gram, _, truth, gap in self.data:
            for i in at.tolist():
                with np.errstate(all="ignore"):  # lanes that diverged
                    found = _distances(w[i].numpy(), truth, gram.numpy())
                rows[i] = found | {"oracle_gap": gap}
        return rows


def _distances(w, truth, gram) -> dict:
    """The loss and |W - W*|, each over its value at W = 0."""
    error, start = (w - truth).ravel(), truth.ravel()
    return {
        "excess": float(error @ gram @ error / (start @ gram @ start)),
        "distance": float(np.linalg.norm(error) / np.linalg.norm(start)),
    }


# --- tokens --------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """The true model of next-token prediction: token i occurs with `frequency`, and
    after it the next token has the log probabilities log_softmax(E_i H^T), for V tokens
    and D dimensions.
    """

    frequency: np.ndarray  # (V,)
    embedding: np.ndarray  # E (V, D)
    head: np.ndarray  # H (V, D)

    def log_p(self) -> np.ndarray:
        """Return log probabilities (V, V) of the next token, one row for each token."""
        z = self.embedding @ self.head.T
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))


def tokens(c) -> Tokens:
    """Return the true model of a config: token j follows token i with the logit log
    pi_j + x_i.y_j, where pi_j is the frequency of j and x_i, y_j are random vectors. It
    is written as E_i.H_j, without a bias.
    """
    draws = rng.stream(c.seed, c.study)
    v, d = c.rows, c.columns
    frequency = (1.0 + np.arange(v)) ** -c.zipf
    spectrum = np.logspace(0, -1, d - 1)
    spectrum = LOGITS * spectrum / np.sqrt(np.sum(spectrum**2))
    known, sought = draws.normal(size=(2, v, d - 1))
    known = known * spectrum
    x, y = (sought, known) if c.study == "embedding" else (known, sought)
    turn = _haar(draws, d) if c.basis == "rotated" else np.eye(d)
    log_pi = np.log(frequency) - np.log(frequency).mean()
    embedding, head = np.c_[np.ones(v), x] @ turn.T, np.c_[log_pi, y] @ turn.T
    return Tokens(frequency / frequency.sum(), embedding, head)


def drawn(c, truth: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens and the labels (the tokens that follow them) of every training
    step, each (steps, B), drawn from the true model.
    """
    draws = rng.stream(c.seed, "tokens")
    u = draws.random((2, c.steps, c.batch))
    x = np.searchsorted(np.cumsum(truth.frequency)[:-1], u[0], "right")
    # one sorted list of all distributions: the one of token i lies in [i, i+1]
    cumulative = np.cumsum(np.exp(truth.log_p()), 1)
    cumulative[:, -1] = 1.0
    flat = (cumulative + np.arange(c.rows)[:, None]).ravel()
    y = np.searchsorted(flat, u[1] + x, "right") - x * c.rows
    return x, y.clip(0, c.rows - 1)


class _Language:
    """What embedding and head share: the true model of each lane, and its tokens."""

    def __init__(self, configs: list):
        self.dtype = torch.float32
        keys = [(c.seed, c.basis) for c in configs]
        first = {k: configs[keys.index(k)] for k in keys}
        self.which = torch.tensor([list(first).index(k) for k in keys])
        self.truth = [tokens(c) for c in first.values()]
        pairs = map(drawn, first.values(), self.truth)
        self.x, self.y = (
            torch.from_numpy(np.stack(a, 1)) for a in zip(*pairs, strict=True)
        )  # (T, S, B)
        known = np.stack([self._known(t) for t in self.truth])
        self.known = torch.from_numpy(known).to(self.dtype)[self.which]  # (L, V, D)
        c, size = configs[0], (len(configs), configs[0].batch)
        self.logits, self.p = (self.known.new_empty(*size, c.rows) for _ in "ab")
        self.minus = self.known.new_full((*size, 1), -1.0)

    def errors(self, x, y, t: int):
        """Return softmax(x y^T) minus the one-hot labels of step t, (L, B, V); the next
        call overwrites it.
        """
        label = self.y[t][self.which].unsqueeze(-1)
        torch.bmm(x, y.mT, out=self.logits)
        torch.softmax(self.logits, -1, out=self.p)  # fresh memory would take longer
        return self.p.scatter_add_(-1, label, self.minus)

    def measure(self, w) -> list[dict]:
        """Return for each lane the exact excess loss in nats, also of the frequent and
        of the rare half of the tokens, and the drift of the mean row of W.
        """
        log_p = [t.log_p() for t in self.truth]
        rows = []
        for i, s in enumerate(self.which.tolist()):
            truth, ours = (
                self.truth[s],
                self._with(self.truth[s], w[i].double().numpy()),
            )
            with np.errstate(all="ignore"):
                parts = self._parts(truth.frequency, log_p[s], ours.log_p())
            rows.append(_split(*parts) | {"drift": _drift(w[i].double().numpy())})
        return rows


def _split(excess, mass) -> dict:
    """Nats per occurrence, from the excess (V,) and the mass (V,) of each token."""
    half = len(mass) // 2
    return {
        "excess": float(excess.sum()),
        "frequent": float(excess[:half].sum() / mass[:half].sum()),
        "rare": float(excess[half:].sum() / mass[half:].sum()),
    }


def _drift(w) -> float:
    """The norm of the mean row over the root mean square row: a shift changes it."""
    size = np.sqrt(np.mean(np.sum(w**2, 1)))
    return float(np.linalg.norm(w.mean(0)) / size) if size else 0.0


class Embedding(_Language):
    """Next-token prediction in which the embedding alone is trained, as the matrix W,
    and the true head is given; the excess loss is split by the given token.
    """

    @staticmethod
    def _known(truth: Tokens):
        return truth.head

    @staticmethod
    def _with(truth: Tokens, w) -> Tokens:
        return replace(truth, embedding=w)

    def gradient(self, w, t: int):
        n, v, d = w.shape
        x = self.x[t][self.which] + v * torch.arange(n)[:, None]  # (L, B)
        e = w.view(n * v, d)[x.flatten()].view(*x.shape, d)
        back = torch.bmm(self.errors(e, self.known, t), self.known)
        g = torch.zeros(n * v, d, dtype=w.dtype)
        g.index_add_(0, x.flatten(), back.flatten(0, 1).div_(x.shape[1]))
        return g.view(n, v, d)

    @staticmethod
    def _parts(frequency, log_p, log_q):
        p = np.exp(log_p)
        return frequency * (p * (log_p - log_q)).sum(1), frequency


class Head(_Language):
    """Next-token prediction in which the head alone is trained, as the matrix W, and
    the true embedding is given; the excess loss is split by the predicted token.
    """

    @staticmethod
    def _known(truth: Tokens):
        return truth.embedding

    @staticmethod
    def _with(truth: Tokens, w) -> Tokens:
        return replace(truth, head=w)

    def gradient(self, w, t: int):
        x = self.x[t][self.which].unsqueeze(-1)
        e = self.known.gather(1, x.expand(-1, -1, w.shape[-1]))  # (L, B, D)
        return torch.bmm(self.errors(e, w, t).mT, e.div_(e.shape[1]))

    @staticmethod
    def _parts(frequency, log_p, log_q):
        """p log(p/q) - p + q is never negative, and sums to the divergence."""
        p, q = np.exp(log_p), np.exp(log_q)
        return frequency @ (p * (log_p - log_q) - p + q), frequency @ p


PROBLEMS = {"sensing": Sensing, "embedding": Embedding, "head": Head}
