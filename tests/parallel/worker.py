"""What the tests of several processes let one and two of them do; run by torchrun, or imported."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from test_loop import Butane, new_flow
from test_tarflow_training import Springs
from test_tarflow_training import new_flow as new_tarflow

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, StoppedError
from gibbsian.parallel.group import first_does, is_first, joined, size
from gibbsian.progress import silent
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.reports import stop_at
from gibbsian.testing.toy_proposals import LoosePair
from gibbsian.testing.toys import DoubleWell, toy_system
from gibbsian.training.loop import train
from gibbsian.training.stages import Stage, TrainSettings

SETTINGS = TrainSettings(evaluate_every=4, checkpoint_every=4, ema=0.9, stop_on="energy", stop_samples=1100)
STAGES = [
    Stage("nll", 8, batch=31, warmup=2),  # not a multiple of two
    Stage("own", 4, batch=32, refit_samples=1100, refit_penalty=0.5, refit_rounds=2, refit_guard=True),
]
SMC = SmcSettings(kernel="mala", chunk=100, threshold=0.9, conditional_ess=0.8)


def trained(kind: str, folder: Path, stop: int = 0) -> torch.nn.Module:
    """Train a toy, or a part of the way."""
    toy = Butane() if kind == "spline" else Springs()
    data = toy.data(400)
    flow = new_flow(data) if isinstance(toy, Butane) else new_tarflow(data).double()
    report = stop_at(stop) if stop and is_first() else silent
    return train(flow, data, STAGES, SETTINGS, folder, report, toy)


def sampled(method: str, folder: Path | None) -> Ensemble:
    """Draw from a toy whose weights differ much."""
    common = {"topology": toy_system(np.zeros((2, 3))).topology, "temperature": 300.0, "folder": folder}
    target = Boltzmann(DoubleWell(), 300.0)
    if method == "snis":
        return sample_snis(LoosePair(), target, 730, chunk=100, until_ess=400, n_max=2000, **common)
    return sample_smc(LoosePair(), target, 730, settings=SMC, **common)


def error_of(stages: list[Stage], folder: Path) -> str:
    """Return the message with which a training is refused."""
    butane = Butane()
    data = butane.data(400)
    try:
        train(new_flow(data), data, stages, SETTINGS, folder, target=butane)
    except InputError as error:
        return str(error)
    return ""


def fail() -> None:
    """Fail as a user's mistake does."""
    raise InputError("only here")


def everything(place: Path) -> None:
    """Do all of it and leave the results in a folder."""
    for kind in ("spline", "tarflow"):
        flow = trained(kind, place / kind)
        if is_first():
            torch.save(flow.state_dict(), place / f"{kind}.pt")
        try:
            trained(kind, place / f"{kind}-stopped", stop=8)
        except StoppedError:
            (place / f"{kind}-stopped-{'first' if is_first() else 'other'}").touch()
    for method in ("snis", "smc"):
        ensemble = sampled(method, place / f"{method}-chunks")
        if is_first():
            ensemble.save(place / method)
    messages = {
        "kl": error_of([replace(STAGES[0], w_kl=1.0)], place / "kl"),
        "batch": error_of([Stage("nll", 5, batch=1)], place / "batch"),
        "processes": size(),
    }
    try:
        first_does(fail)
    except InputError as error:
        messages["failure"] = str(error)
    (place / f"messages-{'first' if is_first() else 'other'}.json").write_text(json.dumps(messages))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined():
        everything(Path(sys.argv[1]))
