"""Networks that experiments share."""
