"""Several processes at work on one run."""
