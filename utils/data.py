"""The digits: 10,000 that travel with the course, or the full MNIST when it can be had."""

import os
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchvision
from torch import Tensor

Split = Literal["train", "heldout"]

EMBEDDED = Path(__file__).with_name("digits.npz")
DOWNLOADS = Path(__file__).parents[1] / "data"
TIMEOUT = 10.0  # seconds that a silent mirror is waited for


def load_digits(
    split: Split, source: str | Path | None = None, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Images `x` (n, 784), float32 pixels in [0, 1], and `labels` (n,), int64, as tensors on `device`.

    `source` is one of
    - "embedded": the first 10,000 images of MNIST's training set, which travel with the course: 8,000 for "train" and
      2,000 for "heldout", stratified by digit and always the same;
    - "full": MNIST's 60,000 training images for "train" and its 10,000 test images for "heldout", downloaded once into
      the folder `data`; when they can't be had, one line says so and the embedded digits are used;
    - a folder that already holds MNIST in torchvision's layout (folder/MNIST/raw/train-images-idx3-ubyte, ...).
    Without `source`, the environment variable VAE_DIGITS names it; without that, it is "full" if `device` is a GPU,
    else "embedded".

    Raises ValueError for an unknown split or a file that isn't MNIST, FileNotFoundError for a folder without MNIST.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f'split is {split!r}; give "train" or "heldout"')
    default = "full" if torch.device(device).type == "cuda" else "embedded"
    folder = _full_mnist(str(source or os.environ.get("VAE_DIGITS") or default))
    images, labels = _read_embedded(split) if folder is None else _read_full(split, folder)
    return images.to(device).flatten(1).float().div(255), labels.to(device).long()


def binarize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Stochastic binarisation: each pixel of `x`, any shape with values in [0, 1], becomes 1 with its own value as
    the probability, else 0 (Salakhutdinov & Murray 2008). A fresh draw each call; pixels already 0 or 1 stay.

    Raises ValueError for pixels outside [0, 1].
    """
    if x.numel() and not (0 <= x.min() and x.max() <= 1):
        raise ValueError(f"pixels lie in [{x.min():g}, {x.max():g}]; expected [0, 1]: divide by 255 first?")
    return (torch.rand(x.shape, generator=generator, device=x.device) < x).to(x.dtype)


@cache
def _full_mnist(source: str) -> Path | None:
    """The folder in which `source` finds the full MNIST, downloaded if need be; None stands for the embedded digits.

    Decided once per source and session: training and held-out images never come from different places.
    """
    if source == "embedded":
        return None
    folder = DOWNLOADS if source == "full" else Path(source).expanduser()
    if (folder / "MNIST" / "raw").is_dir():
        return folder
    if source != "full":
        raise FileNotFoundError(
            f"no MNIST in {str(source)!r}: expected {folder / 'MNIST' / 'raw' / 'train-images-idx3-ubyte'} and three "
            'more. Give the folder above "MNIST", "full" to download it, or "embedded" for the 10,000 digits here.'
        )
    try:
        _download(folder)
    except Exception as error:  # whatever a mirror, a proxy or a disk does, the course goes on
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"The full MNIST could not be had ({reason:.120}): going on with the 10,000 embedded digits.")
        return None
    return folder


def _download(folder: Path) -> None:
    """Download MNIST into `folder`, which appears only when all four files have arrived and their checksums agree."""
    folder.mkdir(parents=True, exist_ok=True)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none
    try:
        with tempfile.TemporaryDirectory(prefix="partial-", dir=folder) as partial:
            torchvision.datasets.MNIST(partial, download=True)
            (Path(partial) / "MNIST").rename(folder / "MNIST")
    finally:
        socket.setdefaulttimeout(patience)


def _read_full(split: Split, folder: Path) -> tuple[Tensor, Tensor]:
    """Bytes (n, 28, 28) and labels (n,) of MNIST's own split, from `folder`."""
    try:
        mnist = torchvision.datasets.MNIST(folder, train=split == "train")
    except Exception as error:
        raise ValueError(
            f"the MNIST files in {folder / 'MNIST' / 'raw'} can't be read ({error}). Remove that folder to have them "
            'downloaded again, or use source="embedded".'
        ) from error
    n = 60_000 if split == "train" else 10_000
    if mnist.data.shape != (n, 28, 28) or mnist.targets.shape != (n,):
        raise ValueError(
            f"{folder} holds {tuple(mnist.data.shape)} images and {len(mnist.targets)} labels where MNIST has "
            f"({n}, 28, 28) and {n}: not MNIST?"
        )
    return mnist.data, mnist.targets


def _read_embedded(split: Split) -> tuple[Tensor, Tensor]:
    """Bytes (n, 28, 28) and labels (n,) of the digits in this folder: sorted by digit, every fifth is held out."""
    try:
        with np.load(EMBEDDED) as file:
            images, labels = torch.from_numpy(file["images"]), torch.from_numpy(file["labels"])
    except Exception as error:
        raise ValueError(
            f"{EMBEDDED} can't be read ({error}): restore it with `git checkout {EMBEDDED.name}`"
        ) from error
    heldout = torch.arange(len(images)) % 5 == 0
    rows = heldout if split == "heldout" else ~heldout
    return images[rows], labels[rows]
