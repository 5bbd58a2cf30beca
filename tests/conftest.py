"""What every test, and every notebook that runs as one, finds around it."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot as plt
import pytest
from jupyter_client import KernelManager

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ["TQDM_DISABLE"] = "1"
os.environ["VAE_DIGITS"] = "embedded"  # stored outputs were made from these, on a machine with a GPU too
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # as many workers as cores: PyTorch's threads would only wait for each other
matplotlib.use("agg")  # tests open no windows; a notebook's kernel chooses for itself


if os.name == "posix":  # kernels talk through files: two that start at the same time may be given the same free port
    start = KernelManager.__init__

    def start_with_files(self: KernelManager, **options: object) -> None:
        """A kernel manager as ever, with sockets of its own in the folder for temporary files."""
        start(self, **{"transport": "ipc", "ip": f"{tempfile.gettempdir()}/kernel-{uuid.uuid4().hex}"} | options)

    KernelManager.__init__ = start_with_files


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give nbval's cells more than 5 seconds to hear from a kernel: a slow machine is no fault."""
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 300


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Tests share a process, in an order that differs between machines: none finds another's figures or its zeros."""
    import torch  # here, because it counts its threads when it is imported, and OMP_NUM_THREADS is set above

    plt.close("all")
    yield
    plt.close("all")
    torch.set_flush_denormal(False)  # which `pick_device` sets, and Hypothesis refuses


@pytest.fixture(scope="module")  # not longer: while it lives, its event loop is in the way of tests that run notebooks
def browser() -> Iterator["Browser"]:
    """A Chromium: the one that CHROMIUM names, one that is installed, or Playwright's own."""
    from playwright.sync_api import sync_playwright  # here, because `make test-colab` has none

    installed = filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser")))
    executable = os.environ.get("CHROMIUM") or next(installed, None)
    with sync_playwright() as playwright:
        if not executable and not Path(playwright.chromium.executable_path).exists():
            missing = "no Chromium: install one, name it in CHROMIUM, or run `playwright install chromium`"
            pytest.fail(missing) if "CI" in os.environ else pytest.skip(missing)
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=executable, args=quiet, timeout=300_000)
        yield chromium
        chromium.close()
