"""One training loop, its losses and stages."""
