"""What a run costs: operations, the memory of an optimizer, time.

Operations follow the convention of PaLM (arXiv 2204.02311, appendix B), so that a
model-flops utilisation compares with published ones: a product of (m, k) with (k, n) is
2 m k n, a backward pass twice its forward pass, and attention counts every key within
reach, also those that a causal mask hides.
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
    """Return the floating-point operations of training on one token, forward and
    backward.

    c: the decoder's configuration; of E experts the K chosen ones count. length: tokens
    of a sequence.
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
    """Return the bytes of an optimizer's state, or of that of some parameters.

    Of sharded tensors this process's share counts.
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
    """Return the parameters with one row per token of the vocabulary: embedding and
    head.
    """
    return [p for p in model.parameters() if p.ndim == 2 and len(p) == vocabulary]


class Clock:
    """Measures how long steps take without waiting for the device: by CUDA events on a
    GPU, else by the wall clock.
    """

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks: list[tuple] = []

    def now(self):
        """Return a mark of the present moment, for `note`."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def note(self, *marks) -> None:
        """Record the times of a step, as `now` returns them: its start, the start of
        the optimizer's part, its end.
        """
        self.marks.append(marks)

    def seconds(self) -> tuple[float, float]:
        """Return median seconds of a step and of its optimizer's part; NaN if none."""
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
        """Return the seconds of each noted step from `first` on; waits for them."""
        if self.cuda:
            torch.cuda.synchronize()
        return [self._between(a, c) for a, _, c in self.marks[first:]]

    def _between(self, a, b) -> float:
        return a.elapsed_time(b) / 1e3 if self.cuda else b - a
