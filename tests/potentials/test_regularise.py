"""Tamed energies."""

import torch

from gibbsian.potentials.regularise import regularise


def test_pieces_and_gradients() -> None:
    u = torch.tensor([-5.0, 10.0, 12.0, 1e3, 1e9, torch.inf, torch.nan], dtype=torch.float64, requires_grad=True)
    value = regularise(u, u_hi=10.0, u_max=1e6)
    expected = torch.tensor([-5.0, 10.0, 10.0 + torch.log(torch.tensor(3.0)), 10.0 + torch.log(torch.tensor(991.0))])
    torch.testing.assert_close(value[:4].detach(), expected.double(), rtol=1e-6, atol=0.0)
    assert value[4] == regularise(torch.tensor([1e6], dtype=torch.float64), 10.0, 1e6)[0]
    assert value[5] == torch.inf
    assert value[6].isnan()
    (gradient,) = torch.autograd.grad(value[:5].sum(), u)
    torch.testing.assert_close(gradient[:5], torch.tensor([1.0, 1.0, 1 / 3, 1 / 991, 0.0]).double())
