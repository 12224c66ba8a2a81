"""Find what the rows of one weight are: queries, keys, values, gates, or several of
these.

The record of a forward pass tells which rows reach each attention and gated unit. If
they are one of these, or pieces of one size, the weight has a role of its own: query,
qkv (heads of one width), gate_up (two halves). Otherwise it is "fused", and its parts
are listed. Rows that reach neither are a part "matrix" if other weights take them
linearly, else "unknown".
"""

from dataclasses import dataclass

from symlab.symopt.dataflow.attention import shared, whole
from symlab.symopt.dataflow.traces import Attention, Product, Seen, Use

HEADS = ("query", "key", "value")


@dataclass(frozen=True)
class Part:
    """A range of rows of a weight, from start to start + length, and their role.

    heads: how many heads of equal width these rows hold.
    """

    role: str
    start: int
    length: int
    heads: int = 1


@dataclass(frozen=True)
class Kind:
    """The role of a weight as a whole, and its parts if its rows have several roles.

    heads: how many heads its rows hold.
    layout: for a fused gate and up projection, 'concatenated' or 'interleaved'.
    note: why the role is unknown.
    """

    role: str
    heads: int = 1
    layout: str | None = None
    parts: tuple[Part, ...] = ()
    note: str = ""


MATRIX = Kind("matrix")


def uses(products: list[Product], seen: Seen) -> list[Use]:
    """Return how attention and gated units use the features of one weight, as `Use`s.

    products: all products with that weight in a forward pass. seen: the record of the
        pass.
    """
    mine, found = set(products), []
    for a in seen.attentions:
        found += _of_attention(mine, a)
    for g in seen.gated:
        if g.gate in mine:
            found.append(Use("gate", (g.gate_rows,)))
        if g.up in mine:
            found.append(Use("up", (g.up_rows,)))
    return found


def _of_attention(mine: set[Product], a: Attention) -> list[Use]:
    found = []
    origins = {"query": a.query, "key": a.key, "value": a.value}
    for role, origin in origins.items():
        width = a.value_width if role == "value" else a.query_width
        for p in mine & origin.nodes(Product):
            labels = origin[p].labels
            heads = _heads(labels, width)
            repeated = whole(origin, p) and any(len(h) < width for h in heads or ())
            found.append(Use(role, heads, width, repeated or shared(origin, p)))
    return [u for u in found if u.rows != ()]  # () without tokens


def _heads(labels, width: int) -> tuple[tuple[int, ...], ...] | None:
    """The rows of each head: those in the last dimension, for each place before it."""
    if labels is None:
        return None
    heads: dict[tuple[int, ...], set[int]] = {}
    for x in labels:
        for d in range(x.ndim - 1):
            if x.shape[d] > 1 and bool((x == x.narrow(d, 0, 1)).all()):
                x = x.narrow(d, 0, 1)
        places = x.expand(*x.shape[:-1], width).reshape(-1, width)
        for i, rows in enumerate(places.tolist()):
            heads.setdefault((i, len(places)), set()).update(r for r in rows if r >= 0)
    return tuple(sorted({tuple(sorted(rows)) for rows in heads.values() if rows}))


def kind(products: list[Product], seen: Seen, length: int) -> Kind | None:
    """Return the `Kind` of a weight that attention or a gated unit uses, else None.

    products: all products with the weight in a forward pass. seen: the record of the
        pass.
    length: the number of the weight's rows.
    """
    found = uses(products, seen)
    if not found:
        return None
    if any(u.merged for u in found):
        # latent attention: heads of several products
        return cut(products, seen, length) or MATRIX
    if any(p.features > length for p in products):
        found = [_of_one(u, length) for u in found]
        if None in found:
            return MATRIX
    if any(u.rows is None for u in found):
        return _without_places(found, length)
    pieces, every = _pieces(found), tuple(range(length))
    if pieces is None:
        return MATRIX  # the same rows in two roles, or heads that share rows
    gates = [p for p in pieces if p[0] in ("gate", "up")]
    if len(gates) == len(pieces) and _rows(pieces) == every:
        return _gates(gates, length)
    if any(not _contiguous(rows) for _, rows, _ in pieces):
        strided = {role for role, rows, _ in pieces if not _contiguous(rows)}
        if strided <= set(HEADS) and len(strided) == len({p[0] for p in pieces}):
            return MATRIX  # heads that lie entry by entry
        note = f"rows of {' and '.join(sorted(strided))} lie between other rows"
        return Kind("unknown", note=note)
    alike = {len(rows) for role, rows, _ in pieces}
    if not gates and len(alike) == 1 and _rows(pieces) == every:
        roles = {role for role, _, _ in pieces}
        role = next(iter(roles)) if len(roles) == 1 else "qkv"
        return Kind(role, heads=len(pieces))
    return _fused(pieces, products, seen, length)


