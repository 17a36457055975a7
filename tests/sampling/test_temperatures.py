import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.ensemble.temperatures import reweighted
from gibbsian.errors import InputError, StoppedError
from gibbsian.evaluate.temperatures import against_temperature, heat_capacity, mean_energy
from gibbsian.sampling.temperatures import temperature_scan
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.reports import stop_at
from gibbsian.testing.toys import HarmonicMolecule, toy_system
from gibbsian.units import BOLTZMANN, kt

N_ATOMS = 4
TEMPERATURES = (300.0, 450.0, 600.0)
SYSTEM = toy_system(np.zeros((N_ATOMS, 3)))


@dataclass(eq=False)
class Gaussian:
    """Mean-free normal coordinates, a tenth wider than the springs at its temperature."""

    molecule: HarmonicMolecule
    temperature: float = 300.0
    n_atoms: int = N_ATOMS

    def at(self, temperature: float) -> "Gaussian":
        if not 300 <= temperature <= 600:
            raise InputError(f"toy: got {temperature}")
        return Gaussian(self.molecule, temperature)

    @property
    def width(self) -> float:
        return 1.1 * math.sqrt(kt(self.temperature) / (self.molecule.k * N_ATOMS))

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.width * torch.randn(n, N_ATOMS, 3, generator=generator, dtype=torch.float64)
        x = x - x.mean(1, keepdim=True)
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        norm = 1.5 * (N_ATOMS - 1) * math.log(2 * math.pi * self.width**2)
        return -0.5 * x.square().sum((1, 2)) / self.width**2 - norm

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_prob(x), -x / self.width**2

    def log_gauge(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.float64)


def scanned(n: int = 20_000, **options):
    molecule = HarmonicMolecule(N_ATOMS)
    target = Boltzmann(molecule, 300.0)
    return temperature_scan(Gaussian(molecule), target, TEMPERATURES, n, topology=SYSTEM.topology, **options)


def test_log_z_energy_and_heat_capacity_of_springs_at_every_temperature():
    molecule = HarmonicMolecule(N_ATOMS)
    modes = 3 * (N_ATOMS - 1)
    for found, temperature in zip(scanned(), TEMPERATURES, strict=True):
        assert found.temperature == temperature
        log_z = found.log_z
        assert abs(log_z.value - molecule.log_z(temperature)) < 4 * log_z.error < 0.1
        energy, capacity = mean_energy(found), heat_capacity(found)
        assert abs(energy.value - 0.5 * modes * kt(temperature)) < 4 * energy.error
        assert abs(capacity.value - 0.5 * modes * BOLTZMANN) < 4 * capacity.error
        assert capacity.error < 0.05 * capacity.value


def test_error_of_the_heat_capacity_is_that_of_repeats():
    found = [scanned(500, seed=seed)[1] for seed in range(60)]
    capacities = [heat_capacity(ensemble) for ensemble in found]
    spread = float(np.std([capacity.value for capacity in capacities], ddof=1))
    assert 0.7 < np.mean([capacity.error for capacity in capacities]) / spread < 1.4


def test_a_scan_resumes_from_its_folder(tmp_path):
    whole = scanned(400, chunk=100)
    with pytest.raises(StoppedError):
        scanned(400, chunk=100, folder=tmp_path, report=stop_at(6))
    resumed = scanned(400, chunk=100, folder=tmp_path)
    assert (tmp_path / "450K").is_dir()
    assert all(np.array_equal(a.log_w, b.log_w) for a, b in zip(whole, resumed, strict=True))
    assert not np.array_equal(whole[0].log_w, whole[1].log_w)


@pytest.mark.parametrize("temperatures", [(), (300.0, 300.0), (300.0, 700.0)])
def test_wrong_temperatures_are_refused(temperatures):
    molecule = HarmonicMolecule(N_ATOMS)
    with pytest.raises(InputError, match="got"):
        temperature_scan(Gaussian(molecule), Boltzmann(molecule, 300.0), temperatures, 10, topology=SYSTEM.topology)


def test_hot_samples_reweighted_to_the_cold_agree_with_cold_ones():
    cold, _, hot = scanned()
    moved = reweighted(hot, 300.0)
    assert moved.temperature == 300.0
    first, second = mean_energy(cold), mean_energy(moved)
    assert abs(first.value - second.value) < 4 * math.hypot(first.error, second.error)
    assert moved.u is not None
    assert hot.u is not None
    assert np.allclose(moved.u * 300.0, hot.u * 600.0)


def test_rows_rise_in_temperature_and_data_keep_to_their_own_ladder():
    scan = scanned(2000)
    ladder = {"settings": {"temperatures": [250.0, 500.0, 600.0]}}
    data = replace(scan[2], provenance=ladder, log_q=None)
    rows = against_temperature(scan[::-1], data)
    assert [row["temperature"] for row in rows["model"]] == list(TEMPERATURES)
    assert [row["temperature"] for row in rows["data"]] == [500.0, 600.0]
    assert all(row["reliable"] for row in rows["model"])
    assert rows["data"][0]["log_z"] is None
    assert not against_temperature([ensemble.take(slice(50)) for ensemble in scan])["model"][0]["reliable"]
