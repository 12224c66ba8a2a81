"""Kinds of values in rows, and the columns that store them.

A kind is a word such as 'int', 'string' or 'list of float'. Values of two kinds can be
stored in one column if that changes no value: an int up to 2**53 is exactly a float,
and an empty list is a list of anything. If rows have values of other pairs of kinds
under one name, there is a second column, such as `x (string)`; its metadata keep the
name `x`. So tables of any types can be joined, and `named` gives the rows of one
version of the code their original column names.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

NOTHING, EMPTY, LIST = "nothing", "empty list", "list of "
SCALARS = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "large int": pa.int64(),  # beyond 2**53, so that a float would round it
    "float": pa.float64(),
    "string": pa.string(),
}
ARROW = {
    **SCALARS,
    **{LIST + kind: pa.list_(arrow) for kind, arrow in SCALARS.items()},
    NOTHING: pa.null(),
    EMPTY: pa.list_(pa.float64()),
}
WIDER = {("int", "float"), ("int", "large int")}
WIDER |= {(LIST + a, LIST + b) for a, b in WIDER}
PYTHON = {bool: "bool", int: "int", float: "float", str: "string"}
EXACT, LARGEST = 2**53, 2**63
NAME = b"symlab.column"


def kind(name: str, value) -> str:
    """Return the kind of a Python value in a row, such as 'int' or 'list of float'.

    name: the column's name, for error messages.

    Raises TypeError, which says what can be stored instead, for a value that cannot be
    stored.
    """
    if type(value) in (float, bool):
        return PYTHON[type(value)]
    is_list = type(value) is list
    values = value if is_list else [value]
    found = [_kind_of_type(name, t, values, is_list) for t in set(map(type, values))]
    both = reduce(joined, sorted(found), NOTHING)
    if not both:
        raise TypeError(
            f"column {name!r} holds a list of {' and '.join(sorted(found))}: return "
            "one type in every list"
        )
    return both if not is_list else LIST + both if found else EMPTY


def _kind_of_type(name: str, python: type, values: list, is_list: bool) -> str:
    if python not in PYTHON:
        held = f"a list of {python.__name__}" if is_list else f"a {python.__name__}"
        raise TypeError(
            f"column {name!r} holds {held}: return int, float, bool, str or a 1-D "
            "list of them"
        )
    if python is int:
        whole = [v for v in values if type(v) is int]
        low, high = min(whole), max(whole)
        if low < -LARGEST or high >= LARGEST:
            raise TypeError(
                f"column {name!r} holds an int outside -2**63 to 2**63 - 1: return a "
                "float or a string"
            )
        return "int" if low >= -EXACT and high <= EXACT else "large int"
    if python is str:
        check_text(name, "".join(v for v in values if type(v) is str))
    return PYTHON[python]


def arrow_of(value) -> pa.DataType:
    """Return the Arrow type that stores a config's value, an int, float, str or
    bool.
    """
    return ARROW[PYTHON[type(value)]]


def check_text(name: str, text: str) -> None:
    """Raise TypeError if the text holds a lone surrogate, which no file can store.

    name: the column's name, for the message.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TypeError(
            f"column {name!r} holds a text with a lone surrogate, which is not "
            "Unicode: encode it with errors='backslashreplace'"
        ) from None


def joined(a: str, b: str) -> str:
    """Return the kind of a column that stores values of two kinds unchanged; '' if none
    does.

    a, b: kinds, such as 'int' and 'float', which give 'float'.
    """
    if a == b:
        return a
    for narrow, wide in ((a, b), (b, a)):
        empty = narrow == EMPTY and wide.startswith(LIST)
        if narrow == NOTHING or empty or (narrow, wide) in WIDER:
            return wide
    return ""


def plain(value):
    """Return a NumPy scalar, 1-D array or list as the plain Python value that is
    stored.
    """
    if getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M"):
        return value  # numpy would make a bare int of a time in nanoseconds
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


# --- tables --------------------------------------------------------------------------


def kind_of(column: pa.ChunkedArray | pa.Array) -> str:
    """Return the kind of an Arrow column's values, such as 'int' or 'list of float'.

    It is the name of the Arrow type if that is not the type of any kind.
    """
    arrow = column.type
    if column.null_count == len(column):
        return NOTHING
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        values = pc.list_flatten(column)
        inner = kind_of(values) if len(values) else EMPTY
        return EMPTY if inner == EMPTY else _known(LIST + inner, arrow)
    if pa.types.is_signed_integer(arrow):
        low, high = pc.min_max(column).as_py().values()
        return "int" if low >= -EXACT and high <= EXACT else "large int"
    if pa.types.is_large_string(arrow):
        return "string"
    names = {str(type_): name for name, type_ in SCALARS.items()}
    return names.get(str(arrow), str(arrow))


def _known(kind: str, arrow: pa.DataType) -> str:
    return kind if kind in ARROW else str(arrow)


def original(column: pa.Field) -> str:
    """Return the name that the experiment gave to a column that may be stored under
    another.
    """
    return (column.metadata or {}).get(NAME, column.name.encode()).decode()


def table_of(rows: list[dict], types: dict[str, pa.DataType]) -> pa.Table:
    """Return rows (dicts) as an Arrow table.

    types: {column: Arrow type} of the columns whose type is fixed.

    A value that a row lacks is null in the table, and NaN in pandas.
    """
    names = dict.fromkeys(n for row in rows for n in row)
    schema = {name: types.get(name) for name in names}
    for name in (n for n in names if n not in types):
        kinds = [kind(name, row[name]) for row in rows if row.get(name) is not None]
        both = reduce(joined, kinds, NOTHING)
        if not both:
            raise TypeError(
                f"column {name!r} holds {' and '.join(sorted(set(kinds)))}: return "
                "one type in every row"
            )
        schema[name] = ARROW[both]
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


