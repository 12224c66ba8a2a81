"""Networks that several experiments use."""
