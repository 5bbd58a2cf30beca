"""The digits: 10,000 that travel with the course, or the full MNIST where it can be downloaded."""

import io
import os
import socket
import tempfile
import textwrap
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["train", "heldout"]

EMBEDDED = Path(__file__).with_name("digits.npz")
DOWNLOADS = Path(__file__).parents[1] / "data"
MNIST_FILES = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
TIMEOUT = 10.0  # seconds to wait for a mirror that does not answer


def load_digits(
    split: Split, source: str | Path | None = None, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Images `x` (n, 784), float32 pixels in [0, 1], and `labels` (n,), int64, as tensors on `device`.

    `source` is one of
    - "embedded": the first 10,000 images of MNIST's training set, which travel with the course: 8,000 for "train" and
      2,000 for "heldout", stratified by digit, interleaved (0, 1, ..., 9, 0, ...) and always the same;
    - "full": MNIST's 60,000 training images for "train" and its 10,000 test images for "heldout", downloaded once into
      the folder `data`; if that fails, one line says so and the embedded digits are used;
    - a folder that already holds MNIST in torchvision's layout (folder/MNIST/raw/train-images-idx3-ubyte, ...).
    Without `source`, the environment variable VAE_DIGITS names it; without that, it is "full" if there is a GPU, else
    "embedded"; `device` doesn't matter, so that both splits come from the same place.

    Raises ValueError for an unknown split or a file that isn't MNIST, FileNotFoundError for a folder without MNIST.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f'split is {split!r}; give "train" or "heldout"')
    default = "full" if torch.cuda.is_available() else "embedded"
    folder = _full_mnist(str(source or os.environ.get("VAE_DIGITS") or default))
    images, labels = _read_embedded(split) if folder is None else _read_full(split, folder)
    x = images.flatten(1).float().div(255)  # here: a GPU divides a little differently
    return x.to(device), labels.long().to(device)


def binarize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Stochastic binarisation: each pixel of `x`, any shape with values in [0, 1], becomes 1 with its own value as
    the probability, else 0 (Salakhutdinov & Murray 2008). A fresh draw each call; pixels already 0 or 1 stay.

    Raises ValueError for pixels outside [0, 1].
    """
    if x.numel() and not (0 <= x.min() and x.max() <= 1):
        raise ValueError(f"pixels lie in [{x.min():g}, {x.max():g}]; expected [0, 1]: divide by 255 first?")
    device = generator.device if generator else x.device
    return (torch.rand(x.shape, generator=generator, device=device).to(x.device) < x).to(x.dtype)


@cache
def _full_mnist(source: str) -> Path | None:
    """The folder in which `source` finds the full MNIST, downloaded if need be; None means the embedded digits.

    Decided once per source and session, so that both splits come from the same place.
    """
    if source == "embedded":
        return None
    folder = DOWNLOADS if source == "full" else Path(source).expanduser()
    raw = folder / "MNIST" / "raw"
    missing = [name for name in MNIST_FILES if not (raw / name).is_file()]
    if not missing:
        return folder
    if source != "full":
        raise FileNotFoundError(
            f"no MNIST in {source!r}: expected in {raw}, but not found: {', '.join(missing)}. "
            'Give the folder above "MNIST", "full" to download it, or "embedded" for the 10,000 digits here.'
        )
    try:
        _download(folder)
    except Exception as error:  # no failure of a mirror, a proxy or a disk may stop the course
        print(f"The full MNIST could not be downloaded ({_in_words(error)}): using the 10,000 embedded digits instead.")
        return None
    return folder


def _download(folder: Path) -> None:
    """Download MNIST into `folder`: its files appear there only when all four have arrived and checksums agree."""
    from torchvision.datasets import MNIST  # here, because importing it takes as long as importing PyTorch

    folder.mkdir(parents=True, exist_ok=True)
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none
    try:
        with tempfile.TemporaryDirectory(prefix="partial-", dir=folder) as partial:
            with redirect_stderr(io.StringIO()):  # torchvision shows a progress bar for every file and mirror
                MNIST(partial, download=True)
            (folder / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
            for name in MNIST_FILES:  # each in one step: another process may be doing the same
                (Path(partial) / "MNIST" / "raw" / name).replace(folder / "MNIST" / "raw" / name)
    finally:
        socket.setdefaulttimeout(previous)


def _in_words(error: Exception) -> str:
    """The message of `error`, on one line of at most 240 characters."""
    return textwrap.shorten(str(error), 240, placeholder=" ...") or type(error).__name__


def _read_full(split: Split, folder: Path) -> tuple[Tensor, Tensor]:
    """Bytes (n, 28, 28) and labels (n,) of MNIST's own split, from `folder`."""
    from torchvision.datasets import MNIST

    try:
        mnist = MNIST(folder, train=split == "train")
    except Exception as error:
        raise ValueError(
            f"the MNIST files in {folder / 'MNIST' / 'raw'} can't be read ({_in_words(error)}). Put MNIST's own files "
            'there; or remove that folder, restart the kernel and use "full" to download them, or "embedded".'
        ) from error
    n = 60_000 if split == "train" else 10_000
    if mnist.data.shape != (n, 28, 28) or mnist.targets.shape != (n,):
        raise ValueError(
            f"{folder} holds {tuple(mnist.data.shape)} images and {len(mnist.targets)} labels where MNIST has "
            f"({n}, 28, 28) and {n}: not MNIST?"
        )
    return mnist.data, mnist.targets


@cache
def _unpacked(file: Path) -> tuple[Tensor, Tensor]:
    """Images and labels as the file has them, unpacked once per session."""
    with np.load(file) as arrays:
        return torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])


def _read_embedded(split: Split) -> tuple[Tensor, Tensor]:
    """Bytes (n, 28, 28) and labels (n,) of the digits in this folder.

    The file is sorted by digit and every fifth image is held out. The result is interleaved, so that the first images
    of a split, however many, are a fair sample of it (the first ten are 0, 1, ..., 9).
    """
    try:
        images, labels = _unpacked(EMBEDDED)
    except Exception as error:
        raise ValueError(
            f"{EMBEDDED} can't be read ({_in_words(error)}): restore it with `git checkout {EMBEDDED}`"
        ) from error
    rows = (torch.arange(len(images)) % 5 == 0) == (split == "heldout")
    images, labels = images[rows], labels[rows]
    rank = torch.cat([torch.arange(n, dtype=torch.float64) / n for n in labels.bincount()])  # within its digit
    order = rank.argsort(stable=True)
    return images[order], labels[order]