def _of_one(use: Use, length: int) -> Use | None:
    """The use of the rows of one matrix of a stack, if it is that of each of them.

    A product with all of a stack (heads or experts) has stack x length features.
    """
    pieces = set()
    for rows in use.rows or ():
        each: dict[int, list[int]] = {}
        for r in rows:
            each.setdefault(r // length, []).append(r % length)
        pieces |= {tuple(one) for one in each.values()}
    return Use(use.role, (pieces.pop(),), use.width) if len(pieces) == 1 else None


def _without_places(found: list[Use], length: int) -> Kind:
    """One role for all rows, with heads of the width that attention saw."""
    roles = {u.role for u in found}
    widths = {u.width for u in found}
    if len(widths) > 1 or not roles <= set(HEADS):
        return MATRIX
    role = next(iter(roles)) if len(roles) == 1 else "qkv"
    heads, rest = divmod(length, widths.pop())
    return Kind("matrix") if rest or not heads else Kind(role, heads=heads)


def _pieces(found: list[Use]) -> list[tuple[str, tuple[int, ...], int]] | None:
    """(role, rows, width), sorted; None where one row is in two of them."""
    pieces = sorted({(u.role, rows, u.width) for u in found for rows in u.rows},
                    key=lambda p: p[1])  # fmt: skip
    by_rows: dict[tuple[int, ...], set] = {}
    for role, rows, width in pieces:
        by_rows.setdefault(rows, set()).add((role, width))
    both = [{r for r, _ in s} for s in by_rows.values() if len(s) > 1]
    if both and all(s <= set(HEADS) for s in both):  # one value as query and key
        pieces = [("qkv" if len(s) > 1 else next(iter(s))[0], rows, 0)
                  for rows, s in by_rows.items()]  # fmt: skip
    elif both:
        return None
    rows = [r for _, rows, _ in pieces for r in rows]
    return None if len(rows) != len(set(rows)) else pieces


def _rows(pieces) -> tuple[int, ...]:
    return tuple(sorted(r for _, rows, _ in pieces for r in rows))


def _contiguous(rows: tuple[int, ...]) -> bool:
    return rows == tuple(range(rows[0], rows[0] + len(rows)))


def _gates(gates, length: int) -> Kind:
    """All rows are gates, or ups, or the two halves of both."""
    roles = {role for role, _, _ in gates}
    if len(roles) == 1:
        return Kind(next(iter(roles)))
    if len(gates) == 2:
        (_, first, _), (_, second, _) = gates
        if len(first) == len(second) and _contiguous(first) and _contiguous(second):
            return Kind("gate_up", layout="concatenated")
        even = tuple(range(0, length, 2))
        if first == even and second == tuple(r + 1 for r in even):
            return Kind("gate_up", layout="interleaved")
        if not (_contiguous(first) and _contiguous(second)):
            return Kind("unknown", note="gate and up lie between each other")
    parts = _merged([Part(role, rows[0], len(rows)) for role, rows, _ in gates])
    if all(_contiguous(rows) for _, rows, _ in gates):
        return Kind("fused", parts=parts)
    return Kind("unknown", note="gate and up lie between each other")


def _fused(pieces, products, seen: Seen, length: int) -> Kind:
    parts = [Part(role, rows[0], len(rows)) for role, rows, _ in pieces]
    taken = set(_rows(pieces))
    rest, lost = _rest(products, seen, set(range(length)) - taken)
    if lost:
        note = f"{lost} of its {length} rows have no use that is understood"
        return Kind("unknown", note=note)
    return Kind("fused", parts=_merged(parts + rest))


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    """Heads of one role and width that follow each other are one part."""
    done: list[Part] = []
    for p in sorted(parts, key=lambda p: p.start):
        last = done[-1] if done else None
        width = last.length // last.heads if last else 0
        joins = last and p.role in (*HEADS, "qkv") and (last.role, width) == (
            p.role, p.length
        )  # fmt: skip
        if joins and last.start + last.length == p.start:
            done[-1] = Part(p.role, last.start, last.length + p.length, last.heads + 1)
        else:
            done.append(p)
    return tuple(done)


def _rest(products, seen: Seen, left: set[int]) -> tuple[list[Part], int]:
    """Parts for rows that reach neither attention nor gate, and how many have no use.

    Cut where the model cuts them: rows with the same uses, one after another.
    """
    mine = set(products)
    events = [(set(rows), name) for p, rows, name in seen.rest if p in mine]
    key: dict[int, tuple] = {}
    for r in sorted(left):
        here = [i for i, (rows, _) in enumerate(events) if r in rows]
        key[r] = tuple(here)
    lost = sum(not k for k in key.values())
    parts: list[Part] = []
    before = None
    for r, k in key.items():
        linear = all(events[i][1] == "" for i in k)
        group = ("matrix", k) if linear else ("unknown", ())
        if parts and group == before and parts[-1].start + parts[-1].length == r:
            last = parts.pop()
            parts.append(Part(last.role, last.start, last.length + 1))
        else:
            parts.append(Part(group[0], r, 1))
        before = group
    return parts, lost


def cut(products: list[Product], seen: Seen, length: int) -> Kind | None:
    """Return the `Kind` "fused" of a weight of which only some rows are used linearly.

    products: all products with the weight in a forward pass. seen: the record of the
        pass.
    length: the number of the weight's rows.

    The result is None if all rows are used alike, or some row reaches attention or a
    gated unit.
    """
    parts, lost = _rest(products, seen, set(range(length)))
    roles = {p.role for p in parts}
    if lost or roles != {"matrix", "unknown"}:
        return None
    return Kind("fused", parts=tuple(parts))
