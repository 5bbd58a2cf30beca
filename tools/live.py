"""Figures that move without a kernel: in the site and in the slides, computed in the page by docs/live/live.js.

A cell that calls `explore` has a tag "live:name". `make run` then writes docs/live/name.js: the labels, limits and
sentence of that very call, and what `TENSORS` takes from the executed notebook, as float16. Large layers would
make files of more than 1 MB, so they have 11 bits a number; that changes p(ink) by less than 0.01.
"""

import ast
import base64
import json
import math
import re
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tools.notebook import COURSE

LIVE = COURSE / "docs" / "live"
LARGE, BITS = 100_000, 11  # a matrix of so many numbers is stored as whole numbers of so many bits, times a scale a row

Names = dict[str, Any]  # of the executed notebook; IPython's `In` are the sources of its cells


def decoder(network: Any) -> dict[str, np.ndarray]:
    """The layers of an nn.Sequential that have weights: weight0, bias0, weight1, and so on, shaped as in PyTorch."""
    layers = [layer for layer in network if hasattr(layer, "weight")]
    return {f"{part}{i}": _array(getattr(layer, part)) for i, layer in enumerate(layers) for part in ("weight", "bias")}


def _map(names: Names) -> dict[str, np.ndarray]:
    """The decoder of the 2-D map, and the codes (600, 2) that are plotted, with their digits (600,)."""
    codes = {"codes": _array(names["z_2d"][:600]), "digits": _array(names["labels_heldout"][:600])}
    return decoder(names["vae_2d"].decoder) | codes


def _traversal(names: Names) -> dict[str, np.ndarray]:
    """The decoder, the first hundred held-out images (100, 784) as bits, their means (100, 10), and the KLs (10,)."""
    images, model = names["x_heldout_bin"][:100], names["model"]
    bits = np.packbits(_array(images).astype(bool), axis=1)
    return decoder(model.decoder) | {"bits": bits, "mu": _array(model.encode(images)[0]), "kl": _array(names["kl_j"])}


def _styles(names: Names) -> dict[str, np.ndarray]:
    """The layers that draw, in order, the ten pictures (10, 3, 32, 32) in 255ths, and their styles (10, 10)."""
    given = {"given": _array(255 * names["x"][names["some"]]).round().astype("u1"), "styles": _array(names["styles"])}
    return decoder(names["model"].draw) | given


TENSORS: dict[str, Callable[[Names], dict[str, np.ndarray]]] = {
    "map": _map,
    "traversal": _traversal,
    "posterior": lambda names: {"z": _array(names["z_grid"]), "log_joint": _array(names["log_joint"](names["x_seen"]))},
    "styles": _styles,
    "trick": lambda names: {"eps": _array(names["kept"])},
}


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def cells(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """For each figure, a cell to run after the notebook's own; it prints the file."""
    return {
        tag.removeprefix("live:"): new_code_cell(
            f"from tools import live\n\nprint(live.export({tag[5:]!r}, {cell.source!r}, globals()), end='')"
        )
        for cell in notebook.cells
        for tag in cell.metadata.get("tags", [])
        if tag.startswith("live:")
    }


def describe(source: str, names: Names) -> dict[str, Any]:
    """What the call of `explore` in the cell `source` says: labels, limits, panels, the sentence without numbers."""
    from utils.plotting import COLORS, DIGIT_COLORS  # here: a page is made without PyTorch

    found: dict[str, Any] = {"colors": COLORS | {"digits": DIGIT_COLORS}}

    def explore(draw: Callable, labels: dict[str, str], figsize: tuple[float, float], **limits: tuple) -> None:
        drawn = next(cell for cell in names["In"] if f"def {draw.__name__}(" in cell)
        sentence = _sentence(drawn)
        draw(fig := Figure(figsize=figsize))
        found.update(labels=labels, limits=limits, sentence=sentence, panels=[_panel(ax) for ax in fig.axes])

    exec(source, names | {"explore": explore})
    return found


def _panel(ax: Axes) -> dict[str, Any]:
    """What a panel is called and where its axes begin and end; the rows and columns of its image, if it is one."""
    texts = {"title": ax.get_title(), "xlabel": ax.get_xlabel(), "ylabel": ax.get_ylabel()}
    plain = {key: _plain(text) for key, text in texts.items()}
    size = ax.images[0].get_array().shape if ax.images else None
    legend = [_plain(label) for label in ax.get_legend_handles_labels()[1]]
    shape = {"square": ax.get_aspect() == 1, "pixels": size}
    if not size and not len(ax.get_yticks()):
        shape["yticks"] = False
    return plain | shape | {"xlim": ax.get_xlim(), "ylim": ax.get_ylim(), "legend": legend}


def _plain(text: str) -> str:
    """A label without TeX: "z₁" for "$z_1$"."""
    text = text.replace("$", "").replace("^2", "²")
    return re.sub(r"_(\d)", lambda found: chr(ord("₀") + int(found[1])), text)


def _sentence(source: str) -> str:
    """The f-string that a function returns, with the formats alone: "z = ({.2f}, {.2f})"."""
    returned = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Return)]
    (text,) = [value for value in returned if isinstance(value, ast.JoinedStr)]
    return "".join(
        part.value
        if isinstance(part, ast.Constant)
        else f"{{{ast.unparse(part.format_spec)[2:-1] if part.format_spec else ''}}}"
        for part in text.values
    )


