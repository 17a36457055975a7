"""The sets of conformations that the figures of a run compare: what each is called, and how it is drawn."""

from dataclasses import dataclass, replace

import numpy as np

from gibbsian.ensemble.draws import MOVED, drawn, sound
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.report.svg import DATA, PROPOSAL, REWEIGHTED, TRANSPORTED

_TRANSPORTED = "transported, unweighted"


@dataclass(frozen=True, eq=False)
class View:
    """Conformations with the weights that they are shown with.

    Attributes
    ----------
    title
        As the figures call them.
    ensemble
        With at least one weight that is not zero.
    colour
        Of `gibbsian.report.svg`.
    """

    title: str
    ensemble: Ensemble
    colour: str


@dataclass(frozen=True, eq=False)
class Views:
    """What a run has to show; None for what is not known.

    Attributes
    ----------
    data
        Simulation data, weighted to the temperature of the run.
    proposal
        The generator's draws as they came, equally weighted.
    transported
        Draws after they were moved, equally weighted.
    result
        What the run is for, with the weights that it has.
    """

    data: View | None
    proposal: View | None
    transported: View | None
    result: View | None

    def known(self) -> list[View]:
        """Return those that exist, in this order."""
        found = (self.data, self.proposal, self.transported, self.result)
        return [view for view in found if view is not None]


def views(ensemble: Ensemble, data: Ensemble | None, data_name: str) -> Views:
    """Sort out what an ensemble holds by the method that made it.

    Importance samples are the draws; annealed ones are where the draws have moved to, and carry the draws with them;
    samples of a Markov chain have no weights, and the draws are not known.
    """
    method = ensemble.provenance.get("method")
    kept = sound(ensemble)
    moved = method in MOVED
    name, colour = "exchange" if method == "exchange" else "reweighted", REWEIGHTED
    if not ensemble.provenance.get("weighted", True):  # moved, and that is all
        moved, name, colour = False, _TRANSPORTED, TRANSPORTED
    return Views(
        data=None if data is None else View(data_name, sound(data), DATA),
        proposal=_equal("proposal, as drawn", drawn(ensemble), PROPOSAL),
        transported=_equal(_TRANSPORTED, kept, TRANSPORTED) if moved else None,
        result=View(name, kept, colour) if np.isfinite(kept.log_w).any() else None,
    )


def _equal(title: str, ensemble: Ensemble | None, colour: str) -> View | None:
    kept = None if ensemble is None else sound(ensemble)
    if kept is None or not len(kept):
        return None
    return View(title, replace(kept, log_w=np.zeros(len(kept)), lineage=None), colour)
