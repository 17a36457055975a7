import numpy as np

from gibbsian.ensemble.profiles import angle_profile
from gibbsian.report import torsions
from gibbsian.report.svg import DATA, INK
from gibbsian.report.torsions import Marginal


def test_free_energy_surface_of_a_known_density():
    rng = np.random.default_rng(0)
    phi, psi = rng.vonmises(1.0, 2.0, 400_000), rng.vonmises(-2.5, 1.0, 400_000)
    surface = torsions.free_energy_surface(phi, psi, np.ones(len(phi)))
    centres = -np.pi + 2 * np.pi * (np.arange(len(surface)) + 0.5) / len(surface)
    exact = -2.0 * np.cos(centres - 1.0)[None, :] - np.cos(centres + 2.5)[:, None]
    exact -= exact.min()
    assert surface.min() == 0
    shallow = exact < 3.0
    assert np.abs(surface - exact)[shallow].mean() < 0.06


def test_free_energy_surface_uses_weights_and_periodicity():
    phi = np.array([np.pi - 0.01, -np.pi + 0.01, 0.0])
    surface = torsions.free_energy_surface(phi, np.zeros(3), np.array([1.0, 1.0, 2 * np.e**-1]), bins=60)
    row = surface[30]
    np.testing.assert_allclose(row[0], row[59], atol=1e-9)
    assert row[30] - row[0] > 0  # two neighbours across the seam are one state, deeper than the third
    assert np.isinf(surface[0, 15])


def marginal(title: str, colour: str, share: float) -> Marginal:
    phi = np.random.default_rng(0).normal(-1.5, 0.5, 400)
    basins = {"left": (share, 0.01), "alpha": (0.4, 0.02), "beta": (0.6 - share, float("inf"))}
    return Marginal(title, colour, angle_profile(phi, np.zeros(400)), basins)


def test_a_basin_that_was_never_seen_is_marked_at_the_edge():
    svg = torsions.phi_marginals([marginal("data", DATA, 0.02), marginal("flow", INK, 0.0)], "ALA2")
    assert ">data<" in svg
    assert ">flow<" in svg
    assert "var(--paper)" in svg  # the hollow triangle
    assert "var(--paper)" not in torsions.phi_marginals([marginal("data", DATA, 0.02)], "ALA2")


def test_four_panels_share_an_axis():
    surface = torsions.free_energy_surface(np.zeros(9), np.zeros(9), np.ones(9))
    svg = torsions.ramachandran([(f"panel {k}", surface) for k in range(4)], "ALA2")
    assert all(f"panel {k}" in svg for k in range(4))
    assert svg.count("ψ / °") == 1
