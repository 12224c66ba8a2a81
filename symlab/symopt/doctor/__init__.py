"""Find errors in a training set-up: see `checkup`."""

from symlab.symopt.doctor.checkup import COLUMNS, check

__all__ = ["COLUMNS", "check"]
