import numpy as np
import pytest
import torch

from gibbsian.dynamics.mbar import temperature_weights
from gibbsian.errors import GibbsianError
from gibbsian.testing.toys import GaussianWell
from gibbsian.units import kt

SOLVER = ({"method": "adaptive", "options": {"min_sc_iter": 5}},)


def frames(temperatures: list[float], n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Exact samples of one atom in a harmonic well at each temperature; energies, counts, betas."""
    generator = torch.Generator().manual_seed(3)
    thermal = torch.tensor([kt(t) for t in temperatures], dtype=torch.float64)
    x = torch.randn(len(temperatures), n, 3, dtype=torch.float64, generator=generator)
    energy = 0.5 * thermal[:, None] * x.square().sum(-1)
    return energy.flatten(), torch.full((len(temperatures),), n), 1.0 / thermal


@pytest.mark.physics
@pytest.mark.parametrize("target", [300.0, 380.0])
def test_weights_recover_a_gaussian_at_another_temperature(target: float) -> None:
    energy, counts, betas = frames([300.0, 450.0, 700.0], 20_000)
    log_w, f = temperature_weights(energy, counts, betas, 1.0 / kt(target))
    assert float(log_w.exp().sum()) == pytest.approx(1.0)
    assert float((log_w.exp() * energy).sum()) == pytest.approx(1.5 * kt(target), rel=0.02)
    well = GaussianWell()
    exact = [well.log_z(300.0) - well.log_z(t) for t in (300.0, 450.0, 700.0)]
    assert np.allclose(f.numpy(), exact, atol=0.02)


def test_agrees_with_pymbar() -> None:
    mbar = pytest.importorskip("pymbar.mbar")
    energy, counts, betas = frames([300.0, 500.0], 500)
    log_w, f = temperature_weights(energy, counts, betas, float(betas[0]))
    other = mbar.MBAR(np.outer(betas, energy), counts.numpy(), solver_protocol=SOLVER)
    assert np.allclose(f.numpy(), other.f_k - other.f_k[0], atol=1e-6)
    assert np.allclose(log_w.exp().numpy(), other.W_nk[:, 0], rtol=1e-4)


def test_one_temperature_gives_equal_weights_and_offsets_do_not_matter() -> None:
    energy, counts, betas = frames([300.0], 50)
    log_w, _ = temperature_weights(energy - 1e6, counts, betas, float(betas[0]))
    assert torch.allclose(log_w.exp(), torch.full((50,), 0.02, dtype=torch.float64))


def test_states_without_overlap_are_refused_or_solved_but_never_nan() -> None:
    energy = torch.cat([torch.randn(50), torch.randn(50) + 1e5]).double()
    try:
        log_w, _ = temperature_weights(energy, torch.tensor([50, 50]), torch.tensor([1.0, 0.1]), 1.0)
    except GibbsianError:
        return
    assert not log_w.isnan().any()
