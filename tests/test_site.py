"""The site, as a reader's browser sees it: built once, served from this machine, and every page of it visited."""

import json
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from types import SimpleNamespace
from urllib.parse import urldefrag

import pytest

from tools.notebook import CHAPTERS, COURSE, NOTEBOOKS

pytestmark = pytest.mark.slow

SPHINX = "-m sphinx -M html . {} -c docs -E -q -W --keep-going"
LOOK = """async () => {
    document.querySelectorAll("details").forEach(details => details.open = true);
    if (window.MathJax?.startup) await MathJax.startup.promise;
    await Promise.allSettled([...document.images].map(image => image.decode()));
    const all = (selector, look) => [...document.querySelectorAll(selector)].map(look);
    const prose = document.querySelector("article").cloneNode(true);
    prose.querySelectorAll("pre, code, mjx-container").forEach(element => element.remove());
    return {
        language: document.documentElement.lang,
        links: all("a[href]", link => link.href),
        previous: all("a.left-prev", link => link.href),
        next: all("a.right-next", link => link.href),
        anchors: all("[id]", element => element.id),
        pictures: all("img", image => [image.src, image.naturalWidth, image.alt]),
        headings: all("article :is(h1, h2, h3, h4, h5, h6)", heading => Number(heading.tagName[1])),
        formulas: all("mjx-container", formula => formula.textContent),
        errors: all("mjx-merror", error => error.outerHTML),
        prose: prose.textContent,
    };
}"""


class Quiet(SimpleHTTPRequestHandler):
    """A web server that doesn't print what it is asked for."""

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the finished site, whose pages are in html/."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, *(part.format(folder) for part in SPHINX.split())]
    built = subprocess.run(command, cwd=COURSE, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def home(folder):
    """The address of the finished site, in a folder of a server as on GitHub Pages."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/html/"
    server.shutdown()


@pytest.fixture(scope="module")
def complaints():
    """What went wrong on any page: errors in the console, answers that are none, requests to other machines."""
    return []


@pytest.fixture(scope="module")
def page(browser, home, complaints):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.on("request", lambda request: request.url.startswith((home, "data:")) or complaints.append(request.url))
    context.on("response", lambda answer: answer.status < 400 or complaints.append(f"{answer.url}: {answer.status}"))
    context.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def visits(page, home):
    """Every page that links lead to from the home page, by address: what LOOK finds, and the width on a phone."""
    visits, todo = {}, [home]
    while todo:
        url = todo.pop()
        if not page.goto(url).ok:
            continue  # the tests say where the link is
        found = page.evaluate(LOOK)
        page.set_viewport_size({"width": 360, "height": 740})
        visits[url] = SimpleNamespace(**found, width=page.evaluate("document.scrollingElement.scrollWidth"))
        page.set_viewport_size({"width": 1280, "height": 900})
        internal = {urldefrag(link).url for link in found["links"] if link.startswith(home)}
        todo += [link for link in internal if link.endswith(".html") and link not in [*visits, *todo]]
    return visits


@pytest.fixture(scope="module")
def notebooks(visits, home):
    """The visits to the notebooks' pages, by the notebook's name."""
    return {path.stem: visits[f"{home}notebooks/{path.stem}.html"] for path in NOTEBOOKS}


def test_every_link_leads_somewhere(visits, page, home):
    links = {(url, link) for url, visit in visits.items() for link in visit.links if link.startswith(home)}
    assert len(links) > 100
    for url, link in links:
        target, anchor = urldefrag(link)
        if target in visits:
            assert anchor in ["", *visits[target].anchors], f"{url}: {link}"
        else:  # a file to download
            assert page.request.head(link).ok, f"{url}: {link}"


def test_links_to_colab_are_those_of_the_notebooks(notebooks):
    """None before `make publish` has written an address."""
    for path in NOTEBOOKS:
        links = [link for link in notebooks[path.stem].links if "colab.research.google.com" in link]
        title = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        assert links == re.findall(r"\((https://colab\.research\.google\.com/github/.*)\)", "".join(title))


def test_every_picture_is_there_and_described(visits, notebooks):
    for url, visit in visits.items():
        for source, width, description in visit.pictures:
            assert width > 0, f"{url}: {source}"
            assert len(description) > 10, f"{url}: {source}"
            assert not description.endswith(".png"), f"{url}: {source}"
    for path in CHAPTERS:
        assert len(notebooks[path.stem].pictures) >= (9 if path.stem < "05" else 5)


def test_formulas_are_typeset(visits, notebooks):
    for url, visit in visits.items():
        assert visit.errors == [], url
        unknown = [formula for formula in visit.formulas if "\\" in formula]  # as MathJax shows such macros
        assert unknown == [], url
        assert re.findall(r".*[$\\].*", visit.prose) == [], url
    for name, visit in ((path.stem, notebooks[path.stem]) for path in CHAPTERS):
        assert len(visit.formulas) > 20, name
        assert any(f"({int(name[:2])}.1)" in formula for formula in visit.formulas), name  # the numbers of equations


def test_headings_are_in_order(visits):
    for url, visit in visits.items():
        assert visit.language == "en", url
        assert visit.headings[0] == 1, url
        assert visit.headings.count(1) == 1, url
        assert all(after <= before + 1 for before, after in pairwise(visit.headings)), f"{url}: {visit.headings}"


def test_no_page_is_wider_than_a_phone(visits):
    assert {url: visit.width for url, visit in visits.items() if visit.width > 360} == {}


def test_the_site_is_small_and_its_first_page_soon_there(browser, home, folder):
    assert sum(path.stat().st_size for path in (folder / "html").rglob("*") if path.is_file()) < 30e6
    page, bytes_loaded = browser.new_page(), []
    page.on("response", lambda answer: bytes_loaded.append((answer.request.resource_type, len(answer.body()))))
    page.goto(home, wait_until="networkidle")
    assert sum(size for kind, size in bytes_loaded if kind != "image") < 1e6
    page.close()


def test_next_and_previous_follow_the_series(visits, home):
    pages = [f"{home}README.html", *(f"{home}notebooks/{path.stem}.html" for path in NOTEBOOKS)]
    pages += [f"{home}{name}.html" for name in ("docs/performance", "docs/teaching", "CONTRIBUTING")]
    for before, after in pairwise(pages):
        assert visits[before].next == [after]
        assert visits[after].previous == [before]
    assert visits[pages[0]].previous == visits[pages[-1]].next == []


def test_search_finds_a_word(page, home):
    page.goto(f"{home}notebooks/01_autoencoder.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("reparameterization")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li p.context")
    page.wait_for_load_state("networkidle")
    assert "The reparameterization trick" in page.inner_text("#search-results li a")
    page.click("#search-results li a")
    assert "notebooks/03_reparameterization.html" in page.url


def test_dark_mode_can_be_switched_on_and_stays(page, home):
    background = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    page.goto(home)
    assert min(page.evaluate(background)) > 230
    page.click(".theme-switch-button:visible")
    page.click(".theme-change-button[data-mode=dark]:visible")
    assert max(page.evaluate(background)) < 40
    page.goto(f"{home}notebooks/04_vae.html")
    assert max(page.evaluate(background)) < 40


def test_nothing_failed_and_nothing_left_the_machine(visits, complaints):  # last: what the tests above did counts too
    assert complaints == []
