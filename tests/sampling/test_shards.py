import numpy as np
import pytest
import torch

from gibbsian.errors import OutOfMemoryError
from gibbsian.sampling.shards import in_shards, out_of_memory, within_memory
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.toy_proposals import LoosePair
from gibbsian.testing.toys import DoubleWell, toy_system

TOPOLOGY = toy_system(np.zeros((2, 3))).topology
SETTINGS = SmcSettings(chunk=100, conditional_ess=0.7, regen=None)


class Small(Boltzmann):
    """A target whose memory holds a few conformations at a time."""

    most = 30

    def __init__(self) -> None:
        super().__init__(DoubleWell(), 300.0)

    def u(self, x):
        if len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate a lot")
        return super().u(x)

    def u_and_grad(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().u_and_grad(x)


def anneal(target, n=250):
    return sample_smc(LoosePair(), target, n, topology=TOPOLOGY, temperature=300.0, settings=SETTINGS)


def test_pieces_come_back_in_their_order():
    assert in_shards(range(5), lambda k: k * k) == [0, 1, 4, 9, 16]


def test_work_is_halved_until_it_fits():
    tried = []

    def work(rows: slice) -> int:
        tried.append((rows.start, rows.stop))
        if rows.stop - rows.start > 4:
            raise MemoryError
        return rows.stop - rows.start

    assert within_memory(10, work, "work") == [3, 3, 3, 1]
    assert tried == [(0, 10), (0, 5), (0, 3), (3, 6), (6, 9), (9, 10)]


def test_other_errors_are_not_swallowed():
    def work(rows: slice) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        within_memory(4, work, "work")
    assert not out_of_memory(RuntimeError("shapes differ"))


def test_annealing_goes_on_in_smaller_pieces(monkeypatch):
    monkeypatch.setattr("gibbsian.sampling.smc.PILOT", 20)
    found = anneal(Small())
    wanted = anneal(Boltzmann(DoubleWell(), 300.0))
    assert len(found) == 250
    assert np.isfinite(found.log_w).all()
    error = np.hypot(found.log_z.error, wanted.log_z.error)
    assert abs(found.log_z.value - wanted.log_z.value) < 4 * error


def test_annealing_ends_where_nothing_fits(monkeypatch):
    monkeypatch.setattr(Small, "most", 0)
    with pytest.raises(OutOfMemoryError, match="sequential Monte Carlo: one conformation"):
        anneal(Small())
