"""Inline SVG that follows the page: its colours are the page's variables, its letters the page's font."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# matplotlib needs real colours; these stand for variables of the page and are exchanged after drawing.
INK, MUTED, RULE, PAPER = "#010101", "#010102", "#010103", "#010104"
REWEIGHTED, DATA, PROPOSAL, GOOD, BAD = "#010105", "#010106", "#010107", "#010108", "#010109"
TRANSPORTED = "#01010a"
SERIES = (REWEIGHTED, PROPOSAL, TRANSPORTED, GOOD, DATA, BAD, INK)
"""Colours of things that are compared and have no colour of their own, in this order."""

LIGHT = {
    "paper": "#ffffff",
    "raised": "#f6f7f9",
    "ink": "#1b2129",
    "muted": "#626d7a",
    "rule": "#dfe3e8",
    "reweighted": "#0b5cad",
    "data": "#6b7785",
    "proposal": "#d9822b",
    "transported": "#8a4fbf",
    "good": "#1f7a4a",
    "fair": "#a86400",
    "bad": "#b3261e",
}
DARK = {
    "paper": "#14181d",
    "raised": "#1b2027",
    "ink": "#e4e8ed",
    "muted": "#98a3b0",
    "rule": "#2e353e",
    "reweighted": "#6bb1f2",
    "data": "#a4afbb",
    "proposal": "#f0a85a",
    "transported": "#c39af0",
    "good": "#5cc38d",
    "fair": "#e5ae4d",
    "bad": "#f2877f",
}
PRINT = LIGHT | {"raised": "#ffffff", "ink": "#000000", "muted": "#4a4a4a", "rule": "#c8c8c8"}
"""What the variables of the page are on a bright screen, on a dark one, and on paper."""

_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    REWEIGHTED: "var(--reweighted)",
    DATA: "var(--data)",
    PROPOSAL: "var(--proposal)",
    TRANSPORTED: "var(--transported)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
}


def variables(palette: Mapping[str, str]) -> str:
    """Return the palette as declarations of CSS variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())


def style() -> AbstractContextManager[None]:
    """Return the drawing style of every figure, as a context."""
    return matplotlib.rc_context(_SETTINGS)


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, width_ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (inches) and its axes row by row, without the global state of pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, width_ratios=width_ratios).flat)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as one deterministic `<svg>` element.

    Parameters
    ----------
    name
        Unique within the page: it seeds the identifiers, so that figures do not share clip paths.
    description
        What a person who does not see the figure should know; becomes the accessible title.
    """
    buffer = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: 'DejaVu Sans'", "font-family: var(--sans)")
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    width = 96 * figure.get_figwidth()
    head = f'<svg role="img" aria-label="{escape(description)}" style="max-width:{width:.0f}px"'
    svg = re.sub(r'<svg (.*?) width="[^"]*" height="[^"]*"', rf"{head} \1", svg, count=1)
    return re.sub(r"\s*\n\s*", " ", svg).strip()


def standalone(svg: str) -> str:
    """Return the text of an SVG file from what `to_svg` made for a page."""
    rules = (
        f":root {{ {variables(LIGHT)} --sans: system-ui, 'DejaVu Sans', sans-serif; }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }} "
        "svg { color: var(--ink); background: var(--paper); }"
    )
    head, body = svg.split(">", 1)
    return f"{head}><style>{rules}</style>{body}\n"
