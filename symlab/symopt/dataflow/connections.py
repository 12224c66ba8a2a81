"""Find what a model does with each of its parameters, by following one forward pass.

For every value, the nodes from which it is computed are recorded: products with a
weight, table lookups, attention, gated units, and where the features of each are in it
(see `traces`). Reshapes, sums, norms and activations pass this record on. So a weight
is a query because its product reaches the first argument of an attention, and a router
because the largest entries of its product choose what else is computed, whatever its
module is called. No gradient and no particular input is needed: a few tokens are
enough.
"""

import gc
import sys
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from symlab.symopt.dataflow import meta, shifts
from symlab.symopt.dataflow.attention import attention, gate, glu
from symlab.symopt.dataflow.choices import (
    ASKING,
    follow_choices,
    follow_dropout,
    follow_ids,
    follow_one_hot,
)
from symlab.symopt.dataflow.contractions import addmm, bmm, convolution, linear, mm, mv
from symlab.symopt.dataflow.outputs import find_heads, note_survivors
from symlab.symopt.dataflow.passing import ACTIVATIONS, pass_on
from symlab.symopt.dataflow.sums import Sums
from symlab.symopt.dataflow.tables import (
    bent,
    copied,
    embedding,
    embedding_bag,
    index,
    index_select,
    masked,
    same_weight,
    used,
)
from symlab.symopt.dataflow.traces import COPIES, VIEWS, Operation, Seen
from symlab.symopt.dataflow.values import Known
from symlab.tracing import Mode, one_by_one, operator_name, tensors, words

SCALING = words("mul div neg")  # of a weight by a number: still that weight
OF_ENTRIES = words("add sub rsub exp abs square pow clamp softplus sqrt") | SCALING
RULES = {  # operator -> function of what is known and the call; True: it is done
    "mm": mm,
    "grouped_mm": mm,
    "bmm": bmm,
    "addmm": addmm,
    "baddbmm": addmm,
    "mv": mv,
    "linear": linear,
    "convolution": convolution,
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    "index_select": index_select,
    "index": index,
    "glu": glu,
}
CONTRACTIONS = (mm, bmm, addmm, mv, linear, index, index_select)


class Following(Mode):
    """A torch dispatch mode that watches a forward pass and records how weights are
    used.

    known: what is known about each tensor; `known.seen` is the record: the products,
        lookups, attentions and gated units of each weight.
    written: keeps copies of the parameters to which the pass writes.
    """

    supports_higher_order_operators = True

    def __init__(self, known: Known, written: "Written", sums: Sums):
        super().__init__()
        self.known = known
        self.written = written
        self.sums = sums
        self.blind = ""  # an operator whose functions' results are not followed

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not hasattr(func, "_schema"):
            return self._higher_order(func, args, kwargs)
        name = operator_name(func)
        name = "grouped_mm" if name == "grouped_mm_fallback" else name
        if self.blind:
            shifts.spoil(shifts.of_all((args, kwargs), self.known.shift), self.blind)
        before = []
        if func._schema.is_mutable:
            self.written.keep(func, args, kwargs)
            given = written_to(func, args, kwargs)
            before = [(t, self.known.shift(t)) for t in given]
        out = meta.result(func, name, args, kwargs)
        self.sums.saw(name, args, kwargs, out)
        op = Operation(func, name, args, kwargs, tensors(out))
        try:
            _follow_one(self.known, op)
        except (RuntimeError, IndexError, TypeError, ValueError, KeyError):
            self.known.lose(op)  # a way to call it that is not foreseen
        self.known.rewrote(op, before)
        return out

    def _higher_order(self, func, args, kwargs):
        """Operators that call functions: attention is known, others are looked into."""
        name, known = func._name, self.known
        self.blind = self.blind or (name if name == "flex_attention" else "")
        try:
            out = func(*tree_map(self._watched, args), **kwargs)
        except Exception:  # it takes no other functions than its own
            out = func(*args, **kwargs)
        finally:
            self.blind = "" if name == self.blind else self.blind
        self.sums.saw(name, args, kwargs, out)
        op = Operation(func, name, args, kwargs, tensors(out))
        if name == "flex_attention":
            shifts.spoil(shifts.of_all(op.tensors(), known.shift), name)
            attention(known, op)
            return out
        lost = [t for t in op.results if t.is_floating_point()]
        if all(t in known.origins for t in lost):
            return out
        known.lose(op)
        return out

    def _watched(self, x):
        """Return the function, followed where a higher-order operator calls it."""
        if not callable(x) or isinstance(x, Tensor):
            return x

        def inside(*args, **kwargs):
            with self:
                return x(*args, **kwargs)

        return inside


class Written:
    """Copies of those parameters of a model to which a forward pass writes.

    Each parameter is copied just before it is written to; `undo` restores all of them.
    """

    def __init__(self, model: torch.nn.Module):
        self.all = {_storage(p): p for p in model.parameters()}
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(self, func, args: tuple, kwargs: dict) -> None:
        for t in written_to(func, args, kwargs):
            key = _storage(t)
            if key in self.all and key not in self.before:
                p = self.all[key]
                self.before[key] = p, p.detach().clone()

    def undo(self) -> None:
        for p, before in self.before.values():
            p.detach().copy_(before)