@dataclass
class _Column:
    """A column of a union, while the tables that have it are gathered."""

    name: str
    original: str
    kind: str
    arrow: pa.DataType
    pieces: dict[int, list] = field(default_factory=dict)  # index of a table -> arrays

    def take_in(self, i: int, values: pa.ChunkedArray, held: str) -> None:
        both = joined(self.kind, held)
        if both != self.kind:
            self.kind, self.arrow = both, ARROW.get(both, values.type)
        self.pieces.setdefault(i, []).append(values)

    def array(self, lengths: list[int]) -> pa.ChunkedArray:
        chunks: list[pa.Array] = []
        for i, n in enumerate(lengths):
            pieces = [cast(p, self.arrow) for p in self.pieces.get(i, [])]
            chunks += coalesced(pieces).chunks if pieces else [pa.nulls(n, self.arrow)]
        return pa.chunked_array(chunks, self.arrow)

    def field(self) -> pa.Field:
        renamed = {NAME: self.original} if self.name != self.original else None
        return pa.field(self.name, self.arrow, metadata=renamed)


def cast(column: pa.ChunkedArray, arrow: pa.DataType) -> pa.ChunkedArray:
    """Return a column with its values in another Arrow type, which changes none of
    them.

    arrow: the new type.
    """
    if column.type == arrow:
        return column
    if kind_of(column) in (EMPTY, NOTHING):  # whatever type its values would have
        return pa.chunked_array([pa.array(column.to_pylist(), arrow)])
    return column.cast(arrow)


def coalesced(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return one column with the values of several, at most one of which has a value
    per row.

    columns: columns of one type and length. pyarrow's own `coalesce` does not take
        lists.
    """
    first, *others = columns
    if not others:
        return first
    rows = zip(*(c.to_pylist() for c in columns), strict=True)
    values = [next((v for v in row if v is not None), None) for row in rows]
    return pa.chunked_array([pa.array(values, first.type)])


def union(tables: list[pa.Table]) -> tuple[pa.Table, list[int]]:
    """Return all rows of several tables in one table, whatever the types of their
    columns.

    The second result is, for each row of the new table, its position in the given
    tables one after the other; the order differs, as tables of equal types are joined
    first.
    """
    tables, places = _alike(tables)
    columns: dict[str, list[_Column]] = {}
    for i, table in enumerate(tables):
        for described, values in zip(table.schema, table.columns, strict=True):
            name, held = original(described), kind_of(values)
            same = columns.setdefault(name, [])
            column = _shared(same, held)
            if column is None:
                arrow = ARROW.get(held, values.type) if held != NOTHING else values.type
                column = _Column(described.name, name, held, arrow)
                same.append(column)
            column.take_in(i, values, held)
    found = [c for same in columns.values() for c in same]
    _name_apart(found)
    lengths = [table.num_rows for table in tables]
    arrays = [c.array(lengths) for c in found]
    schema = pa.schema([c.field() for c in found])
    return pa.Table.from_arrays(arrays, schema=schema), places


def _alike(tables: list[pa.Table]) -> tuple[list[pa.Table], list[int]]:
    groups: dict[tuple, list[tuple[int, pa.Table]]] = {}
    start = 0
    for table in tables:
        shape = tuple((f.name, str(f.type), original(f)) for f in table.schema)
        groups.setdefault(shape, []).append((start, table))
        start += table.num_rows
    whole = []
    for group in groups.values():
        schema = group[0][1].schema.remove_metadata()
        whole.append(
            pa.concat_tables([pa.Table.from_arrays(t.columns, schema=schema)
                              for _, t in group]))  # fmt: skip
    places = [
        start + i
        for group in groups.values()
        for start, table in group
        for i in range(table.num_rows)
    ]
    return whole, places


def _shared(columns: list[_Column], held: str) -> _Column | None:
    """The column that takes values of a kind: one of that kind, else a wider one."""
    exact = [c for c in columns if c.kind == held]
    wider = [c for c in columns if joined(c.kind, held)]
    return next(iter(exact + wider), None)


def _name_apart(columns: list[_Column]) -> None:
    """Give each column a name of its own: the first of a name keeps it."""
    taken: set[str] = set()
    for column in columns:
        if column.name in taken:
            column.name = f"{column.original} ({column.kind.replace('large ', '')})"
        while column.name in taken:
            column.name += "'"
        taken.add(column.name)


def named(table: pa.Table, keep: Collection[str]) -> pa.Table:
    """Return a table under the column names that the experiment gave, without empty
    columns.

    keep: the names of columns that are returned even without values.

    Columns that are stored apart under one original name are merged. If their values
    cannot be stored in one column (such as floats and strings), each keeps its stored
    name.
    """
    variants: dict[str, list[int]] = {}
    for i, described in enumerate(table.schema):
        if described.name in keep or table.column(i).null_count < len(table):
            variants.setdefault(original(described), []).append(i)
    found: dict[str, pa.ChunkedArray] = {}
    for name, same in variants.items():
        columns = [table.column(i) for i in same]
        both = reduce(joined, map(kind_of, columns))
        if len(same) == 1:
            found[name] = columns[0]
        elif both in ARROW:
            found[name] = coalesced([cast(c, ARROW[both]) for c in columns])
        else:
            found |= {table.schema.field(i).name: table.column(i) for i in same}
    return pa.table(found)
