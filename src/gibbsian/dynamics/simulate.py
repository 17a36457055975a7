"""From a system to equilibrium data: replica exchange with checkpoints, then MBAR weights."""

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gibbsian.chem.system import System
from gibbsian.dynamics.collect import acceptance, load_simulation
from gibbsian.dynamics.crew import Member, crew
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.manifest import claim, describe
from gibbsian.dynamics.shards import existing
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.potentials.base import Potential
from gibbsian.progress import Report, silent


def simulate(
    system: System,
    settings: ExchangeSettings | None = None,
    folder: str | Path | None = None,
    potential: Potential | None = None,
    report: Report = silent,
    device: str = "cpu",
) -> Ensemble:
    """Run temperature replica exchange (plain Langevin dynamics for one temperature) and weight its frames.

    Frames of all temperatures are kept; MBAR weights lead to the system's temperature. The same call on the
    same folder continues where it was stopped, with the bits of an undisturbed run, and tops up if `steps`
    has grown.

    Parameters
    ----------
    system
        Molecule, force field and temperature.
    settings
        See `ExchangeSettings`.
    folder
        Where shards and checkpoints go; None keeps nothing.
    potential
        Energy engine, indifferent to translation; it does all groups in this process, one after the other. None
        makes a float32 torch engine for each group, in a process of its own.
    report
        Called with walker steps done and to do, ns/day of aggregate dynamics, exchange acceptance, seconds
        left and the number of walkers that blew up, each time all groups have saved a chunk; it may raise
        `StoppedError`.
    device
        Where the engine made for `potential` = None, and the walkers, live.

    Returns
    -------
    Ensemble at the system's temperature, ladder by ladder and walker by walker, each walker in order of time;
    `lineage` is the ladder. `provenance` has settings and statistics.

    Raises
    ------
    InputError
        If the folder holds a different simulation or a damaged file.
    """
    settings = (settings or ExchangeSettings()).resolved(system)
    with tempfile.TemporaryDirectory() if folder is None else existing(folder) as place:
        path = Path(place)
        claim(path, describe(system, settings))
        with crew(path, system, settings, potential, device) as members:
            _run(members, settings, report)
        return load_simulation(path, system)


def _run(members: Sequence[Member], settings: ExchangeSettings, report: Report) -> None:
    """Advance all groups chunk by chunk, in step, until each has its frames."""
    goal = settings.equilibration + math.ceil(settings.steps / settings.save_every) * settings.save_every
    walkers = settings.ladders * len(settings.temperatures or ())
    progress = [member.advance(0) for member in members]
    progress = [future.result() for future in progress]
    began, first = time.perf_counter(), min(p.step for p in progress)
    while any(p.step < goal for p in progress):
        progress = [future.result() for future in [member.advance(goal) for member in members]]
        done = min(p.step for p in progress)
        rate = (done - first) / (time.perf_counter() - began)
        report(
            done * walkers,
            goal * walkers,
            ns_per_day=round(rate * walkers * settings.timestep * 86.4, 1),
            acceptance=round(acceptance([p.swaps for p in progress])[0], 3),
            seconds_left=round((goal - done) / rate, 1) if rate else 0.0,
            resets=sum(p.resets for p in progress),
        )