def export(name: str, source: str, names: Names) -> str:
    """The file docs/live/name.js for a cell `source` with the tag "live:name" of the notebook with these `names`."""
    tensors = {part: pack(value) for part, value in TENSORS[name](names).items()}
    return f"live.{name} = {json.dumps(describe(source, names) | {'tensors': tensors}, ensure_ascii=False)};\n"


def pack(value: np.ndarray) -> list:
    """An array as its kind, shape and bytes in base85: uint8, float16 (float32 for float64), or `BITS` a number."""
    if value.dtype.kind != "f":
        return ["u1", value.shape, _text(value.astype("u1"))]
    if value.size < LARGE:
        kind = "f4" if value.dtype == np.float64 else "f2"
        return [kind, value.shape, _text(value.astype(kind))]
    half = 2 ** (BITS - 1)
    scale = (np.abs(value).max(axis=1) / (half - 1)).astype("f2")
    whole = np.rint(value / scale[:, None]).clip(1 - half, half - 1) + half
    bits = np.unpackbits(whole.astype(">u2").reshape(-1, 1).view("u1"), axis=1)[:, 16 - BITS :]
    return ["bits", value.shape, _text(np.packbits(bits)), _text(scale)]


def unpack(kind: str, shape: list[int], *texts: str) -> np.ndarray:
    """The array that `pack` was given, rounded: float32 or uint8."""
    data, *scale = map(base64.b85decode, texts)
    if kind != "bits":
        return np.frombuffer(data, kind).reshape(shape).astype("u1" if kind == "u1" else "f4")
    bits = np.unpackbits(np.frombuffer(data, "u1"))[: math.prod(shape) * BITS].reshape(-1, BITS)
    whole = bits @ (1 << np.arange(BITS)[::-1]) - 2 ** (BITS - 1)
    return (whole.reshape(shape) * np.frombuffer(scale[0], "f2")[:, None]).astype("f4")


def _text(value: np.ndarray) -> str:
    return base64.b85encode(value.tobytes()).decode()


def html(name: str) -> str:
    """The figure's place in a page: panels, sliders and sentence, of the size that they will have."""
    figure = read(name)
    panels, sliders = {"plot": "", "image": ""}, ""
    for panel in figure["panels"]:
        title = escape(panel["title"] or ", ".join(panel["legend"]))
        kind = "image" if panel["pixels"] else "plot"
        height, width, *_ = panel["pixels"] or ((720 if panel["square"] else 460), 720)
        canvas = f'<canvas class="{kind}" width="{width}" height="{height}" role="img" aria-label="{title}"></canvas>'
        panels[kind] += f"<figure>{canvas}<figcaption>{title}</figcaption></figure>"
    if panels["image"]:
        panels["image"] = (
            f'<div class="images" style="--n: {panels["image"].count("<figure>")}">{panels["image"]}</div>'
        )
    for key, (low, high, value) in figure["limits"].items():
        step = 1 if all(isinstance(limit, int) for limit in (low, high, value)) else 0.05  # as in utils/widgets.py
        span = f'min="{low}" max="{high}" step="{step}" value="{value}" autocomplete="off"'
        slider = f'<input type="range" name="{key}" {span}>'
        sliders += f"<p><label><span>{escape(figure['labels'][key])}</span>{slider}</label><output>{value}</output></p>"
    parts = f'<div class="panels">{"".join(panels.values())}</div><div class="sliders">{sliders}</div>'
    sentence = '<p class="sentence" role="status"></p>'
    return f'<div class="live" data-figure="{name}" data-prevent-swipe>{parts}{sentence}</div>'


def read(name: str) -> dict[str, Any]:
    """What docs/live/name.js says."""
    return json.loads((LIVE / f"{name}.js").read_text(encoding="utf-8").partition(" = ")[2].rstrip(";\n"))


def load(name: str) -> dict[str, np.ndarray]:
    """The tensors in docs/live/name.js."""
    return {key: unpack(*packed) for key, packed in read(name)["tensors"].items()}
