"""How torch uses the processor: its threads, and its matrix products."""

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


@contextmanager
def quick_products() -> Iterator[None]:
    """Let torch multiply single-precision matrices in the fastest way for a while; also a decorator.

    For training only. On processors with AVX-512 another library does them, without loss and up to three times as
    fast; those with matrix units may round factors to 16 bits, which gradients bear and weights of samples do not.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
