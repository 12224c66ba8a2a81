"""Find what a model does with each parameter in one forward pass: see `connections`."""
