"""A chain of five atoms, small flows of it, and data for them."""

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.models.tarflow import TarFlow
from gibbsian.models.tarflow_config import TarFlowConfig

N_ATOMS = 5
SMALL = TarFlowConfig(blocks=2, depth=2, width=16, head=8, frame=(1, 0, 2))
CHAIN = Topology(
    atom_names=("C1", "C2", "C3", "C4", "F1"),
    elements=("C", "C", "C", "C", "F"),
    residue_index=np.zeros(5, dtype=np.int64),
    residue_names=("MOL",),
    residue_ids=("1",),
    bonds=np.array([[0, 1], [1, 2], [2, 3], [2, 4]]),
)


def metropolis(target, n: int) -> Tensor:
    """Samples of a stiff target by many short chains from its minimum."""
    g = torch.Generator().manual_seed(0)
    x = target.ideal.repeat(n, 1, 1)
    u = target.u(x)
    for _ in range(300):
        y = x + 0.004 * torch.randn(x.shape, generator=g, dtype=x.dtype)
        u_y = target.u(y)
        accepted = torch.rand(n, generator=g, dtype=x.dtype) < torch.exp(u - u_y)
        x, u = torch.where(accepted[:, None, None], y, x), torch.where(accepted, u_y, u)
    return x


def fitted(data: Tensor, config: TarFlowConfig, steps: int = 150, topology: Topology = CHAIN) -> TarFlow:
    made = TarFlow.from_data(topology, data, config=config)
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    g = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = made.augment(data[torch.randint(len(data), (256,), generator=g)], g)
        loss = -made.log_prob(batch).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return made
