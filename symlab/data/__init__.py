"""Data sets: what ships with a dependency, what lies under SYMLAB_DATA, downloads."""
