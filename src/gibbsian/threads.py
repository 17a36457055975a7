"""How many threads torch uses."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for a while.

    At the sizes of peptides its own threads gain little on an idle machine and cost a factor of ten and more on a busy
    one; sums would also depend on their number in the last bit.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
