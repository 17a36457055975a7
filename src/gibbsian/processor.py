"""Processor time: what work costs, whatever else the machine does meanwhile."""

import os


def core_seconds() -> float:
    """Processor time in s of this process and of its children that have ended; differences of it are costs."""
    return sum(os.times()[:4])
