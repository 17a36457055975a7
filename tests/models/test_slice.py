"""The slice of a split flow as a proposal: exact weights for the conditional target."""

import math

import torch

from gibbsian.chem.library import built_in
from gibbsian.coords.prior import draw_prior
from gibbsian.models.slice import SliceProposal
from gibbsian.models.split_flow import SplitFlow, SplitFlowConfig
from gibbsian.sampling.importance import sample_snis
from gibbsian.targets.conditional import ConditionalTarget
from gibbsian.workflow.system import target_of

SYSTEM = built_in("ACE-ALA-NME")
SMALL = SplitFlowConfig(backbone=2, full=2, bins=4, width=16, key=8, value=16)


def proposal() -> SliceProposal:
    start = torch.from_numpy(SYSTEM.positions).double()
    x = draw_prior(SYSTEM.topology, start, 300.0, 2000, torch.Generator().manual_seed(0))
    flow = SplitFlow.from_data(SYSTEM.topology, x, config=SMALL)
    with torch.no_grad():
        for parameter in flow.core.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return SliceProposal(flow)


def test_draws_are_on_the_slice_and_their_density_is_that_of_the_path() -> None:
    found = proposal()
    x, log_q = found.rsample(100, torch.Generator().manual_seed(0))
    _, frozen = found.flow.coordinates.from_x(x)
    turn = (frozen - found.flow.c0 + math.pi).remainder(2 * math.pi) - math.pi
    assert turn.abs().max() < 1e-9
    assert torch.allclose(found.log_prob(x), log_q, atol=2e-3)


def test_weights_are_those_of_the_conditional_target() -> None:
    found, target = proposal(), target_of(SYSTEM)
    drawn = sample_snis(found, target, 50, topology=SYSTEM.topology, temperature=300.0, chunk=50)
    y, _ = found.flow.coordinates.from_x(torch.from_numpy(drawn.positions).double())
    conditional = ConditionalTarget(target, found.flow.coordinates, found.flow.c0)
    wanted = (-conditional.u(y) - found.flow.log_prob_free(y)).detach()
    kept = torch.isfinite(wanted) & (wanted > wanted.max() - 40)
    assert kept.any()
    assert torch.allclose(torch.from_numpy(drawn.log_w)[kept], wanted[kept], rtol=1e-4, atol=1e-2)
