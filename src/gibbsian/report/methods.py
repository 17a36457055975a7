"""The methods paragraph of a run, one sentence for each thing that was done."""

from collections.abc import Mapping, Sequence
from typing import Any

from gibbsian.report.rounding import grouped, plain

_FORCEFIELDS = {
    "amber96": "Amber ff96",
    "amber99sbildn": "Amber ff99SB-ILDN",
    "amber14": "Amber ff14SB",
    "amber19": "Amber ff19SB",
    "charmm36": "CHARMM36",
}
_SOLVENTS = {
    "amber96_obc": "the OBC generalised Born model (radii of amber96_obc)",
    "amber99_obc": "the OBC generalised Born model (radii of amber99_obc)",
    "hct": "the HCT generalised Born model",
    "obc1": "the OBC generalised Born model (I)",
    "obc2": "the OBC generalised Born model (II)",
    "gbn": "the GBn generalised Born model",
    "gbn2": "the GBn2 generalised Born model",
    "vacuum": "vacuum",
}


def methods(results: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Return the paragraph; what the run does not state is left out.

    Parameters
    ----------
    results, info
        As in `gibbsian.report.page.write_report`.
    """
    sentences = [
        *_system(info.get("system") or {}),
        *(_simulation(info["simulation"]) if info.get("simulation") else _imported(info)),
        *_model(info.get("recipe"), info.get("training") or {}),
        *_sampling(results, info),
    ]
    return " ".join(sentences)


def _system(system: Mapping[str, Any]) -> list[str]:
    if not system:
        return []
    forcefield = _FORCEFIELDS.get(str(system.get("forcefield")), str(system.get("forcefield")))
    solvent = _SOLVENTS.get(str(system.get("solvent")), str(system.get("solvent")))
    cutoff = system.get("cutoff")
    reach = "without a cutoff" if cutoff is None else f"with a non-bonded cutoff of {plain(cutoff)} nm"
    atoms = f" ({grouped(system['n_atoms'])} atoms)" if system.get("n_atoms") else ""
    return [
        f"{system.get('sequence')}{atoms} was described by the {forcefield} force field in {solvent}, "
        f"{reach}, at {plain(system.get('temperature'))} K.",
        *[f"{change.rstrip('.')}." for change in system.get("changes") or ()],
    ]


def _simulation(simulation: Mapping[str, Any]) -> list[str]:
    temperatures: Sequence[float] = simulation.get("temperatures") or ()
    if not temperatures:
        return []
    text = (
        f"Training data came from temperature replica exchange with {len(temperatures)} temperatures between "
        f"{plain(min(temperatures))} and {plain(max(temperatures))} K"
    )
    if simulation.get("ladders"):
        text += f" in {simulation['ladders']} independent ladders"
    if simulation.get("aggregate_ns"):
        text += f", {plain(simulation['aggregate_ns'], 3)} ns in all"
    sentences = [text + "."]
    if simulation.get("timestep"):
        friction = f" and a friction of {plain(simulation['friction'])} per ps" if simulation.get("friction") else ""
        sentences.append(
            "The integrator was Langevin-middle with a time step of "
            f"{plain(1000 * simulation['timestep'])} fs{friction}, flexible bonds and a hydrogen mass of 4 Da."
        )
    if simulation.get("frames"):
        sentences.append(f"In all, {grouped(simulation['frames'])} frames were kept.")
    return sentences


def _imported(info: Mapping[str, Any]) -> list[str]:
    return ["Training data were given by the user."] if info.get("training") else []


_CONTINUOUS = (
    "an equivariant continuous normalizing flow{size} over Cartesian coordinates, whose divergence was integrated "
    "exactly and which was folded onto the handedness of the data, as in "
)
_SPLINE = (
    "a coupling flow{size} over all bond lengths, angles and torsions, factorised as "
    "q(torsions) q(angles | torsions) q(bonds | angles, torsions), with rational-quadratic splines that "
    "are circular for proper torsions"
)
_PROPOSALS = {
    "spline": _SPLINE,
    "thermal": _SPLINE + ", and conditioned on temperature",
    "sbg": "an autoregressive transformer flow{size} over the Cartesian coordinates of all atoms (TarFlow), as in "
    "Sequential Boltzmann Generators",
    "ecnf": _CONTINUOUS + "Transferable Boltzmann Generators (ECNF)",
    "ecnf_plus": _CONTINUOUS + "Sequential Boltzmann Generators (ECNF++)",
    "split-flow": "a coupling flow{size} over the bond angles and torsions of the backbone and the torsions of side "
    "chains, with rational-quadratic splines from gated attention and a channel for the backbone of its own; a "
    "completion drew all other coordinates, and the weights are those of all atoms",
    "eacf": "an augmented coupling flow{size} over Cartesian and auxiliary coordinates, invariant under rigid motions "
    "(SE(3)-EACF); samples carry the weights of both together",
}


def _model(recipe: str | None, training: Mapping[str, Any]) -> list[str]:
    if recipe not in _PROPOSALS:
        return []
    size = f" with {grouped(training['parameters'])} parameters" if training.get("parameters") else ""
    sentences = [f"The proposal was {_PROPOSALS[recipe].format(size=size)}."]
    if training.get("stages"):
        stages = ", then ".join(_stage(stage) for stage in training["stages"])
        best = any(stage["keep"] == "best" for stage in training["stages"])
        sentences.append(
            f"It was trained by {stages}, with AdamW, a cosine learning-rate schedule{',' if best else ' and'} "
            f"an exponential moving average of the weights{' and early stopping on held-out frames' if best else ''}."
        )
    return sentences


_LIKELIHOOD = "maximum likelihood"
_W2 = f"{_LIKELIHOOD} with the 2-Wasserstein distance of backbone distances"
_STAGES = {
    "nll": _LIKELIHOOD,
    "nll+w2": _W2,
    "nll+w2+kl": f"{_W2} and reverse KL divergence",
    "nll+kl": f"{_LIKELIHOOD} with reverse KL divergence",
    "match": "flow matching",
    "refit": "refitting to its own reweighted samples",
}


def _stage(stage: Mapping[str, Any]) -> str:
    name = _STAGES.get(str(stage["name"]), str(stage["name"]))
    return f"{name} ({'up to ' if stage['keep'] == 'best' else ''}{grouped(stage['steps'])} steps)"


def _sampling(results: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    proposed = (results.get("samples") or {}).get("proposed")
    if not proposed or not info.get("recipe"):
        return []
    samples = results["samples"]
    if samples.get("method") == "exchange":
        return [
            f"Then {grouped(proposed)} samples were taken from replica exchange with exact Metropolis moves, whose "
            "coldest replicas were offered draws of the flow, accepted with min(1, w′/w), w = exp(−u)/q.",
            "All have equal weights.",
            "Their effective number is that of independent samples by the correlation in time of the energy and of "
            "interatomic distances.",
        ]
    how = "weighted by w = exp(−u)/q (self-normalised importance sampling)"
    if samples.get("method") == "smc":
        how = (
            "annealed to the Boltzmann distribution by sequential Monte Carlo, and carry the weights of the end; where "
            "particles were resampled, the effective number counts their ancestors"
        )
    if samples.get("method") == "langevin":
        weights = "no weights at all" if samples.get("weighted") is False else "the weights of their whole paths"
        how = f"moved by Langevin steps on the energy of the molecule alone, and carry {weights}"
    return [
        f"Then {grouped(proposed)} samples of the flow were {how}; no weight was clipped unless said above.",
        "The effective sample size is (Σw)²/Σw², the tail of the weights is judged by the Pareto k-hat of "
        "PSIS, and log Z is given in the mean-free orthonormal measure in nm.",
    ]
