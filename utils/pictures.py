"""Colour pictures: drawn by code, so that their causes are known, or read from any folder."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

KINDS = ["circle", "square", "triangle", "ring", "cross"]
SIZE = 32  # pixels; the width and height of a drawn picture
GRAIN = 4  # levels of 255; standard deviation of the noise in a drawn picture
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FEWEST = 50  # pictures, below which a network learns nothing worth looking at


@dataclass
class Pictures:
    """Pictures with their labels.

    `images` (n, 3, size, size) are multiples of 1/255 in [0, 1]; `labels` (n,) are positions in `classes`, the names.
    `causes` holds what is known of drawn pictures, each (n,); `skipped` names the files that were not read, and why.
    """

    images: Tensor
    labels: Tensor
    classes: list[str]
    causes: dict[str, Tensor] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def draw_shapes(n: int, seed: int = 0) -> Pictures:
    """`n` pictures of one shape each; the same for the same `n` and `seed`. The label is the kind of the shape.

    The causes are drawn independently and uniformly: `x` and `y`, the centre in pixels from the left and the top;
    `size`, the radius in pixels; `hue`, a place on the colour circle in [0, 1); `shade`, the background in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    limits = {"x": (12, 20), "y": (12, 20), "size": (6, 10), "hue": (0, 1), "shade": (0.55, 0.95)}
    labels = torch.randint(len(KINDS), (n,), generator=generator)
    causes = {name: low + (high - low) * torch.rand(n, generator=generator) for name, (low, high) in limits.items()}
    noise = GRAIN / 255 * torch.randn(n, 3, SIZE, SIZE, generator=generator)
    return Pictures(_to_levels(render(labels, **causes) + noise), labels, KINDS, causes)


def render(labels: Tensor, x: Tensor, y: Tensor, size: Tensor, hue: Tensor, shade: Tensor) -> Tensor:
    """Pictures (n, 3, 32, 32) in [0, 1] with smooth edges and without grain; the arguments (n,) as in `draw_shapes`."""
    centres = torch.arange(SIZE) + 0.5
    right, down = centres - x[:, None, None], centres[:, None] - y[:, None, None]
    r, across, along, distance = size[:, None, None], right.abs(), down.abs(), torch.hypot(right, down)
    side = 0.5 * math.sqrt(3) * across - 0.5 * down  # distance along the normal of a triangle's slanted side
    outside = torch.stack(  # how far each pixel is outside the shape, in pixels; negative inside
        [
            distance - r,
            torch.maximum(across, along) - 0.85 * r,
            torch.maximum(down, side) - 0.6 * r,
            (distance - 0.75 * r).abs() - 0.25 * r,
            torch.minimum(torch.maximum(across - r, along - 0.3 * r), torch.maximum(along - r, across - 0.3 * r)),
        ],
        dim=1,
    )[torch.arange(len(labels)), labels]
    ink = (0.5 - outside).clamp(0, 1)[:, None]
    color = ((6 * hue[:, None] + torch.tensor([0, 4, 2])) % 6 - 3).abs().sub(1).clamp(0, 1) * 0.8 + 0.1
    return ink * color[:, :, None, None] + (1 - ink) * shade[:, None, None, None]


def load_folder(folder: str | Path, size: int = SIZE) -> Pictures:
    """All pictures in `folder` and below it, cropped to the central square and resized to `size` pixels.

    The folders directly inside `folder` are the labels, as in torchvision's `ImageFolder`; pictures beside them, or all
    if there are no such folders, have the folder's own name as their label. Hidden files and folders are passed over.
    Every kind of picture becomes 8-bit RGB: transparency on white, a photo upright, of an animation the first frame.
    Files that can't be read are skipped, and a line names them.

    Raises FileNotFoundError or NotADirectoryError for a path that is no folder, ValueError for fewer than 50 pictures.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file; give the folder that it is in, {str(folder.parent)!r}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r} (seen from {Path.cwd()})")
    levels, names, skipped = [], [], []
    for file in tqdm(_find(folder), unit="picture", leave=False):
        place = file.relative_to(folder)
        try:
            levels.append(_read(file, size))
            names.append(place.parts[0] if len(place.parts) > 1 else folder.resolve().name)
        except Exception as error:  # Pillow raises many kinds, and one bad file must not stop a thousand good ones
            skipped.append(f"{place} ({str(error).replace(str(file), place.name) or type(error).__name__})")
    if skipped:
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        print(f"Skipped {len(skipped)} of {len(skipped) + len(levels)} files: {', '.join(skipped[:5])}{more}.")
    if len(levels) < FEWEST:
        found = f"{len(levels)} readable pictures" if levels else "no readable pictures"
        raise ValueError(
            f"{folder} has {found}: give at least {FEWEST}, better 1,000 or more. Endings looked for: "
            f"{' '.join(sorted(SUFFIXES))}"
        )
    classes = sorted(set(names))
    images = torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2).float().div(255).contiguous()
    return Pictures(images, torch.tensor([classes.index(name) for name in names]), classes, skipped=skipped)


def show_pictures(rows: dict[str, Tensor], titles: list[str] | None = None, scale: float = 0.8) -> Figure:
    """Show named rows of equally many pictures, each row (n, channels, height, width), values in [0, 1] or cut there.

    A picture is `scale` inches wide; `titles` are written above the columns.
    """
    framed = [F.pad(x.detach().cpu().float().clamp(0, 1), (1, 1, 1, 1), value=1.0) for x in rows.values()]
    n, _, height, width = framed[0].shape
    sheet = torch.stack(framed).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # all as one picture, channels last
    fig, ax = plt.subplots(figsize=(n * scale + 1.3, len(rows) * scale * height / width + 0.3 * bool(titles)))
    ax.imshow(sheet.expand(-1, -1, 3).numpy())
    ax.set_yticks([(i + 0.5) * height for i in range(len(rows))], list(rows))
    ax.set_xticks([(i + 0.5) * width for i in range(n)], titles or [""] * n)
    ax.tick_params(length=0, labelbottom=False, labeltop=True)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return fig


def _find(folder: Path) -> list[Path]:
    """All files below `folder` that end like a picture, sorted, none of them hidden."""
    found = []
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(here, name) for name in files if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in SUFFIXES)


def _read(file: Path, size: int) -> np.ndarray:
    """The picture in `file` as (size, size, 3) levels, uint8."""
    with Image.open(file) as image:
        image.draft(None, (2 * size, 2 * size))  # a large JPEG is read at a fraction of its size, ten times faster
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels without a known range")
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return np.asarray(ImageOps.fit(paper.convert("RGB"), (size, size)))


def _to_levels(x: Tensor) -> Tensor:
    """The nearest multiples of 1/255 in [0, 1]."""
    return x.clamp(0, 1).mul(255).round().div(255)
