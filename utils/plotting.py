"""One style for every figure: readable in grey, the same colour for the same thing throughout the series."""

import base64
import io
from html import escape

import matplotlib.pyplot as plt
import torch
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from utils.training import History

# Okabe & Ito's colours, distinguishable to colour-blind readers; every use adds a label, a marker or a line style
COLORS = {
    "data": "#000000",
    "reconstruction": "#D55E00",
    "prior": "#56B4E9",
    "posterior": "#009E73",
    "approximate": "#CC79A7",
    "kl": "#0072B2",
    "other": "#E69F00",
}
DIGIT_COLORS = [
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#8C6D1F", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F", "#5B2A86",
]  # fmt: skip


def use_style() -> None:
    """Set matplotlib's defaults for the course."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "image.cmap": "gray_r",
        }
    )


def show_digits(x: Tensor, ncols: int = 10, titles: list[str] | None = None, scale: float = 0.7) -> Figure:
    """Show images `x` (n, 784) in rows of `ncols`, each `scale` inches wide, ink dark on white, values in [0, 1].

    `titles` are written above the columns.
    """
    return _show(list(x.split(ncols)), None, titles, scale)


def show_rows(rows: dict[str, Tensor], titles: list[str] | None = None, scale: float = 0.7) -> Figure:
    """Show named rows of images, each (n, 784), under each other: originals above their reconstructions, say.

    `scale` and `titles` as for `show_digits`.
    """
    return _show(list(rows.values()), list(rows), titles, scale)


def _show(rows: list[Tensor], names: list[str] | None, titles: list[str] | None, scale: float) -> Figure:
    """All images as one picture, ten times faster than a panel for each; short rows are padded with paper."""
    ncols = max(len(row) for row in rows)
    picture = tile(torch.cat([F.pad(row.flatten(1), (0, 0, 0, ncols - len(row))) for row in rows]), ncols, frame=1)
    fig, ax = plt.subplots(figsize=(ncols * scale + (1.3 if names else 0), len(rows) * scale + (0.25 if titles else 0)))
    ax.imshow(picture.numpy(), vmin=0, vmax=1)
    for axis, n, texts in ((ax.yaxis, len(rows), names), (ax.xaxis, ncols, titles)):
        axis.set_ticks([30 * i + 14.5 for i in range(n)], texts or [""] * n)
    ax.tick_params(length=0, labelbottom=False, labeltop=True)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return fig


def tile(x: Tensor, ncols: int, frame: int = 0) -> Tensor:
    """Put images `x` (n, 784) side by side into one picture, for a single imshow.

    Each is framed by `frame` pixels of paper; shape (n / ncols * (28 + 2 frame), ncols * (28 + 2 frame)).
    """
    x = F.pad(x.detach().cpu().reshape(-1, 28, 28), [frame] * 4)
    return x.unflatten(0, (-1, ncols)).transpose(1, 2).flatten(2).flatten(0, 1)


def scatter_codes(z: Tensor, labels: Tensor, ax: Axes | None = None, size: float = 18) -> Axes:
    """Plot two-dimensional codes `z` (n, 2), each as its digit from `labels` (n,), so that colour isn't needed."""
    ax = ax or plt.subplots(figsize=(5.2, 5))[1]
    z, labels = z.detach().cpu().numpy(), labels.cpu().numpy()
    for digit in range(10):
        rows = labels == digit
        ax.scatter(z[rows, 0], z[rows, 1], s=size, marker=f"${digit}$", color=DIGIT_COLORS[digit], linewidths=0)
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return ax


def plot_history(history: History, terms: list[str], ylabel: str, ax: Axes | None = None) -> Axes:
    """Plot each of `terms` over the epochs, training dashed and held out solid; `ylabel` names the unit."""
    ax = ax or plt.subplots()[1]
    colors = {"loss": COLORS["data"], "recon": COLORS["reconstruction"], "kl": COLORS["kl"]}
    for term in terms:
        color = colors.get(term)
        for split, style in {"train": "--", "heldout": "-"}.items():
            values = getattr(history, split).get(term, [])
            name = f"{term}, held out" if split == "heldout" else f"{term}, training"
            if values:
                color = ax.plot(values, style, color=color, label=name)[0].get_color()
    ax.set(xlabel="epoch (0 = untrained)", ylabel=ylabel)
    ax.legend()
    return ax


def place_digits(x: Tensor, places: Tensor, labels: Tensor, size: int = 420) -> Image.Image:
    """Images `x` (n, 784) on a square sheet, each in the colour of its digit at its place (n, 2) in the unit square."""
    ink = F.avg_pool2d(x.detach().cpu().reshape(-1, 1, 28, 28), 2)[:, 0, :, :, None]
    colors = torch.tensor([to_rgb(color) for color in DIGIT_COLORS])[labels.cpu()]
    tints = 1 - ink * (1 - colors[:, None, None])
    corners = places.detach().cpu() * (size - 14)
    paper = torch.ones(size, size, 3)
    for (column, row), tint in zip(corners.round().int().tolist(), tints, strict=True):
        spot = paper[size - 14 - row : size - row, column : column + 14]
        spot.copy_(torch.minimum(spot, tint))
    return Image.fromarray((paper * 255).byte().numpy())


def animate(frames: list[Image.Image], alt: str, seconds: float = 0.12) -> HTML:
    """The pictures `frames` one after the other, again and again, with `alt` as alternative text.

    Readers who ask their system for less motion see the last frame.
    """

    def address(pictures: list[Image.Image], **options: object) -> str:
        file = io.BytesIO()
        pictures[0].save(file, "webp", quality=50, **options)
        return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

    times = [round(1000 * seconds)] * (len(frames) - 1) + [2000]
    moving = address(frames, save_all=True, append_images=frames[1:], duration=times, loop=0)
    still = f'<source media="(prefers-reduced-motion: reduce)" srcset="{address(frames[-1:])}">'
    return HTML(f'<picture>{still}<img src="{moving}" alt="{escape(alt)}"></picture>')
