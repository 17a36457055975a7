"""What rows of the table `sbg` will cost: rough core-seconds, to plan by."""

from gibbsian.bench.sbg_ablations import SIZES
from gibbsian.bench.sbg_proposals import PROPOSALS, ProposalRecipe, forward_seconds
from gibbsian.bench.sbg_work import PLAIN, Budget

ATOMS = {"ACE-ALA-NME": 22, "AAA": 33, "ACE-AAA-NME": 42, "AAAAAA": 63, "chignolin": 138, "CLN025": 166}
"""Atoms of each system, which is slow to build."""

RATES = {"ACE-ALA-NME": 160.0, "AAA": 84.0, "ACE-AAA-NME": 62.0, "AAAAAA": 28.0, "chignolin": 5.5, "CLN025": 4.0}
"""Nanoseconds of replica exchange per core and minute, from the table `dynamics` and the references."""

DRAW, STEP, GRADIENT = 2.0, 3.5, 2.2
"""Costs of a draw with its density, of a training step and of a density with its gradient, each for a conformation and
in densities."""

SAMPLES_COMPARED, TRANSPORT_ONCE = 4.0, 70.0
"""Seconds of the distances of an ensemble, and of one T-W2 of 10,000 samples with its floor."""


def estimate(system: str, row: str, budget: Budget) -> float:
    """Core-seconds of a row once the data, reference and training that it needs are there."""
    n_atoms = ATOMS[system]
    if row.startswith("data"):
        each = 1.1 * 60 * budget.dynamics.ns / RATES[system]
        return 2 * each + 20 if row == "data" else 40 * budget.contiguous_ns if row == "data-contiguous" else 30
    if row.startswith("speed."):
        return 60.0
    if row.startswith("ablation-"):
        return _ablation(row.removeprefix("ablation-"), forward_seconds(PROPOSALS["soft"], n_atoms))
    label, _, rest = row.partition(".")
    recipe = PROPOSALS[label.partition("-")[0]]
    what, _, size = rest.partition("@")
    f = forward_seconds(recipe, n_atoms)
    steps = budget.steps if label in PROPOSALS else budget.few_steps
    training = _training(recipe, steps, f)
    if what == "training":
        return training
    if what == "curve":
        return len(budget.curve) * f * (DRAW * min(recipe.draws or budget.draws) + 2_000)
    if what == "replica-exchange":
        return training + DRAW * f * max(recipe.draws or budget.draws)
    n = int(size.replace("k", "000"))
    return _method(what, n, f, recipe, budget)


def _training(recipe: ProposalRecipe, steps: int, f: float) -> float:
    """Both stages, where there are two, and the samples that the second learns from."""
    steps = round(recipe.steps * steps) * (3 if recipe.refit else 1)
    return steps * recipe.batch * STEP * f + DRAW * f * recipe.refit


def _method(what: str, n: int, f: float, recipe: ProposalRecipe, budget: Budget) -> float:
    if what in PLAIN:
        # The draws are those of the smaller row of the same kind, or of the other row of the same size.
        each = 0.0 if what == "snis" else DRAW * n * f
    else:
        moves = {"smc-rwm": 1.0, "smc-regen": DRAW, "smc-hmc": 5 * GRADIENT, "smc": GRADIENT + DRAW}
        each = n * f * (DRAW + budget.levels * moves.get(what, GRADIENT))
        if what == "exchange":
            each = 5 * DRAW * n * f + n * 0.02
    once = TRANSPORT_ONCE if budget.transported_once else 0.0
    return budget.seeds_of(what, n, recipe.draws or budget.draws) * (each + SAMPLES_COMPARED) + 20 + once


def _ablation(row: str, f: float) -> float:
    name, _, rest = row.partition(".")
    if name == "steps":
        return SIZES.particles * f * (DRAW + GRADIENT * int(rest.rpartition("K")[2])) + 20
    if name == "tau":
        return SIZES.seeds * SIZES.tau_particles * f * (DRAW + GRADIENT * SIZES.tau_levels) + 20
    if name == "kernel":
        calls = SIZES.kernel_calls
        return SIZES.kernel_seeds * SIZES.kernel_particles * f * (DRAW + GRADIENT * calls) + 60
    if name == "com":
        return int(rest.removeprefix("N")) * DRAW * f + 60
    return max(SIZES.draws) * DRAW * f + 10
