import numpy as np
import pytest
import torch

from gibbsian.chem.system import System
from gibbsian.chem.topology import Topology
from gibbsian.dynamics.langevin import repartition
from gibbsian.dynamics.starts import diverse_starts, structure_signs
from gibbsian.errors import GibbsianError
from gibbsian.potentials import potential
from gibbsian.potentials.base import Integrator


@pytest.fixture(scope="module")
def dipeptide() -> System:
    return System.from_sequence("ACE-ALA-NME", forcefield="amber99sbildn", solvent="amber99_obc")


def test_a_mirror_image_flips_every_centre_and_no_peptide_bond(dipeptide: System) -> None:
    x = torch.from_numpy(dipeptide.positions)[None]
    signs = structure_signs(x, dipeptide.topology)
    mirrored = structure_signs(x * torch.tensor([1.0, 1.0, -1.0]), dipeptide.topology)
    assert signs.shape == (1, 4 + 2)  # two methyl caps, CA, CB; two peptide bonds
    assert torch.equal(mirrored[:, :4], -signs[:, :4])
    assert torch.equal(mirrored[:, 4:], signs[:, 4:])
    assert (signs[:, 4:] == -1).all()


def test_a_turned_peptide_bond_is_seen(dipeptide: System) -> None:
    topology = dipeptide.topology
    c, n = topology.find(0, "C"), topology.find(1, "N")
    assert c is not None
    assert n is not None
    x = dipeptide.positions.copy()
    axis = (x[n] - x[c]) / np.linalg.norm(x[n] - x[c])
    cap = topology.atoms_of(0)
    arms = x[cap] - x[c]
    x[cap] = x[c] + 2 * np.outer(arms @ axis, axis) - arms  # half a turn about C-N
    signs = structure_signs(torch.from_numpy(x)[None], topology)
    assert signs[0, 4:].tolist() == [1.0, -1.0]


def test_starts_are_diverse_relaxed_and_intact(dipeptide: System) -> None:
    energies = potential(dipeptide, dtype=torch.float32)
    masses = repartition(dipeptide.parameters.masses, dipeptide.topology.elements, dipeptide.topology.bonds)
    first = torch.from_numpy(dipeptide.positions).float()
    starts = diverse_starts(
        first,
        16,
        dipeptide.topology,
        energies,
        Integrator(torch.from_numpy(masses)),
        torch.Generator().manual_seed(0),
        n_steps=600,
    )
    wanted = structure_signs(first[None], dipeptide.topology)
    assert (structure_signs(starts, dipeptide.topology) == wanted).all()
    spread = torch.pdist(torch.cdist(starts, starts).flatten(1))
    assert spread.min() > 1e-3
    assert (energies.energy(starts) < energies.energy(first[None]) + 50.0).all()


def test_hopeless_conditions_are_reported(dipeptide: System) -> None:
    class Broken:
        n_atoms = dipeptide.n_atoms
        calls = 0

        def energy(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x),), torch.inf)

        def energy_and_force(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.energy(x), torch.zeros_like(x)

    with pytest.raises(GibbsianError, match="start structures"):
        diverse_starts(
            torch.from_numpy(dipeptide.positions).float(),
            2,
            dipeptide.topology,
            Broken(),
            Integrator(torch.ones(dipeptide.n_atoms)),
            torch.Generator().manual_seed(0),
            n_steps=2,
        )


def test_starts_that_lose_their_fold_are_replaced(dipeptide: System, monkeypatch: pytest.MonkeyPatch) -> None:
    energies = potential(dipeptide, dtype=torch.float32)
    relaxed: list[np.ndarray] = []

    def every_other(topology: Topology, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        relaxed.append(x)
        return np.where(np.arange(len(x)) % 2, 0.7, 0.9)

    monkeypatch.setattr("gibbsian.dynamics.starts.kept_structure", every_other)
    starts = diverse_starts(
        torch.from_numpy(dipeptide.positions).float(),
        8,
        dipeptide.topology,
        energies,
        Integrator(torch.from_numpy(dipeptide.parameters.masses)),
        torch.Generator().manual_seed(0),
        temperature=400.0,
        n_steps=100,
        structure=0.8,
    ).numpy()
    (given,) = relaxed
    assert np.array_equal(starts[::2], given[::2])
    for start in starts[1::2]:
        assert any(np.array_equal(start, kept) for kept in given[::2])