def written_to(func, args: tuple, kwargs: dict) -> list[Tensor]:
    """Return the tensors that a call of the torch operator `func` writes to in place.

    args, kwargs: the arguments of the call.
    """
    found = []
    for i, a in enumerate(func._schema.arguments):
        if a.alias_info is not None and a.alias_info.is_write:
            found += tensors(args[i] if i < len(args) else kwargs.get(a.name))
    return found


def _storage(t: Tensor) -> int:
    return t.untyped_storage()._cdata


def _follow_one(known: Known, op: Operation) -> None:
    """Enters the results of one operation into what is known."""
    name, args = op.name, op.args
    given = op.tensors()
    if name in ASKING:
        return
    follow_ids(known, op)
    follow_choices(known, op)
    follow_one_hot(known, op)
    if name in VIEWS | COPIES and given[0].numel() == op.results[0].numel():
        known.sources[op.results[0]] = known.source(given[0])
    follow_dropout(known, op)
    weights = [t for t in given if t in known.weights]
    rule = RULES.get(name)
    if name.startswith("scaled_dot_product"):
        rule = attention
    if rule is not None and rule(known, op):
        made = [t for t in given if not any(t is r for r in op.results)]
        shifts.spoil(shifts.of_all(made, known.shift), name)  # a mask, a term
        if rule not in CONTRACTIONS:
            known.seen.otherwise |= {known.weights[w].name for w in weights}
        return
    if weights and name in VIEWS | COPIES and given[0] is weights[0]:
        same_weight(known, op, given[0])
        return
    if weights and len(given) == 1 and name in OF_ENTRIES | ACTIVATIONS:
        copied(known, given[0], op.results)
        if name not in SCALING:
            bent(known, given[0], name)
        return
    if name in SCALING and len(weights) == 1 and masked(known, op, weights[0]):
        return
    for w in weights:
        alone = len(weights) == len(given)
        used(known, w, f"{name} of parameters alone" if alone else name, args)
    values = [t for t in given if t not in known.weights]
    if name == "mul" and len(values) == 2 and gate(known, *values, op):
        return
    pass_on(known, op, values)


def follow(
    model: torch.nn.Module,
    call,
    inputs: dict[str, Tensor],
    given: list[Tensor],
    training: bool = False,
) -> Seen:
    """Return the record of how a forward pass, `call()`, uses each parameter of a
    model.

    inputs: {name of an argument: tensor}, the tensors that the call gives to the model.
    given: all tensors that it gives, also those inside containers.
    training: whether the pass is in training mode.

    The call restores the model: its buffers, its mode and torch's random state, and the
    parameters and counters to which a pass in training mode has written.
    """
    compiler = "torch._dynamo" in sys.modules  # its import takes a second
    asked = model, call, inputs, given, training
    try:
        return _follow(*asked)
    except Exception:
        if compiler or "torch._dynamo" not in sys.modules:
            raise
        return _follow(*asked)  # the model brought the compiler


def _follow(model, call, inputs: dict, given: list, training: bool) -> Seen:
    parameters = dict(model.named_parameters())
    sums = Sums(parameters, given)
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    modes = {m: m.training for m in model.modules()}
    plain = [(m, _counters(m)) for m in model.modules()] if training else []
    known = Known(parameters, inputs)
    written = Written(model)
    gpus = {p.device for p in parameters.values() if p.is_cuda}
    nowhere = any(p.is_meta for p in parameters.values())
    numbers = meta.all_nonzero() if nowhere else nullcontext()
    try:
        model.train(training)
        random = torch.random.fork_rng(list(gpus))
        with _older_set_aside():
            watched = Following(known, written, sums)
            with random, torch.no_grad(), one_by_one(), numbers, watched:
                out = call()
            find_heads(known.seen, out, known.origin, known.shift)
            note_survivors(known.seen, out, known)
    finally:
        for m, counters in plain:
            m.__dict__.update(counters)
        for m, mode in modes.items():
            m.training = mode
        with torch.no_grad():
            written.undo()
            for n, b in model.named_buffers():
                if n in buffers and b.shape == buffers[n].shape:
                    b.copy_(buffers[n])
    _note_recurrent(model, known.seen)
    known.seen.combined, known.seen.in_sums = sums.combined, sums.added
    return known.seen


def _counters(module: torch.nn.Module) -> dict:
    simple = (bool, int, float, str, type(None))
    return {k: v for k, v in vars(module).items() if isinstance(v, simple)}


@contextmanager
def _older_set_aside():
    """Let a collection of garbage look only at what is made from here on."""
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def _note_recurrent(model: torch.nn.Module, seen: Seen) -> None:
    """A layer of torch's: which operators it is made of depends on device and dtype."""
    layers = (torch.nn.RNNBase, torch.nn.modules.rnn.RNNCellBase)
    for prefix, module in model.named_modules():
        if isinstance(module, layers):
            for own, _ in module.named_parameters(recurse=False):
                name = f"{prefix}.{own}" if prefix else own
                seen.recurrent[name] = type(module).__name__
