"""Conditions on the fields of a config, as in ONLY="lr < 0.1 and seed in (0, 1)".

A condition is written in Python and has the same meaning, but only a part of Python is
allowed: names of fields, numbers, texts, True and False, comparisons (also chained),
`in` and `not in` a list, `and`, `or`, `not`. Anything else is rejected before it is
evaluated, because a query may come from a file or from somebody else's command.
"""

import ast
import warnings

from symlab.harness.errors import UserError

_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def only(configs: dict[str, dict], query: str) -> dict[str, dict] | None:
    """Return the configs that meet a condition; None if they lack a field of it.

    configs: {key: config}, each config a dict of a run's settings.
    query: the condition, such as "lr < 0.1 and seed in (0, 1)".

    Raises UserError for a query that cannot be read, that is not a condition, or that
    orders values without an order, such as a text and a number.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of "0or 1", which Python reads
            tree = ast.parse(query.strip(), mode="eval")
        bare = _condition(tree.body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _unreadable(query, error) from None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if any(not names <= set(c) for c in configs.values()):
        return None
    if numbers := {n for c in configs.values() for n in bare if type(c[n]) is not bool}:
        what = f"{min(numbers)} is not true or false"
        raise _unreadable(query, f"not a condition: {what}")
    code = compile(tree, "<query>", "eval")  # holds nothing that _condition refuses
    no_functions = {"__builtins__": {}}
    try:
        return {k: c for k, c in configs.items() if eval(code, no_functions, c)}
    except TypeError as error:
        raise _unreadable(query, error) from None


def _unreadable(query: str, reason) -> UserError:
    return UserError(
        f"cannot read the query {query!r} ({str(reason).split(' (')[0]}): "
        'write it as in ONLY="lr < 0.1 and seed in (0, 1)"'
    )


def _condition(node: ast.expr) -> set[str]:
    """Return the names that stand alone as conditions; ValueError for another thing."""
    match node:
        case ast.BoolOp():
            return set().union(*map(_condition, node.values))
        case ast.UnaryOp(op=ast.Not()):
            return _condition(node.operand)
        case ast.Compare():
            for operator in node.ops:
                if not isinstance(operator, _COMPARISONS):
                    raise ValueError("use == and != in place of is and is not")
            _value(node.left)
            for operator, right in zip(node.ops, node.comparators, strict=True):
                listed = isinstance(operator, (ast.In, ast.NotIn))
                if listed and not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
                    raise ValueError("in needs a list, as in x in (1, 2)")
                for item in right.elts if listed else [right]:
                    _value(item)
            return set()
        case ast.Name():
            return {node.id}
        case ast.Constant(value=bool()):
            return set()
    raise ValueError(f"not a condition: {ast.unparse(node)}")


def _value(node: ast.expr) -> None:
    """Raise ValueError unless the node is a field, a number, a text, True or False."""
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=value)):
            fits = type(value) in (int, float)
        case ast.Constant(value=value):
            fits = type(value) in (int, float, str, bool)
        case _:
            fits = isinstance(node, ast.Name)
    if not fits:
        raise ValueError(f"neither a field nor a value: {ast.unparse(node)}")
