"""utils.diagrams: the files in img/ are what they draw, it can be read, and its numbers are right."""

import inspect
import re
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tools import figures, run
from tools.notebook import COURSE
from utils import diagrams
from utils.diagrams import ALT
from utils.plotting import use_style

IMG = COURSE / "img"
NUMBER = r"-?\d+\.\d+"
each_picture = pytest.mark.parametrize("name", ALT)


@pytest.fixture(autouse=True)
def clean():
    plt.switch_backend("agg")
    with mpl.rc_context():
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with all pictures, as `make figures` writes them."""
    folder = tmp_path_factory.mktemp("img")
    figures.main(folder)
    return folder


def texts(name):
    """The texts in a picture, with − and - alike."""
    fig = getattr(diagrams, name)()
    return [text.get_text().replace("−", "-") for text in fig.findobj(mpl.text.Text) if text.get_text().strip()]


def markdown():
    """The README, the pages in docs/ and the text cells of the notebooks."""
    notebooks = [nbformat.read(path, as_version=4) for path in COURSE.glob("notebooks/*.ipynb")]
    cells = [cell.source for notebook in notebooks for cell in notebook.cells if cell.cell_type == "markdown"]
    pages = [COURSE / "README.md", *COURSE.glob("docs/*.md")]
    return [*(page.read_text(encoding="utf-8") for page in pages), *cells]


# ---- the files


def test_every_picture_has_an_alternative_text_and_its_files(drawn):
    public = [name for name, value in vars(diagrams).items() if inspect.isfunction(value) and name[0] != "_"]
    ours = [name for name in public if getattr(diagrams, name).__module__ == diagrams.__name__]
    assert set(ours) == set(ALT)
    assert {path.name for path in drawn.iterdir()} == {f"{name}.{kind}" for name in ALT for kind in ("svg", "png")}


@each_picture
def test_the_stored_svg_is_fresh(name, drawn):
    stored, fresh = [(folder / f"{name}.svg").read_text(encoding="utf-8") for folder in (IMG, drawn)]
    ids = r"\b[a-z]+[0-9a-f]{10}\b"  # made from numbers of which another processor rounds the last digit otherwise
    frame, *frames = [re.sub(NUMBER, "0", re.sub(ids, "id", svg)) for svg in (stored, fresh)]
    assert frames == [frame], "make figures"
    numbers = [np.array(re.findall(NUMBER, re.sub(ids, "id", svg)), float) for svg in (stored, fresh)]
    np.testing.assert_allclose(*numbers, atol=0.01, err_msg="make figures")


@each_picture
def test_the_stored_png_is_fresh(name, drawn):
    stored, fresh = [plt.imread(folder / f"{name}.png") for folder in (IMG, drawn)]
    assert stored.shape == fresh.shape
    assert np.abs(stored - fresh).mean() < 0.001, "make figures"


@each_picture
def test_the_svg_needs_nothing_else_and_says_what_it_shows(name):
    svg = (IMG / f"{name}.svg").read_text(encoding="utf-8")
    assert f"<title>{ALT[name]}</title>" in svg
    assert "<text" not in svg  # letters are outlines, the same without the fonts
    assert "<image" not in svg
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', svg))
    assert (IMG / f"{name}.svg").stat().st_size < 150_000
    assert (IMG / f"{name}.png").stat().st_size < 130_000


def test_every_file_in_img_is_drawn_by_code_and_shown():
    notebooks = [nbformat.read(path, as_version=4) for path in COURSE.glob("notebooks/*.ipynb")]
    tagged = {name for notebook in notebooks for name in run.figures(notebook)}
    known = tagged | {f"{name}.{kind}" for name in ALT for kind in ("svg", "png")}
    assert {path.name for path in IMG.iterdir()} == known
    shown = set(re.findall(r"(?:\]\((?:\.\./)?|src=\")img/(\w+)\.(?:svg|png|webp)", "\n".join(markdown())))
    assert shown == {name.partition(".")[0] for name in tagged} | set(ALT)


def test_every_picture_is_shown_with_its_alternative_text():
    for text in markdown():
        for alternative, name in re.findall(r"!\[([^]]*)\]\((?:\.\./)?img/(\w+)\.\w+\)", text):
            assert alternative == ALT.get(name, alternative)
            assert alternative
            assert "|" not in alternative  # it would end a cell of a table


# ---- how they are drawn


@each_picture
def test_one_call_opens_one_figure_which_settings_do_not_change(name):
    plain = figures.render(name, "svg")
    use_style()
    plt.rcParams.update({"font.size": 20, "lines.linewidth": 5, "mathtext.fontset": "stix", "svg.fonttype": "none"})
    assert figures.render(name, "svg") == plain
    settings = dict(plt.rcParams)
    fig = getattr(diagrams, name)()
    assert plt.get_fignums() == [fig.number]
    assert plt.rcParams == settings


@each_picture
def test_texts_are_large_enough_apart_and_on_an_opaque_sheet(name):
    fig = getattr(diagrams, name)()
    assert fig.get_figwidth() == 8
    assert 2.5 <= fig.get_figheight() <= 3.6
    assert fig.get_facecolor() == (1, 1, 1, 1)
    fig.canvas.draw()
    shown = [text for text in fig.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip()]
    boxes = {(i, text.get_text()): text.get_window_extent() for i, text in enumerate(shown)}
    assert min(text.get_fontsize() for text in shown) >= 9
    for text, box in boxes.items():
        assert fig.bbox.x0 < box.x0 < box.x1 < fig.bbox.x1, text
        assert fig.bbox.y0 < box.y0 < box.y1 < fig.bbox.y1, text
    assert [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])] == []


def test_notebooks_without_digits_do_not_wait_for_torchvision():
    code = "import sys, utils.diagrams; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=COURSE).returncode == 0


# ---- the numbers in them


def test_the_bars_of_elbo_are_right_and_add_up():
    prior, q, likelihood = norm(0, 1), norm(1.1, 0.4), lambda z: norm(z, 0.5).pdf(2)
    evidence = np.log(quad(lambda z: likelihood(z) * prior.pdf(z), -8, 8)[0])
    recon = quad(lambda z: -q.pdf(z) * np.log(likelihood(z)), -2, 4)[0]
    kl = quad(lambda z: q.pdf(z) * (q.logpdf(z) - prior.logpdf(z)), -2, 4)[0]
    shown = " ".join(texts("elbo"))
    numbers = {
        r"\log p(x)$ =": evidence, "gap": evidence + recon + kl, "ELBO =": -recon - kl, "-recon =": -recon, "-kl =": -kl
    }  # fmt: skip
    found = {name: float(re.search(rf"{re.escape(name)} ({NUMBER})", shown)[1]) for name in numbers}
    assert found == pytest.approx(numbers, abs=0.005)
    assert found["ELBO ="] + found["gap"] == pytest.approx(found[r"\log p(x)$ ="])
    assert found["-recon ="] + found["-kl ="] == pytest.approx(found["ELBO ="])
    assert all(f"{number:.2f}" in ALT["elbo"].replace("−", "-") for number in found.values())

    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in diagrams.elbo().axes[0].patches]
    bound = -recon - kl
    np.testing.assert_allclose(
        bars, [(evidence, 0), (bound, evidence), (bound, 0), (-recon, 0), (bound, -recon)], atol=1e-5
    )


def test_the_numbers_of_kl_are_right_and_add_up():
    p, q = norm(0, 1), norm(1, 0.7)
    assert {r"$p = \mathcal{N}(0, 1)$", r"$q = \mathcal{N}(1, 0.7^2)$"} < set(texts("kl"))
    titles = [text for text in texts("kl") if text.endswith("nats")]
    z = np.linspace(-8, 8, 10_001)
    for title, first, second in zip(titles, (q, p), (p, q), strict=True):
        (m, s), (n, t) = [(one.mean(), one.std()) for one in (first, second)]
        integrand = first.pdf(z) * (first.logpdf(z) - second.logpdf(z))
        numbers = {
            "above": np.trapezoid(integrand.clip(min=0), z),
            "below": -np.trapezoid(integrand.clip(max=0), z),
            "total": np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5,
        }
        shown = re.search(rf"(?P<above>{NUMBER}) - (?P<below>{NUMBER}) = (?P<total>{NUMBER}) nats", title)
        found = {name: float(number) for name, number in shown.groupdict().items()}
        assert found == pytest.approx(numbers, abs=0.005)
        assert found["above"] - found["below"] == pytest.approx(found["total"])
        assert {f"+{shown['above']}", f"-{shown['below']}"} < set(texts("kl"))
        assert shown[0] in ALT["kl"].replace("−", "-")
