"""The models by name: which configuration each takes, and which one wrote a file."""

from pathlib import Path
from typing import Any, NamedTuple

from gibbsian.errors import InputError
from gibbsian.models import eacf, ecnf, spline, split_flow, tarflow
from gibbsian.models.eacf_config import EacfConfig
from gibbsian.models.ecnf_config import EcnfConfig
from gibbsian.models.storage import read_format
from gibbsian.models.tarflow_config import TarFlowConfig


class Kind(NamedTuple):
    """A model: its class, the dataclass of its sizes, and the format of its files."""

    model: type[Any]
    config: type[Any]
    format: str


MODELS = {
    "spline": Kind(spline.SplineFlow, spline.SplineConfig, spline.FORMAT),
    "split": Kind(split_flow.SplitFlow, split_flow.SplitFlowConfig, split_flow.FORMAT),
    "tarflow": Kind(tarflow.TarFlow, TarFlowConfig, tarflow.FORMAT),
    "ecnf": Kind(ecnf.ECNF, EcnfConfig, ecnf.FORMAT),
    "eacf": Kind(eacf.EACF, EacfConfig, eacf.FORMAT),
}

Flow = spline.SplineFlow | split_flow.SplitFlow | tarflow.TarFlow | ecnf.ECNF | eacf.EACF
Config = spline.SplineConfig | split_flow.SplitFlowConfig | TarFlowConfig | EcnfConfig | EacfConfig


def load_flow(path: Path | str) -> Flow:
    """Read a flow of any kind; the file says which.

    Raises
    ------
    InputError
        If the file is missing, damaged or of no known kind.
    """
    found = read_format(Path(path))
    for kind in MODELS.values():
        if kind.format == found:
            return kind.model.load(path)
    known = ", ".join(kind.format for kind in MODELS.values())
    raise InputError(f"{path}: format {found!r} is no flow of this version ({known}); choose another file")
