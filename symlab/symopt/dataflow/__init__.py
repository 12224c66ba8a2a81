"""What a model does with each of its parameters, seen in one forward pass: see `connections`."""
