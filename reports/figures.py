"""The pictures' common style, and how matplotlib's SVG gets into the page."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from weightcast.reports.numbers import SUPERSCRIPT

# Stands for the page's text colour, which changes in dark mode; replaced in the finished SVG.
INK = "#0f0e0d"
FONT_SIZE = 11.0
#: The smallest letters of any picture, in its own pixels, and what they measure at least.
SMALLEST = 10.0
LEGIBLE = 11.0
# A picture grows to this many times its own size.
_MOST = 1.35

# Begins the id of what a picture tells of; the rest is the text.
_TOLD = "told-"

#: Errors above this many times the baseline's are drawn at the frame's edge.
CLIP = 10.0

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.6,
    # A method's name or a tensor's may hold a dollar sign.
    "text.parse_math": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Picture:
    """An SVG with what stands below it."""

    svg: Markup
    caption: str
    heading: str = ""


def draw(
    name: str,
    title: str,
    paint: Callable[[Axes], None],
    *,
    size: tuple[float, float] = (440, 300),
    margins: tuple[float, float, float, float] = (54, 12, 42, 12),
) -> Markup:
    """Draw one panel.

    Parameters
    ----------
    name : str
        Unique in the document; the prefix of all ids in the SVG.
    title : str
        What a screen reader says.
    paint : callable
        Gets the axes.
    size : tuple of float
        Width and height in pixels of the view box.
    margins : tuple of float
        Left, right, bottom, top, in the same pixels.
    """
    width, height = size
    left, right, bottom, top = margins
    style = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The reader's browser brings the font; matplotlib's need not have every letter of a name.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        axes = figure.add_axes(
            (
                left / width,
                bottom / height,
                (width - left - right) / width,
                (height - bottom - top) / height,
            )
        )
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _inline(buffer.getvalue(), name, title, width, height)


def tell(artists: Iterable[Artist], method: str, said: str) -> None:
    """Have parts of a picture say whose they are and what they show, under pointer and keyboard.

    Parameters
    ----------
    artists : iterable of Artist
        Each becomes a mark; the page shows the text where the pointer rests on one.
    method : str
        The label that the page's filter goes by.
    said : str
        The text that follows the method's name.
    """
    code = base64.urlsafe_b64encode(json.dumps([method, said]).encode()).decode().rstrip("=")
    for artist in artists:
        artist.set_gid(f"{_TOLD}{code}")


def _mark(found: re.Match[str]) -> str:
    code = found[1] + "=" * (-len(found[1]) % 4)
    method, said = (escape(text) for text in json.loads(base64.urlsafe_b64decode(code)))
    return (
        f'<g class="mark" data-method="{method}" tabindex="-1" role="img">'
        f"<title>{method}: {said}</title>"
    )


def _inline(svg: str, name: str, title: str, width: float, height: float) -> Markup:
    """Make a file's SVG fit to stand in a page beside others."""
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    # The rule inside would hold for the whole page; style.css has it for the pictures.
    body = re.sub(r"<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r"<metadata.*?</metadata>", "", body, flags=re.S)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(rf'<g id="{_TOLD}([\w-]+)">', _mark, body)
    body = _shorter(body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    body = body.replace(INK, "currentColor")
    body = re.sub(r"font: ([\d.]+px) '[^;\"]*", r"font-size: \1", body)
    body = re.sub(r' style="([^"]*)"', _attributes, body)
    body = re.sub(r">\s+<", "><", body.strip())
    label = escape(title)
    # What is inside an image nobody can step through.
    role = "group" if 'class="mark"' in body else "img"
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="{role}" aria-label="{label}" '
        f'class="wide-{math.ceil(width)}">{body}</svg>'
    )


def _shorter(body: str) -> str:
    """Leave out of a file's SVG what nobody sees: most of what matplotlib writes is that."""
    asked = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    names = {name for pair in asked for name in pair if name}
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in names else "", body)
    body = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", body)
    return re.sub(r' (d|x|y|transform)="([^"]*)"', _rounded, body)


def _rounded(attribute: re.Match[str]) -> str:
    """Write an attribute's numbers to a hundredth of a pixel."""
    name, value = attribute.groups()
    value = re.sub(r"-?\d+\.\d+", lambda found: f"{round(float(found[0]), 2):g}", value)
    return f' {name}="{re.sub(" ?([A-Za-z]) ?", lambda found: found[1], " ".join(value.split()))}"'


def _attributes(style: re.Match[str]) -> str:
    """Say a style in SVG's own attributes: the page's policy lets no element bring a style."""
    pairs = [part.split(":", 1) for part in style[1].split(";") if ":" in part]
    # The page brings the font.
    kept = {name.strip(): value.strip() for name, value in pairs if name.strip() != "font-family"}
    return "".join(f' {name}="{value}"' for name, value in kept.items())


def widths(page: str) -> str:
    """Return the rules for how far the pictures of a page may grow and shrink.

    The smallest letters are legible at any width of the window: below it a picture scrolls.
    """
    found = sorted({int(width) for width in re.findall(r'<svg [^>]*class="wide-(\d+)"', page)})
    return "\n".join(
        f".wide-{width} {{ max-width: {_MOST * width:.0f}px; "
        f"min-width: {math.ceil(LEGIBLE / SMALLEST * width)}px; }}"
        for width in found
    )


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """Make an axis logarithmic from low to high, with plain numbers at its ticks."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    decades = math.log10(high / low)
    subs: Sequence[float] = (
        (1, 2, 3, 5)
        if decades < 1.2
        else (1, 2, 5)
        if decades < 2
        else (1, 3)
        if decades < 3
        else (1,)
    )
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12 if decades < 3 else 7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def power(value: float) -> str:
    """Write a tick of a logarithmic axis."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    exponent = round(math.log10(value))
    mantissa = value / 10**exponent
    raised = f"10{str(exponent).translate(SUPERSCRIPT)}"
    return raised if abs(mantissa - 1) < 1e-6 else f"{mantissa:g}·{raised}"


def log_range(values: Sequence[float], *, pad: float = 1.25) -> tuple[float, float]:
    """Return limits around positive values, at least a factor of two apart."""
    found = np.asarray([v for v in values if np.isfinite(v) and v > 0])
    if not len(found):
        return 0.1, 10.0
    low, high = float(found.min()) / pad, float(found.max()) * pad
    if high / low < 2:
        low, high = low / 1.4, high * 1.4
    return low, high


def slug(*parts: object) -> str:
    """Join parts to a name that can stand in an id."""
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "-", str(part)).strip("-") for part in parts)
