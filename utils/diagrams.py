"""The ideas of the course as diagrams: one function for each; `make figures` writes them to img/.

Solid arrows carry values, dotted arrows lead to a loss, dashed arrows carry gradients, and a dashed outline means
random. No meaning is carried by colour alone.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import avg_pool2d

from utils.data import binarize, load_digits
from utils.plotting import COLORS

# The alternative text of each diagram, also the title inside its SVG
ALT = {
    "autoencoder": "An image x of 784 pixels passes an encoder, becomes a code z of 32 numbers, passes a decoder, and "
    "comes back blurred, as its reconstruction. The loss compares the two: the squared error, summed over pixels.",
    "vae": "An encoder turns an image x into μ and log σ². With noise ε from outside they make z = μ + σ ⊙ ε, which a "
    "decoder turns into the logits of p(x given z). The loss, −ELBO, is the sum of recon, which compares the logits "
    "with the image, and kl, which compares q(z given x) with the prior.",
    "elbo": "Three bars that begin at zero, in nats. The first is log p(x) = −2.63 and beyond it a gap of 0.64; the "
    "second, as long as both, the ELBO = −3.27; the third, just as long, −recon = −2.17 and beyond it −kl = −1.10.",
    "kl": "Two Gaussians, p and a narrower q beside it, and what each KL divergence integrates: an area above zero, "
    "less an area below zero. KL(q‖p) = 0.74 − 0.14 = 0.60 nats, but KL(p‖q) = 1.45 − 0.27 = 1.18 nats.",
    "reparameterization": "Two graphs from μ and σ through z to the loss. Before, z is drawn on the path, and no "
    "gradient reaches μ and σ. After, z = μ + σ ε with noise ε from outside, and the gradient goes on to both: "
    "∂z/∂μ = 1, ∂z/∂σ = ε.",
}
STYLE = ["default", {"font.size": 11, "axes.labelsize": 11, "axes.titlesize": 11, "mathtext.fontset": "cm"}]
FLOW = {"color": COLORS["data"], "linewidth": 1.3}
COST = FLOW | {"linestyle": (0, (1, 1.5))}
GRADIENT = {"color": COLORS["reconstruction"], "linewidth": 1.8, "linestyle": (0, (3, 1.2))}
CENTRED = {"ha": "center", "va": "center"}


@plt.style.context(STYLE)
def autoencoder() -> Figure:
    """From an image to a code and back. Nothing is trained: the reconstruction is a sketch, x with blurred pixels."""
    ax = _sheet(2.8)
    x = _example()
    _digit(ax, 0.85, 1.75, x, "image $x$")
    _network(ax, 2.5, 1.75, 1.5, "encoder\n784 → 400 → 32")
    _box(ax, 4, 1.75, 0.5, "approximate", "$z$")
    ax.text(4, 2.12, "code,\n32 numbers", ha="center", va="bottom")
    _network(ax, 5.5, 1.75, 1.5, "decoder\n32 → 400 → 784")
    _digit(ax, 7.15, 1.75, avg_pool2d(x[None], 3, stride=1, padding=1)[0], r"reconstruction $\hat{x}$")
    for start, end in [(1.35, 1.75), (3.25, 3.75), (4.25, 4.75), (6.25, 6.65)]:
        _arrow(ax, (start, 1.75), (end, 1.75))

    _box(ax, 4, 0.5, 4.2, "reconstruction", r"loss: squared error $\Vert x - \hat{x}\,\Vert^2$, summed over pixels")
    _arrow(ax, (0.85, 1.25), (0.85, 0.5), (1.9, 0.5), **COST)
    _arrow(ax, (7.15, 1.25), (7.15, 0.5), (6.1, 0.5), **COST)
    return ax.figure


@plt.style.context(STYLE)
def vae() -> Figure:
    """The variational autoencoder, and where the two terms of its loss arise."""
    ax = _sheet(3.5)
    _digit(ax, 0.75, 2.2, _example(binary=True), "binary image $x$")
    _network(ax, 1.97, 2.2, 0.9, "encoder")
    ax.add_patch(Rectangle((2.67, 1.55), 1, 1.3, facecolor="none", edgecolor="0.5"))
    ax.text(3.17, 2.91, r"$q_\phi(z\,|\,x)$", ha="center", va="bottom", size=13)
    _box(ax, 3.17, 2.52, 0.8, "approximate", r"$\mu$")
    _box(ax, 3.17, 1.88, 0.8, "approximate", r"$\log\sigma^2$")
    _box(ax, 4.7, 2.2, 1.35, "approximate", r"$z = \mu + \sigma\odot\varepsilon$")
    _box(ax, 4.7, 3.1, 1.35, "other", r"$\varepsilon\sim\mathcal{N}(0,\, I)$", dashed=True)
    _network(ax, 6.1, 2.2, 0.9, "decoder")
    _box(ax, 7.3, 2.2, 1, "reconstruction", "logits of", r"$p_\theta(x\,|\,z)$")
    for start, end in [(1.25, 1.52), (2.42, 2.67), (5.375, 5.65), (6.55, 6.8)]:
        _arrow(ax, (start, 2.2), (end, 2.2))
    _arrow(ax, (3.57, 2.52), (4.025, 2.3))
    _arrow(ax, (3.57, 1.88), (4.025, 2.1))
    _arrow(ax, (4.7, 2.85), (4.7, 2.45))

    _box(ax, 1.35, 0.8, 1.25, "prior", "prior", r"$p(z) = \mathcal{N}(0,\, I)$")
    _box(ax, 3.17, 0.8, 1.7, "kl", "kl, in nats", r"$\mathrm{KL}(q_\phi(z\,|\,x)\,\Vert\,p(z))$")
    _box(ax, 5.2, 0.8, 1.6, "data", "loss = recon + kl", "= −ELBO")
    _box(ax, 7.1, 0.8, 1.4, "reconstruction", "recon, in nats", r"$-\log p_\theta(x\,|\,z)$")
    _arrow(ax, (1.975, 0.8), (2.32, 0.8), **COST)
    _arrow(ax, (3.17, 1.55), (3.17, 1.13), **COST)
    _arrow(ax, (4.02, 0.8), (4.4, 0.8), **COST)
    _arrow(ax, (6.4, 0.8), (6, 0.8), **COST)
    _arrow(ax, (7.3, 1.87), (7.3, 1.13), **COST)
    _arrow(ax, (0.45, 1.7), (0.45, 0.2), (7.1, 0.2), (7.1, 0.47), **COST)
    return ax.figure


@plt.style.context(STYLE)
def elbo() -> Figure:
    """log p(x), the ELBO and their parts, each exact in the model p(z) = N(0, 1), p(x|z) = N(z, 0.5²), at x = 2."""
    x, sigma, prior, q = torch.tensor(2.0), 0.5, Normal(0.0, 1.0), Normal(1.1, 0.4)
    variance = 1 + sigma**2  # of p(x)
    posterior = Normal(x / variance, sigma / variance**0.5)
    log_p = Normal(0.0, variance**0.5).log_prob(x).item()
    gap = kl_divergence(q, posterior).item()
    recon = -(Normal(q.mean, sigma).log_prob(x) - q.variance / (2 * sigma**2)).item()
    kl = kl_divergence(q, prior).item()

    (ax,) = _panels(1, left=0.2)
    for row, low, high, text, color, hatch in [
        (2, log_p, 0, rf"$\log p(x)$ = −{-log_p:.2f}", "data", ""),
        (2, log_p - gap, log_p, f"gap {gap:.2f}", "kl", "///"),
        (1, log_p - gap, 0, f"ELBO = −{gap - log_p:.2f}", "approximate", ""),
        (0, -recon, 0, f"−recon = −{recon:.2f}", "reconstruction", ""),
        (0, -recon - kl, -recon, f"−kl = −{kl:.2f}", "kl", ""),
    ]:
        ax.barh(row, high - low, 0.6, low, **_colored(color), linewidth=1.8, hatch=hatch)
        background = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15"} if hatch else None
        ax.text((low + high) / 2, row, text, **CENTRED, bbox=background)
    ax.vlines([log_p - gap, log_p - gap, log_p], [0.3, 1.3, 1.3], [0.7, 1.7, 1.7], color="0.4", linestyle=":")
    ax.set(xlim=(-3.5, 0.02), ylim=(-0.5, 2.5), xlabel="nats", xticks=[-3, -2, -1, 0])
    ax.set_yticks([0, 1, 2], ["minus the loss", "its lower bound", "log evidence\nand gap"])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    identities = [
        r"$\log p(x)$ = ELBO + gap",
        r"gap = $\mathrm{KL}(q(z\,|\,x)\,\Vert\,p(z\,|\,x)) \geq 0$",
        "−ELBO = recon + kl",
    ]
    ax.set_title(",     ".join(identities), x=0.4)
    return ax.figure


@plt.style.context(STYLE)
def kl() -> Figure:
    """What KL(q‖p) and KL(p‖q) integrate, for two Gaussians."""
    gaussians = {"p": Normal(0.0, 1.0), "q": Normal(1.0, 0.7)}
    looks = {
        "p": ("prior", "--", r"$p = \mathcal{N}(0, 1)$"),
        "q": ("approximate", "-", r"$q = \mathcal{N}(1, 0.7^2)$"),
    }
    z = torch.linspace(-4, 4, 201)
    left, right = _panels(2, left=0.1)
    for ax, first, second, plus, minus in [
        (left, "q", "p", (2.7, 0.4), (-2, -0.14)),
        (right, "p", "q", (-3, 0.5), (3, -0.14)),
    ]:
        one, other = gaussians[first], gaussians[second]
        integrand = one.log_prob(z).exp() * (one.log_prob(z) - other.log_prob(z))
        above, below = integrand.clamp(min=0), integrand.clamp(max=0)
        ax.fill_between(z, above, **_colored("kl"), hatch="//", label=rf"${first}\,\log({first}/{second})$")
        ax.fill_between(z, below, **_colored("kl"), hatch=r"\\\\")
        for name, (color, line, label) in looks.items():
            ax.plot(z, gaussians[name].log_prob(z).exp(), line, color=COLORS[color], linewidth=2, label=label)
        areas = f"{torch.trapezoid(above, z):.2f}", f"{-torch.trapezoid(below, z):.2f}"
        ax.text(*plus, f"+{areas[0]}", **CENTRED)
        ax.text(*minus, f"−{areas[1]}", **CENTRED)
        nats = f"{areas[0]} − {areas[1]} = {kl_divergence(one, other):.2f} nats"
        ax.set_title(rf"$\mathrm{{KL}}({first}\,\Vert\,{second})$ = {nats}")
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.set(xlabel="$z$", xlim=(-4, 4), ylim=(-0.28, 1.1), yticks=[0, 0.5, 1])
    left.set_ylabel("density; nats per unit of $z$")
    left.legend(loc="upper left", frameon=False)
    right.legend(loc="upper right", frameon=False)
    return left.figure


@plt.style.context(STYLE)
def reparameterization() -> Figure:
    """The graph from μ and σ to the loss: with z drawn on the path, and with the noise taken out of the path."""
    ax = _sheet(3.4)
    ax.text(1.95, 3.15, "before: $z$ is drawn on the path", **CENTRED, size=12)
    _graph(ax, 0.15)
    _box(ax, 2.15, 1.6, 1.2, "approximate", r"$z\sim\mathcal{N}(\mu, \sigma^2)$", dashed=True)
    ax.plot([1.55, 1.25], [1.65, 1.65], **GRADIENT)
    ax.plot(1.2, 1.65, "x", color=GRADIENT["color"], markersize=9, markeredgewidth=2.5)
    ax.text(2.15, 1.05, r"no gradient reaches $\mu$ and $\sigma$", **CENTRED)

    ax.vlines(4, 0.7, 3.25, color="0.8")
    ax.text(6.05, 3.15, r"after: the noise $\varepsilon$ comes from outside", **CENTRED, size=12)
    _graph(ax, 4.25)
    _box(ax, 6.25, 1.6, 1.2, "approximate", r"$z = \mu + \sigma\,\varepsilon$")
    _box(ax, 6.25, 2.6, 1.2, "other", r"$\varepsilon\sim\mathcal{N}(0, 1)$", dashed=True)
    _arrow(ax, (6.25, 2.35), (6.25, 1.85))
    _arrow(ax, (5.65, 1.63), (4.75, 2.03), **GRADIENT)
    _arrow(ax, (5.65, 1.43), (4.75, 1.03), **GRADIENT)
    ax.text(5.2, 2.2, r"$\partial z/\partial\mu = 1$", **CENTRED, size=12)
    ax.text(5.45, 1.05, r"$\partial z/\partial\sigma = \varepsilon$", **CENTRED, size=12)

    for x, style, meaning in [(1.3, FLOW, "values"), (3.2, GRADIENT, "gradient of the loss")]:
        _arrow(ax, (x, 0.35), (x + 0.45, 0.35), **style)
        ax.text(x + 0.55, 0.35, meaning, va="center_baseline")
    _box(ax, 5.9, 0.35, 0.4, "data", height=0.25, dashed=True)
    ax.text(6.2, 0.35, "drawn at random", va="center_baseline")
    return ax.figure


def _graph(ax: Axes, x: float) -> None:
    """What both graphs share (all but z), from `x` on: values to the loss, and the gradient back to z."""
    _box(ax, x + 0.25, 2.1, 0.5, "approximate", r"$\mu$")
    _box(ax, x + 0.25, 1.1, 0.5, "approximate", r"$\sigma$")
    _box(ax, x + 3.35, 1.6, 0.6, "data", "loss")
    _arrow(ax, (x + 0.5, 2.15), (x + 1.4, 1.75))
    _arrow(ax, (x + 0.5, 1.15), (x + 1.4, 1.55))
    _arrow(ax, (x + 2.6, 1.69), (x + 3.05, 1.69))
    _arrow(ax, (x + 3.05, 1.51), (x + 2.6, 1.51), **GRADIENT)


def _example(binary: bool = False) -> Tensor:
    """The image in the pictures: a held-out digit (28, 28), pixels in [0, 1], or binarised."""
    x = load_digits("heldout", "embedded")[0][8].reshape(28, 28)
    return binarize(x, torch.Generator().manual_seed(0)) if binary else x


def _sheet(height: float) -> Axes:
    """A white sheet to draw on, 8 by `height` inches; coordinates are inches."""
    ax = plt.figure(figsize=(8, height), dpi=100, facecolor="white").add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 8), ylim=(0, height))
    ax.axis("off")
    return ax


def _panels(n: int, left: float) -> np.ndarray:
    """`n` axes side by side on a white sheet, 8 by 3 inches, from `left` (part of the width) on."""
    fig, axes = plt.subplots(1, n, figsize=(8, 3), dpi=100, facecolor="white", squeeze=False, sharey=True)
    fig.subplots_adjust(left, 0.17, 0.97, 0.87, wspace=0.1)
    for ax in axes[0]:
        ax.spines[["top", "right"]].set_visible(False)
    return axes[0]


def _colored(color: str) -> dict[str, object]:
    """How an area is drawn: outlined in one of COLORS, filled with a tint of it."""
    edge = np.array(to_rgb(COLORS[color]))
    return {"facecolor": 1 - 0.15 * (1 - edge), "edgecolor": edge}  # not by alpha: in SVG hatching would fade too


def _digit(ax: Axes, x: float, y: float, image: Tensor, name: str) -> None:
    """An image (28, 28), an inch wide, around (x, y): squares of ink in a frame, its name above."""
    rows, columns = image.nonzero(as_tuple=True)
    ax.scatter(
        x + (columns - 13.5) / 28,
        y - (rows - 13.5) / 28,
        (72 / 28) ** 2,  # square points
        image[rows, columns],
        marker="s",
        cmap="gray_r",
        vmin=0,
        vmax=1,
        linewidths=0.3,  # closes the joints
    )
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor="0.5"))
    ax.text(x, y + 0.56, name, ha="center", va="bottom")


def _box(
    ax: Axes, x: float, y: float, width: float, color: str, *lines: str, height: float = 0, dashed: bool = False
) -> None:
    """A box around (x, y) with lines of text; one that is a formula is written a little larger."""
    height = height or (0.5 if len(lines) == 1 else 0.66)
    outline = {"linewidth": 1.8, "linestyle": "--" if dashed else "-"}
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.08", **_colored(color), **outline))
    for i, line in enumerate(lines):
        above = 0.13 * (len(lines) - 1 - 2 * i)
        ax.text(x, y + above, line, **CENTRED, size=13 if line.startswith("$") else 11)


def _network(ax: Axes, x: float, y: float, width: float, text: str) -> None:
    """A network around (x, y), narrow on the side of the code."""
    left, right = (0.6, 0.33) if text.startswith("encoder") else (0.33, 0.6)
    corners = [(-width / 2, -left), (-width / 2, left), (width / 2, right), (width / 2, -right)]
    ax.add_patch(Polygon([(x + dx, y + dy) for dx, dy in corners], facecolor="0.93", edgecolor="0.3", linewidth=1.3))
    ax.text(x, y, text, **CENTRED, linespacing=1.3)


def _arrow(ax: Axes, *points: tuple[float, float], **style: object) -> None:
    """An arrow through `points`, in the style FLOW unless another is given; its head is always solid."""
    style = style or FLOW
    *before, last, tip = map(np.array, points)
    forward = (tip - last) / np.linalg.norm(tip - last)
    base, across = tip - 0.11 * forward, 0.05 * forward[::-1] * (1, -1)
    ax.plot(*zip(*before, last, base, strict=True), **style, solid_capstyle="butt", dash_capstyle="butt")
    ax.add_patch(Polygon([tip, base + across, base - across], facecolor=style["color"]))
