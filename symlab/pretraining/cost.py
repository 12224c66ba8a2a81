"""The cost of a training run: floating-point operations, optimizer memory, time.

Operations are counted as for PaLM (arXiv 2204.02311, appendix B), so that a model-flops
utilisation can be compared with published ones: a product of (m, k) with (k, n) is
2 m k n, a backward pass is twice its forward pass, and attention counts every key
within its window, including those that a causal mask hides.
"""

import time

import torch
from torch import Tensor, nn

from symlab.models.families import DecoderConfig

# dense products of bfloat16 per second, from NVIDIA's data sheets
PEAK = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
}
WARM = 3  # steps that are not timed: they compile and allocate


def flops_per_token(c: DecoderConfig, length: int) -> int:
    """Return the floating-point operations, forward and backward, per training token.

    c: the decoder's configuration; of its experts, those chosen for a token count.
    length: tokens of a sequence.
    """
    inside, shared = c.heads * c.head_width, c.kv_heads * c.head_width
    attention = 2 * c.width * (inside + shared)  # query and out, key and value
    unit = 3 * c.width * c.hidden
    feed = c.chosen * unit + c.experts * c.width if c.experts else unit
    entries = c.layers * (attention + feed) + c.vocabulary * c.width
    reach = [
        min(length, c.window) if c.slides(layer) else length
        for layer in range(c.layers)
    ]
    return 3 * (2 * entries + 4 * inside * sum(reach))


def peak_flops(device: torch.device) -> float:
    """Return the device's peak bfloat16 operations per second, NaN if unknown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((v for k, v in PEAK.items() if k in name), float("nan"))


def state_bytes(optimizer: torch.optim.Optimizer, parameters=None) -> int:
    """Return the bytes of an optimizer's state.

    parameters: those whose state is counted, by default all.

    Of a sharded tensor only this process's part is counted.
    """
    wanted = None if parameters is None else {id(p) for p in parameters}
    return sum(
        _local(value).nbytes
        for p, state in optimizer.state.items()
        if wanted is None or id(p) in wanted
        for value in state.values()
        if isinstance(value, Tensor)
    )


def _local(x: Tensor) -> Tensor:
    return x.to_local() if hasattr(x, "to_local") else x


def vocabulary_blocks(model: nn.Module, vocabulary: int) -> list[nn.Parameter]:
    """Return the parameters with one row per token: the embedding and the output head.

    vocabulary: the number of tokens.
    """
    return [p for p in model.parameters() if p.ndim == 2 and len(p) == vocabulary]


class Clock:
    """Measures the seconds of steps without waiting for the device after each of them.

    On a GPU it uses CUDA events, otherwise the wall clock.
    """

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks: list[tuple] = []

    def now(self):
        """Return a time mark of the present moment, for `note`."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def note(self, *marks) -> None:
        """Record the time marks of one step.

        marks: three results of `now`: at the start of the step, at the start of the
        optimizer's part of it, and at its end.
        """
        self.marks.append(marks)

    def seconds(self) -> tuple[float, float]:
        """Return the median seconds of a step and of its optimizer's part; NaN without
        steps.

        The first WARM steps are left out if there are more.
        """
        timed = self.marks[WARM:] or self.marks
        if not timed:
            return float("nan"), float("nan")
        if self.cuda:
            torch.cuda.synchronize()
        whole = [self._between(a, c) for a, _, c in timed]
        part = [self._between(b, c) for _, b, c in timed]
        middle = len(timed) // 2
        return sorted(whole)[middle], sorted(part)[middle]

    def steps(self, first: int) -> list[float]:
        """Return the seconds of each recorded step from number `first` on.

        On a GPU it waits until these steps have ended.
        """
        if self.cuda:
            torch.cuda.synchronize()
        return [self._between(a, c) for a, _, c in self.marks[first:]]

    def _between(self, a, b) -> float:
        return a.elapsed_time(b) / 1e3 if self.cuda else b - a
