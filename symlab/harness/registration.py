"""Claims as they were: one short name for all that the claims of an experiment say."""

import json
from collections.abc import Sequence
from hashlib import sha256

from symlab.harness.claims import Claim


def digest(claims: Sequence[Claim]) -> str:
    """16 hex digits that name what the claims say, whatever their order in the file.

    It covers each claim's name, statement, thresholds, estimate in words, kind, origin,
    paper, place and headline. It leaves out the reason, the expected verdict and the
    history, which say why and not what.
    """
    said = [
        (
            c.name,
            c.statement,
            repr(float(c.above)),
            repr(float(c.below)),
            c.quantity,
            c.kind,
            c.origin,
            c.paper.short if c.paper else "",
            c.place,
            c.tests,
        )
        for c in sorted(claims, key=lambda c: c.name)
    ]
    return sha256(json.dumps(said).encode()).hexdigest()[:16]
