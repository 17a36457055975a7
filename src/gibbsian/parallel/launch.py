"""What torchrun told this process, readable before torch is imported."""

import os


def launched() -> int:
    """Return how many processes torchrun has started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0
