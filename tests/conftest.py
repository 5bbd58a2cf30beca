"""What every test, and every notebook that runs as one, finds around it."""

import os
import shutil
from collections.abc import Iterator

import matplotlib
import playwright.sync_api
import pytest

os.environ["TQDM_DISABLE"] = "1"
os.environ["VAE_DIGITS"] = "embedded"  # stored outputs were made from these, on a machine with a GPU too
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # as many workers as cores: PyTorch's threads would only wait for each other
matplotlib.use("agg")  # tests open no windows; a notebook's kernel chooses for itself


@pytest.fixture(scope="session")
def browser() -> Iterator[playwright.sync_api.Browser]:
    """Chromium without a window: the one that CHROMIUM names, else one in the path, else Playwright's own."""
    names = ["chromium", "google-chrome", "chromium-browser"]
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_api.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=path, args=["--disable-background-networking"])
        except playwright.sync_api.Error as error:
            give_up = pytest.fail if "CI" in os.environ else pytest.skip
            reason = error.message.splitlines()[0]
            give_up(f"No browser: name a Chromium in CHROMIUM, or run `playwright install chromium`. {reason}")
        yield chromium
        chromium.close()
