"""What must be true of every notebook as it is stored: whole, freshly run, checked, and fit to be read on GitHub."""

import math
import re
from collections import Counter
from itertools import pairwise

import nbformat
import pytest
import torch

from tools import cells as course
from tools.notebook import COURSE, SETUP, dependencies, exercises
from tools.run import normalise

NAMES = course.NAMES
assert NAMES, f"no notebooks in {course.FOLDER}"
each_notebook = pytest.mark.parametrize("name", NAMES)
each_chapter = pytest.mark.parametrize("name", course.CHAPTER_NAMES)
each_text = pytest.mark.parametrize("name", [*NAMES, "README"])

MARKER = "# NBVAL_CHECK_OUTPUT"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!?\[[^\[\]]*\]\([^()]*\))*)\]\(([^()\s]+)\)")


def file(name):
    return COURSE / "README.md" if name == "README" else course.FOLDER / f"{name}.ipynb"


def code(name):
    return [cell for cell in course.load(name).cells if cell.cell_type == "code"]


def markdown(name):
    """The text cells of a notebook, or the README."""
    if name == "README":
        return file(name).read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in course.load(name).cells if cell.cell_type == "markdown")


def prose(name):
    """The text without its code and formulas, in which # and [] mean something else."""
    return re.sub(r"```.*?```|\$\$.*?\$\$|`[^`\n]*`|\$[^$\n]*\$", "", markdown(name), flags=re.DOTALL)


def texts(cell):
    """All text that a code cell printed or showed."""
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [text for text in shown if text]


def anchors(name):
    """What links to the headings look like: `#How-wide?` in Jupyter, `#how-wide` on GitHub."""
    headings = re.findall(r"^#+ +(.+?) *$", markdown(name), re.MULTILINE)
    github = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in [*headings, *github]}


@each_notebook
def test_it_is_stored_as_one_fresh_run(name):
    assert [cell.execution_count for cell in code(name)] == list(range(1, len(code(name)) + 1))


@each_notebook
def test_it_is_normalised(name):
    notebook = course.load(name)
    normalise(notebook)
    assert file(name).read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"


@each_notebook
def test_it_is_valid_and_small(name):
    notebook = course.load(name)
    nbformat.validate(notebook)
    assert set(Counter(cell.id for cell in notebook.cells).values()) == {1}
    assert file(name).stat().st_size < 2_000_000


