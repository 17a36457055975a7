import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, OutOfMemoryError, StoppedError
from gibbsian.sampling.importance import log_weights, sample_snis, stream
from gibbsian.testing.proposal import check_proposal
from gibbsian.testing.reports import stop_at
from gibbsian.testing.sampling import (
    Broken,
    MixtureProposal,
    SamplingOnly,
    Stray,
    broad_proposal,
    check_log_z,
    check_sampler,
    mixture_target,
)
from gibbsian.testing.toy_proposals import Bent, DriftingPair, LoosePair
from gibbsian.testing.toys import toy_system

TOPOLOGY = toy_system(np.zeros((1, 3))).topology


def draw(proposal, target, n, seed=0, **options) -> Ensemble:
    return sample_snis(proposal, target, n, topology=TOPOLOGY, temperature=300.0, seed=seed, **options)


def same(a: Ensemble, b: Ensemble) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("positions", "log_w", "u", "log_q"))


def test_conformance():
    check_sampler(lambda proposal, target, n, seed: draw(proposal, target, n, seed))


def test_log_z_of_toys():
    def sampler(proposal, target, n, seed):
        topology = toy_system(np.zeros((target.n_atoms, 3))).topology
        return sample_snis(proposal, target, n, topology=topology, temperature=300.0, seed=seed)

    check_log_z(sampler, n=4000)


@pytest.mark.parametrize("proposal", [Bent(), LoosePair(), DriftingPair()], ids=lambda p: type(p).__name__)
def test_toy_proposals_conform(proposal):
    check_proposal(proposal, n=200)


def test_gauge_enters_the_weight():
    class Gauged(MixtureProposal):
        def log_gauge(self, x):
            return torch.full((len(x),), 0.7, dtype=torch.float64)

    _, target = mixture_target()
    plain = draw(broad_proposal(), target, 500)
    gauged = draw(Gauged(broad_proposal().mixture), target, 500)
    assert np.allclose(gauged.log_w - plain.log_w, 0.7)
    assert np.array_equal(gauged.u, plain.u)


def test_interrupted_run_equals_undisturbed(tmp_path):
    _, target = mixture_target()
    whole = draw(broad_proposal(), target, 950, folder=tmp_path / "a", chunk=200)

    with pytest.raises(StoppedError):
        draw(broad_proposal(), target, 950, folder=tmp_path / "b", chunk=200, report=stop_at(400))
    # A kill between the two files of a chunk, and a damaged file.
    (tmp_path / "b" / "positions-00002.npy").write_bytes(b"half")
    (tmp_path / "b" / "numbers-00001.npy").write_bytes(b"")
    resumed = draw(broad_proposal(), target, 950, folder=tmp_path / "b", chunk=200)
    assert same(whole, resumed)
    assert resumed.provenance == whole.provenance
    assert same(whole, draw(broad_proposal(), target, 950, chunk=200))


def test_killed_process_resumes_bitwise(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_importance import broad_proposal, draw, mixture_target

def kill(done, total, /, **figures):
    if done >= 300:
        os.kill(os.getpid(), signal.SIGKILL)

draw(broad_proposal(), mixture_target()[1], 500, folder=Path(sys.argv[2]), chunk=100, report=kill)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    ended = subprocess.run(command, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len(list(tmp_path.glob("numbers-*.npy"))) == 3
    _, target = mixture_target()
    resumed = draw(broad_proposal(), target, 500, folder=tmp_path, chunk=100)
    assert same(resumed, draw(broad_proposal(), target, 500, chunk=100))


def test_finished_chunks_are_not_computed_again(tmp_path):
    mixture, target = mixture_target()
    draw(broad_proposal(), target, 600, folder=tmp_path, chunk=200)
    calls = mixture.calls
    draw(broad_proposal(), target, 600, folder=tmp_path, chunk=200)
    assert mixture.calls == calls == 600
    longer = draw(broad_proposal(), target, 1000, folder=tmp_path, chunk=200)
    assert mixture.calls == 1000
    assert same(longer, draw(broad_proposal(), target, 1000, chunk=200))


def test_top_up_until_ess():
    _, target = mixture_target()
    few = draw(broad_proposal(), target, 400, chunk=200)
    wanted = few.ess + 150
    more = draw(broad_proposal(), target, 400, chunk=200, until_ess=wanted)
    assert more.ess >= wanted
    assert len(more) % 200 == 0
    assert same(few, more.take(np.arange(400)))
    capped = draw(broad_proposal(), target, 400, chunk=200, until_ess=500, n_max=500)
    assert len(capped) == 500


def test_non_finite_energies_and_coordinates_are_counted():
    _, target = mixture_target()
    ensemble = draw(Stray(broad_proposal().mixture), Broken(target, 0.0), 1000, chunk=1000)
    assert ensemble.log_w[0] == -np.inf
    assert np.isfinite(ensemble.positions).all()
    assert ensemble.provenance["non_finite"] == np.isneginf(ensemble.log_w).sum() > 100
    assert np.isfinite(ensemble.ess)


def test_weights_of_broken_numbers():
    numbers = np.array([[1.0, np.nan, -np.inf, 1.0], [2.0, 2.0, 2.0, np.inf], [0.5] * 4])
    assert log_weights(numbers).tolist() == [-2.5, -np.inf, -np.inf, -np.inf]


def test_memory_is_halved():
    sizes = []

    class Hungry(MixtureProposal):
        def sample(self, n, generator):
            sizes.append(n)
            if n > 300:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate a lot")
            return super().sample(n, generator)

    _, target = mixture_target()
    hungry = Hungry(broad_proposal().mixture)
    ensemble = draw(hungry, target, 1000, chunk=1000)
    assert sizes == [1000, 500, 250, 250, 250, 250]
    assert len(ensemble) == len(np.unique(ensemble.log_w)) == 1000
    assert abs(ensemble.log_z.value - 2.0) < 5 * ensemble.log_z.error


def test_out_of_memory_in_the_end():
    class Insatiable(MixtureProposal):
        def sample(self, n, generator):
            raise MemoryError

    class Buggy(MixtureProposal):
        def sample(self, n, generator):
            raise RuntimeError("shapes do not match")

    _, target = mixture_target()
    with pytest.raises(OutOfMemoryError):
        draw(Insatiable(broad_proposal().mixture), target, 10, chunk=10)
    with pytest.raises(RuntimeError, match="shapes"):
        draw(Buggy(broad_proposal().mixture), target, 10, chunk=10)


def test_bad_input(tmp_path):
    _, target = mixture_target()
    with pytest.raises(InputError, match="SamplingOnly"):
        draw(SamplingOnly(broad_proposal()), target, 10)
    with pytest.raises(InputError, match="n = 0"):
        draw(broad_proposal(), target, 0)
    with pytest.raises(InputError, match="n_max"):
        draw(broad_proposal(), target, 10, until_ess=1000)
    draw(broad_proposal(), target, 10, folder=tmp_path, chunk=10)
    with pytest.raises(InputError, match="use another folder"):
        draw(broad_proposal(), target, 10, folder=tmp_path, chunk=10, seed=1)


def test_streams_differ():
    seeds = {stream(seed, index, 0) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400
