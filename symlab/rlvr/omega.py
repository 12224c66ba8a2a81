"""The mean success omega, smoothed over batches, for trainers with few prompts per
batch.

A-GRAE (arXiv 2602.05548) uses omega, the mean success of a batch, as the state of the
policy. The paper's batches have 1024 prompts. In a batch of one group, omega is that
group's own success rate, so that a rule that is meant to compare prompts compares a
prompt with itself.
"""


class SmoothedOmega:
    """The mean success of all batches so far, with exponentially decaying weights.

        advantages(rewards, "agrae", omega=SmoothedOmega(0.98))

    Each call adds a batch and returns the mean: after N batches, batch n has the weight
    decay^(N-n) times its number of rollouts, so that the memory is about 1 / (1 -
    decay) batches, 50 by default. The first call returns the mean of its own batch. Use
    one object per training run; `state_dict` and `load_state_dict` store it in a
    checkpoint. Raises ValueError unless 0 <= decay < 1.
    """

    def __init__(self, decay: float = 0.98):
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay} is no decay: use 0 <= decay < 1")
        self.decay = decay
        self.successes, self.rollouts = 0.0, 0.0

    def __call__(self, success) -> float:
        """Add successes (0 or 1, any shape); return the mean so far, in [0, 1]."""
        total, count = float(success.sum()), float(success.reshape(-1).shape[0])
        if not count:
            raise ValueError("no rollouts are given: enter batches that have some")
        if not ((success == 0) | (success == 1)).all():
            raise ValueError(
                "success has values other than 0 and 1: compare the rewards with the "
                "least reward of a success"
            )
        self.successes = self.decay * self.successes + total
        self.rollouts = self.decay * self.rollouts + count
        return self.value

    @property
    def value(self) -> float | None:
        """The weighted mean success of the batches so far; None before the first."""
        if not self.rollouts:
            return None
        return min(1.0, self.successes / self.rollouts)

    def __repr__(self) -> str:
        return f"SmoothedOmega(decay={self.decay})"

    def state_dict(self) -> dict:
        """Return the state as a dictionary of two numbers, for a checkpoint."""
        return {"successes": self.successes, "rollouts": self.rollouts}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state that `state_dict` returned."""
        self.successes = float(state["successes"])
        self.rollouts = float(state["rollouts"])