@each_notebook
def test_no_output_is_an_error_or_a_warning_or_needs_a_kernel(name):
    outputs = [output for cell in code(name) for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    assert [output for output in outputs if any("widget" in kind for kind in output.get("data", {}))] == []


@each_notebook
def test_no_path_of_a_machine_is_stored(name):
    printed = [text for cell in code(name) for text in texts(cell)]
    paths = re.compile(r"/(home|root|tmp|Users|work|opt|usr|var)/|[A-Z]:\\")
    assert [text for text in [*printed, *course.sources(name)] if paths.search(text)] == []


@each_notebook
def test_it_begins_with_a_title_and_the_hidden_setup_that_all_share(name):
    title, setup = course.load(name).cells[:2]
    assert title.source.startswith(f"# {name[:2]} · ")
    assert setup.metadata.jupyter.source_hidden
    assert setup.metadata.cellView == "form"
    assert setup.source.startswith(SETUP)
    assert setup.source == course.sources(NAMES[0])[0]


@each_chapter
def test_ten_outputs_are_checked_and_every_checked_cell_has_one(name):
    checked = [cell for cell in code(name) if MARKER in cell.source]
    assert len(checked) >= 10
    for cell in checked:
        assert cell.source.startswith(f"{MARKER}\n"), "nbval wants the marker alone on its line"
        assert texts(cell), f"nbval checks nothing where nothing is stored:\n{cell.source}"
        assert not [output for output in cell.outputs if "image/png" in output.get("data", {})]


@each_notebook
def test_no_cell_is_excused(name):
    excuses = re.compile(r"NBVAL_(?!CHECK_OUTPUT\b)|nbval-|raises-exception|skip-execution", re.IGNORECASE)
    for cell in code(name):
        assert not excuses.search(cell.source + str(cell.metadata.get("tags", [])))


@each_chapter
def test_code_cells_are_short(name):
    lines = sorted(len(source.splitlines()) for source in course.sources(name))
    assert lines[len(lines) // 2] < 12
    assert lines[-1] <= 30


@each_chapter
def test_every_displayed_equation_is_numbered_in_order_and_checked_by_code(name):
    displays = re.findall(r"\$\$(.*?)\$\$", markdown(name), re.DOTALL)
    assert displays
    assert [display for display in displays if display.count(r"\tag{") != 1] == []
    assert not re.search(r"\\\[|\\begin\{(align|equation|gather)\*?\}", prose(name)), "display formulas between $$"
    assert course.equations(name) == [f"{int(name[:2])}.{i}" for i in range(1, len(displays) + 1)]
    assert [equation for equation in course.equations(name) if not course.checking(name, equation)] == []


@each_chapter
def test_every_check_names_its_equations_and_can_fail(name):
    known = {f"({equation})" for equation in course.equations(name)}
    for source in course.sources(name):
        for comment in re.findall(r"^ *# checks .*", source, re.MULTILINE):
            assert set(re.findall(r"\(\d+\.\d+\)", comment)) & known, comment
            assert re.search(r"\bassert\b|assert_close|\braise\b", source), source


@each_chapter
def test_no_cell_needs_what_a_check_of_an_equation_defines(name):
    cells = course.sources(name)
    checks = {i for i, source in enumerate(cells) if re.search(r"^ *# checks ", source, re.MULTILINE)}
    for i, source in enumerate(cells):
        assert checks & set(dependencies(cells, [i])) <= {i}, source


@each_chapter
def test_every_exercise_has_one_cell_with_its_answer_and_one_check(name):
    cells = course.sources(name)
    marks = [re.findall(r"^ *### (BEGIN|END) SOLUTION$", source, re.MULTILINE) for source in cells]
    solutions = [found for found in marks if found]
    checks = [source for source in cells if re.search(r"^check\.", source, re.MULTILINE)]
    exercises = re.findall(r"^### Exercise .*points?\)", markdown(name), re.MULTILINE)
    assert [found for found in solutions if found != ["BEGIN", "END"] * (len(found) // 2)] == []
    assert len(solutions) == len(exercises)
    assert len(checks) == len(exercises)


def counted(name):
    """Words of text, and lines of code without blank ones, setup, tests and what moves a slider's picture."""
    words = sum(len(cell.source.split()) for cell in course.load(name).cells if cell.cell_type == "markdown")
    aside = re.compile(r"^(# @title Setup|check\.|# checks )|\breturn move$|\b(explore|stills)\(", re.MULTILINE)
    code = [source for source in course.sources(name) if not aside.search(source)]
    return words, sum(bool(line.strip()) for source in code for line in source.splitlines())


@each_chapter
def test_it_can_be_finished_in_the_time_it_promises(name):
    words, lines = counted(name)
    figures = sum("image/png" in output.get("data", {}) for cell in code(name) for output in cell.outputs)
    part_one = name < "05"
    assert words <= (3200 if part_one else 2800)
    assert lines <= (350 if part_one else 330)
    assert len(course.load(name).cells) <= 95
    assert figures <= 14
    minutes = words / 130 + 0.15 * lines + sum(8 if graded.name else 5 for graded in exercises(course.load(name)))
    promised = 5 * math.ceil(minutes / 5)
    assert f"**Time** {promised} minutes" in course.load(name).cells[0].source
    assert re.search(rf"^\| \[.*/{name}\.ipynb\).* \| {promised} min \|", prose("README"), re.MULTILINE)


@each_chapter
def test_checks_of_equations_are_folded_and_say_what_holds(name):
    for cell in code(name):
        if re.search(r"^# checks ", cell.source, re.MULTILINE):
            assert cell.metadata.jupyter.source_hidden
            assert cell.metadata.cellView == "form"
            assert "hide-input" in cell.metadata.tags
            assert re.fullmatch(r"\(\d\.\d+\).* holds?: .*\n", texts(cell)[0]), texts(cell)


@each_text
def test_headings_skip_no_level(name):
    levels = [len(heading) for heading in re.findall(r"^(#+) ", prose(name), re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


@each_text
def test_every_picture_has_an_alternative_text(name):
    assert [target for mark, text, target in LINK.findall(prose(name)) if mark and not text.strip()] == []
    assert "<img" not in re.sub(r'<img[^>]*\balt="[^"]+"', "", prose(name))


@each_text
def test_every_link_inside_the_course_leads_somewhere(name):
    links = LINK.findall(prose(name))
    links += [link for _, text, _ in links for link in LINK.findall(text)]  # a badge is a picture inside a link
    for _, _, target in links:
        if not re.match(r"https?://", target):
            path, _, anchor = target.partition("#")
            there = (file(name).parent / path).resolve() if path else file(name)
            assert there.exists(), target
            assert there.is_relative_to(COURSE), target
            assert not anchor or anchor in anchors(there.stem), target


# ---- 00, the whole VAE on one page


def test_the_page_is_short():
    cells = course.load("00_in_five_minutes").cells
    assert len(cells) <= 25
    assert len(markdown("00_in_five_minutes").split()) <= 600


def test_the_page_is_the_vae_of_notebook_04():
    page, chapter = course.definitions("00_in_five_minutes"), course.definitions("04_vae")
    x = (torch.rand(5, 784, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    model = page.VAE(latent_dim=3)
    torch.manual_seed(1)
    logits, mu, logvar = model(x)
    torch.manual_seed(1)
    z = chapter.reparameterize(*model.encoder(x).chunk(2, dim=-1))
    torch.testing.assert_close(logits, model.decoder(z))
    torch.manual_seed(1)
    torch.testing.assert_close(page.negative_elbo(model, x), chapter.vae_loss(logits, x, mu, logvar)["loss"])
