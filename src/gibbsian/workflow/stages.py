"""What a run does, stage by stage; each resumes from the run folder and writes to it."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gibbsian.chem.convert import write_pdb
from gibbsian.dynamics.collect import load_simulation
from gibbsian.dynamics.simulate import simulate
from gibbsian.dynamics.stream import Stream, streamed
from gibbsian.ensemble.draws import thinned
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import export
from gibbsian.ensemble.readers import read_frames
from gibbsian.ensemble.reference import load_reference
from gibbsian.evaluate.certified import for_molecule
from gibbsian.evaluate.comparison import against_exchange
from gibbsian.evaluate.results import evaluate, plain
from gibbsian.evaluate.temperatures import against_temperature
from gibbsian.files import read_json, write_json, write_text
from gibbsian.models.registry import Flow, load_flow
from gibbsian.models.split_flow import SplitFlow
from gibbsian.parallel.group import collect, is_first
from gibbsian.potentials import potential
from gibbsian.progress import Report
from gibbsian.report.citations import citations
from gibbsian.report.page import write_report
from gibbsian.sampling.forward import forward_ess
from gibbsian.training.annealing.annealer import LOG
from gibbsian.training.data import split
from gibbsian.workflow.describe import describe, performance, stage_costs, versions
from gibbsian.workflow.drawing import draw
from gibbsian.workflow.fitting import ANNEALING, fit_flow
from gibbsian.workflow.novel import novel
from gibbsian.workflow.reduced import reduced
from gibbsian.workflow.run import Run, Stage
from gibbsian.workflow.system import target_of
from gibbsian.workflow.temperatures import load_scan, save_scan, scan

FLOW = "flow.safetensors"
STREAM = "stream"
FORWARD_FRAMES = 5_000


def load_data(run: Run) -> Ensemble:
    """Return the training data, simulated or imported."""
    if run.folder.record()["stages"]["simulate"].get("imported"):
        return Ensemble.load(run.folder.data)
    return load_simulation(run.folder.data, run.system)


def _prepare(run: Run, report: Report) -> dict[str, Any]:
    write_pdb(run.folder.system / "topology.pdb", run.system.topology, run.system.positions)
    write_text(run.folder.system / "system.xml", run.system.to_xml())
    return {"seed": run.settings.seed, "versions": versions()}


def _simulate(run: Run, report: Report) -> dict[str, Any]:
    data = simulate(run.system, run.settings.data, run.folder.data, report=report)
    return {"frames": len(data), "statistics": data.provenance["statistics"]}


def _train(run: Run, report: Report) -> dict[str, Any]:
    target = target_of(run.system)
    with _arriving(run) as arriving:
        flow = fit_flow(
            load_data(run),
            run.settings,
            run.folder.model,
            target,
            report,
            structure=run.system.positions,
            arriving=arriving,
        )
    if is_first():
        flow.save(run.folder.model / FLOW)
    return {"energy_calls": sum(collect(target.calls)), "parameters": sum(p.numel() for p in flow.parameters())}


def _arriving(run: Run) -> AbstractContextManager[Stream | None]:
    """Let the simulation go on in a folder of the training, if it is to learn from that."""
    if run.settings.stream is None:
        return nullcontext()
    return streamed(run.folder.data, run.folder.model / STREAM, run.system, run.settings.stream.frames)


def _sample(run: Run, report: Report) -> dict[str, Any]:
    settings = run.settings.sampling
    flow = load_flow(run.folder.model / FLOW)
    chosen = {
        "snis": settings.truncation,
        "smc": settings.smc,
        "exchange": settings.exchange,
        "langevin": settings.langevin,
    }
    ensemble = draw(
        flow,
        target_of(run.system),
        settings.n,
        method=settings.method,
        settings=chosen[settings.method],
        topology=run.system.topology,
        temperature=run.system.temperature,
        folder=run.folder.samples / "chunks",
        seed=run.settings.seed,
        chunk=settings.chunk,
        until_ess=settings.until_ess,
        n_max=settings.n_max if settings.until_ess is not None else None,
        report=report,
    )
    others = scan(run, flow, report)
    if is_first():
        ensemble.save(run.folder.samples)
        export(ensemble, run.folder.samples)
        save_scan(run, others)
    return {"energy_calls": sum(drawn.provenance["energy_calls"] for drawn in (ensemble, *others))}


def _evaluate(run: Run, report: Report) -> dict[str, Any]:
    ensemble, data = Ensemble.load(run.folder.samples), load_data(run)
    flow = load_flow(run.folder.model / FLOW)
    training, unseen = split(data, run.settings.training.held_out, run.settings.training.seed)
    held_out = _posed(run, unseen, flow)
    certified = for_molecule(load_reference(run.system.key), run.system.topology)
    results = evaluate(
        ensemble,
        data=data,
        certified=certified,
        forward=forward_ess(flow, target_of(run.system), held_out),
        system=run.system.sequence,
        recipe=run.settings.recipe,
        seed=run.settings.seed,
        target="completed" if isinstance(flow, SplitFlow) else "full",
        performance=performance(run),
    )
    if isinstance(flow, SplitFlow):
        results["reconstruction"] = reduced(flow, held_out, run.system)
    if results["backbone"]:
        results["backbone"]["novel"] = _novel(run, ensemble, training, unseen, report)
    others = load_scan(run)
    if others:
        results["temperatures"] = against_temperature(others, data)
    costs, reliable = stage_costs(run), results["verdict"]["reliable"]
    if costs is not None:
        found = against_exchange(ensemble, data, certified, costs, reliable=reliable)
        results["performance"]["tt01"] = plain(found)
    write_json(run.folder.results, results)
    return {}


def _novel(run: Run, ensemble: Ensemble, training: Ensemble, held_out: Ensemble, report: Report) -> dict[str, Any]:
    """Compare samples with what the flow learnt from, and write those that resemble none of it."""
    record, pairs = novel(ensemble, training, held_out, potential(run.system), report)
    if len(pairs):
        write_pdb(run.folder.novel, run.system.topology, pairs)
    else:
        run.folder.novel.unlink(missing_ok=True)
    return plain(record)


def _posed(run: Run, unseen: Ensemble, flow: Flow) -> Ensemble:
    """Unseen frames in the gauge of the flow, drawn by weight: hot ones that matter to nothing stay out.

    Not more of them than samples, because a density may cost as much as a sample.
    """
    seed = run.settings.seed
    drawn = thinned(unseen, min(FORWARD_FRAMES, run.settings.sampling.n), seed)
    moved = flow.augment(torch.from_numpy(drawn.positions), torch.Generator().manual_seed(seed))
    return replace(drawn, positions=moved.numpy())


def _report(run: Run, report: Report) -> dict[str, Any]:
    info = describe(run)
    certified = for_molecule(load_reference(run.system.key), run.system.topology)
    write_report(
        run.folder.report,
        read_json(run.folder.results),
        Ensemble.load(run.folder.samples),
        load_data(run),
        _lines(run.folder.model / "log.jsonl"),
        info,
        certified,
        _lines(run.folder.model / ANNEALING / LOG),
        run.system.positions,
        read_frames(run.folder.novel, run.system.topology).positions if run.folder.novel.exists() else None,
    )
    write_text(run.folder.path / "cite.bib", citations(info))
    return {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; none where a kind of training was not part of the run."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


_DATA = ("data",)
_MODEL = (*_DATA, "model", "stages", "stream", "annealing", "training")
_SAMPLES = (*_MODEL, "sampling")

STAGES = (
    Stage("prepare", (), "system/topology.pdb", _prepare),
    Stage("simulate", _DATA, "data/manifest.json", _simulate),
    Stage("train", _MODEL, f"model/{FLOW}", _train, together=True),
    Stage("sample", _SAMPLES, "samples/manifest.json", _sample, together=True),
    Stage("evaluate", _SAMPLES, "results.json", _evaluate),
    Stage("report", _SAMPLES, "report.html", _report),
)
"""In order. What a stage depends on includes what the stages before it depend on."""
