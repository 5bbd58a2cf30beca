"""What must be true of the slides: short enough, complete without network, and nothing that overflows."""

import re
from hashlib import sha256
from html.parser import HTMLParser
from time import sleep

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.slides import __main__ as slides

pytestmark = pytest.mark.slow

DECKS = slides.decks()
each_deck = pytest.mark.parametrize("name", DECKS)
TOPICS = [
    "What squeezes 784 numbers",
    r"\tag{2.6}",  # formulation
    r"\tag{2.13}",  # KL, derived
    r"\tag{2.16}",  # ELBO
    r"\tag{4.1}",  # loss
    r"\tag{3.3}",  # the trick
    "def train_step",
    "class VAE",
    "How does it train?",  # learning curves
    "Can it draw new digits?",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All slides, made once."""
    folder = tmp_path_factory.mktemp("slides") / "slides"
    slides.make(folder)
    return folder


def code(deck):
    return [block.source for slide in deck for block in slide.blocks if block.metadata.kind == "code"]


def cell(source, slide_type="slide", **more):
    make = new_code_cell if source.startswith(("def", "x")) else new_markdown_cell
    return make(source, metadata={"slideshow": {"slide_type": slide_type, **more}})


@each_deck
def test_a_deck_fits_a_lecture(name):
    assert (18 if name == "lecture" else 12) <= len(DECKS[name]) <= (32 if name == "lecture" else 18)


@each_deck
def test_every_slide_has_a_title_and_something_below_it(name):
    assert [slide for slide in DECKS[name] if not re.match("##? ", slide.title) or not slide.blocks] == []


def test_the_lecture_has_its_topics_in_order():
    texts = ["\n".join([slide.title, *[block.source for block in slide.blocks]]) for slide in DECKS["lecture"]]
    found = [next(i for i, text in enumerate(texts) if topic in text) for topic in TOPICS]
    assert found == sorted(found)


@each_deck
def test_code_on_slides_is_short_and_has_no_marks_of_tests_or_exercises(name):
    assert code(DECKS[name]) or name.startswith(("02", "06"))
    for source in code(DECKS[name]):
        lines = source.splitlines()
        assert len(lines) <= slides.LINES, source
        assert max(map(len, lines)) <= slides.COLUMNS, source
        assert not re.search(r"SOLUTION|HIDDEN|NBVAL|# checks|\bassert\b|\"\"\"|^check\.", source, re.MULTILINE)


@each_deck
def test_no_exercise_and_no_answer_is_on_a_slide(name):
    deck = "\n".join(text for slide in DECKS[name] for text in [slide.title, *slide.notes])
    deck += "\n".join(block.source for slide in DECKS[name] for block in slide.blocks)
    assert not re.search(r"(Exercise|Question) \d|An answer|<details>|colab", deck)


def test_a_text_cell_gives_blocks_and_chosen_sentences_and_its_paragraphs_are_notes():
    source = "## Why?\n\nBecause. **So it is.** See [02](02_b.ipynb#c), [00](00_a.ipynb)."
    source += "\n\n![A.](../img/a.png)\n\n$$ x $$\n\n* a list"
    (slide,) = slides.of_notebook(new_notebook(cells=[cell(source, show=["So it"]), cell("Said.", "notes")]))
    assert slide.title == "## Why?"
    assert [block.source for block in slide.blocks] == ["**So it is.**", "$$ x $$", "* a list"]
    assert slide.notes == ["Because. **So it is.** See [02](02_b.html), 00.", "Said."]


def test_what_a_cell_is_to_show_must_be_in_it():
    for source in ("A sentence.", "x = 1"):
        with pytest.raises(ValueError, match='has "a phrase"'):
            slides.of_notebook(new_notebook(cells=[cell(source, show=["a phrase"])]))


def test_a_slide_with_nothing_but_a_title_is_refused():
    with pytest.raises(ValueError, match="nothing is on the slide with title '## Why"):
        slides.of_notebook(new_notebook(cells=[cell("## Why?\n\nBecause.")]))


def test_long_code_goes_on_on_the_next_slide():
    source = "\n\n".join(f"def f{i}(x):\n    y = x\n    return y" for i in range(5))
    first, second = slides.of_notebook(
        new_notebook(cells=[cell("## Code\n\n> so"), cell(source, "fragment", show=["def"])])
    )
    assert first.title == second.title == "## Code"
    assert code([first])[0].count("def") + code([second])[0].count("def") == 5


def test_code_is_trimmed():
    source = '''# NBVAL_CHECK_OUTPUT
def f(x: int, y: float = 1.0) -> float:
    """Add."""
    ### BEGIN SOLUTION
    return x + y  # noqa: X1
    ### END SOLUTION


assert f(1) == 2
print(f(1))
### BEGIN HIDDEN TESTS
assert f(2) == 3
### END HIDDEN TESTS'''
    assert slides.trimmed(source) == "def f(x, y=1.0):\n    return x + y"


def test_a_long_left_side_of_a_derivation_gets_a_line_of_its_own():
    left = r"\mathrm{KL}(q \,\Vert\, \mathcal{N}(0, I))"
    steps = slides.in_steps(
        rf"$$ \begin{{aligned}} {left} &= 1 && \text{{so}} \\ &= 2 && b \end{{aligned}} \tag{{1}} $$"
    )
    assert [line.split("&")[1].strip() for line in steps.split(r"\\")] == [left, "= 1", "= 2"]
    assert slides.in_steps("$$ x $$") == "$$ x $$"


class Links(HTMLParser):
    """Collects what a page loads, and where it leads."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.leads = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note src and href."""
        found = [value for name, value in attrs if name in ("src", "href") and not value.startswith("data:")]
        (self.leads if tag == "a" else self.loads).extend(found)
        assert tag != "img" or dict(attrs).get("alt"), "a picture without alternative text"


def test_the_folder_is_complete(folder):
    pages = sorted(folder.glob("*.html"))
    assert [page.stem for page in pages] == sorted([*DECKS, "index"])
    for page in pages:
        links = Links(page)
        local = [link for link in links.leads if not re.match("https?://", link)]
        assert page.stem != "index" or [f"{name}.html" for name in DECKS] == local
        assert [link for link in [*links.loads, *local] if not (folder / link.partition("#")[0]).is_file()] == []
    for sheet in folder.glob("assets/**/*.css"):
        text = sheet.read_text(encoding="utf-8")
        loads = re.findall(r"url\(['\"]?([^'\")]+)|@import \"([^\"]+)", text)
        assert [link for link in map("".join, loads) if re.match("https?:|//", link)] == []


CHECK = """() => {
  const slide = Reveal.getCurrentSlide(), body = slide.querySelector(".body"), wrong = [];
  const inside = box => box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
  for (const part of slide.querySelectorAll(".frame > h1, .frame > h2, .body > div, .body > div > *"))
    if (!inside(part.getBoundingClientRect())) wrong.push(`${part.className || part.tagName} leaves the page`);
  if (body.scrollHeight > body.clientHeight + 2) wrong.push(`${body.scrollHeight - body.clientHeight} pixels too tall`);
  for (const code of slide.querySelectorAll("pre, table, .equation mjx-container"))
    if (code.scrollWidth > code.parentElement.clientWidth) wrong.push(`${code.tagName} too wide`);
  for (const formula of slide.querySelectorAll(".equation mjx-container"))
    if (parseFloat(getComputedStyle(formula).fontSize) < 20) wrong.push("a formula too small to read");
  for (const figure of slide.querySelectorAll(".figure img:not(.live ~ img), .live canvas"))
    if (figure.clientHeight < (figure.tagName == "IMG" ? 180 : 140))
      wrong.push(`a figure ${figure.clientHeight} pixels high`);
  if (slide.querySelector("[data-mml-node=merror]")) wrong.push("an error of MathJax");
  if (/[$]|\\\\begin/.test(slide.innerText)) wrong.push("TeX that is not typeset");
  return wrong;
}"""


def late(route):
    """Let a file come half a second after it was asked for, as from a busy disk: the page must wait for it."""
    sleep(0.5)
    route.continue_()


@each_deck
def test_in_a_browser_every_step_of_every_slide_fits(name, folder, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.route("**/source-sans-pro/*.woff", late)
    page.goto((folder / f"{name}.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    seen = set()
    while True:
        at = page.evaluate("Reveal.getIndices().h")
        seen.add(at)
        assert page.evaluate(CHECK) == [], f"slide {at + 1}: {DECKS[name][at].title}"
        if page.evaluate("Reveal.isLastSlide() && !Reveal.availableFragments().next"):
            break
        page.evaluate("Reveal.next()")
    assert len(seen) == len(DECKS[name])
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()


def test_in_a_browser_derivations_come_line_by_line_and_the_speaker_sees_notes(folder, browser):
    page = browser.new_page()
    page.goto((folder / "lecture.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    derivation = next(i for i, slide in enumerate(DECKS["lecture"]) if r"\tag{2.13}" in slide.blocks[0].source)
    page.evaluate(f"Reveal.slide({derivation})")
    assert page.locator("section.present [data-mml-node=mtr].fragment:not(.visible)").count() == 4
    page.keyboard.press("Space")
    assert page.locator("section.present [data-mml-node=mtr].fragment:not(.visible)").count() == 3
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("A VAE needs exactly one KL divergence in closed form").wait_for(timeout=300_000)
    assert notes.locator("svg").count() > 0
    popup.value.close()
    page.close()


def test_what_is_vendored_is_what_was_taken():
    sums = dict(line.split("  ./")[::-1] for line in (slides.VENDOR / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(slides.VENDOR).as_posix(): path for path in slides.VENDOR.rglob("*") if path.is_file()}
    assert sums == {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items() if name in sums}
    assert set(files) - set(sums) == {"SHA256SUMS"}
