"""Write a GitHub repository's address into the course: `make publish REPO=owner/name BRANCH=main`.

README.md gets the badge of the tests, its line for `git clone` and links to Colab, pyproject.toml and CITATION.cff the
address, each notebook its badge, and the notebooks' setup cell the repository to fetch on Colab. Without REPO the
address is that of the git remote "origin"; `make publish REPO=` takes everything out again.
"""

import argparse
import re
import subprocess
from pathlib import Path

import nbformat

from tools.notebook import COURSE, write_whole

NAME = r"[A-Za-z0-9-]+/[\w.-]+"
BRANCH = r"[\w.-]+(?:/[\w.-]+)*"
COLAB = "https://colab.research.google.com/github/{repository}/blob/{branch}/{path}"
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({})\n"
BADGE_LINE = re.compile(r"^\[!\[Open in Colab\].*\n\n?", re.MULTILINE)
ADDRESS = re.compile(r'(REPOSITORY, BRANCH = ").*?(", ").*?(")')
PUBLISHED = re.compile(r"(^\S+ published\b.*?\n).*?(^\S+ /published\b)", re.DOTALL | re.MULTILINE)
README = """
[![Tests]({tests}/badge.svg)]({tests})

```bash
git clone https://github.com/{repository} course
cd course
```

On Colab: {links}

"""
PLACES = {  # file: what is written between the marks "published" and "/published"
    "README.md": README,
    "pyproject.toml": 'Repository = "https://github.com/{repository}"\n',
    "CITATION.cff": "repository-code: https://github.com/{repository}\n",
}


def origin(course: Path) -> str:
    """owner/name of the GitHub repository that is the git remote "origin" of `course`; ValueError if there is none."""
    git = subprocess.run(["git", "remote", "get-url", "origin"], cwd=course, capture_output=True, text=True)
    found = re.search(rf"github\.com[:/]({NAME}?)(\.git)?/?$", git.stdout.strip())
    if not found:
        raise ValueError('the git remote "origin" is no repository on GitHub: name yours, make publish REPO=owner/name')
    return found[1]


def publish(repository: str, course: Path, branch: str = "main") -> list[Path]:
    """Write `repository`, owner/name, or "" for none, into PLACES and all notebooks; returns the files that changed.

    Raises ValueError for a malformed name, before anything is written.
    """
    if repository and not re.fullmatch(NAME, repository):
        raise ValueError(f"{repository!r} doesn't name a repository: make publish REPO=owner/name")
    if not re.fullmatch(BRANCH, branch):
        raise ValueError(f"{branch!r} doesn't name a branch: make publish REPO=owner/name BRANCH=main")

    def colab(path: Path) -> str:
        return COLAB.format(repository=repository, branch=branch, path=path.relative_to(course).as_posix())

    notebooks = sorted(course.glob("notebooks/**/*.ipynb"))
    new = {path: _notebook(path, repository, branch, colab(path)) for path in notebooks}
    links = " · ".join(f"[{path.stem[:2]}]({colab(path)})" for path in notebooks if path.parent.name == "notebooks")
    tests = f"https://github.com/{repository}/actions/workflows/test.yml"
    for name, text in PLACES.items():
        region = text.format(repository=repository, links=links, tests=tests) if repository else ""
        old = (course / name).read_text(encoding="utf-8")
        new[course / name] = PUBLISHED.sub(lambda marks, region=region: marks[1] + region + marks[2], old)
    changed = [path for path, text in new.items() if text.encode() != path.read_bytes()]
    for path in changed:
        write_whole(path, new[path])
    return changed


def _notebook(path: Path, repository: str, branch: str, link: str) -> str:
    """The notebook at `path` with its badge below the title, and with the address in its setup cell."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = ADDRESS.sub(rf"\g<1>{repository}\g<2>{branch}\g<3>", cell.source)
        elif cell.source.startswith("# "):
            title, _, rest = BADGE_LINE.sub("", cell.source).partition("\n\n")
            badge = f"{BADGE.format(link)}\n" if repository else ""
            cell.source = f"{title}\n\n{badge}{rest}"
    return nbformat.writes(notebook) + "\n"


def main() -> None:
    """Publish under the address given on the command line, or under that of the remote."""
    parser = argparse.ArgumentParser(description="Write the repository's address into the course.")
    parser.add_argument("--repo", help="owner/name; empty: take the address out; left out: the git remote's")
    parser.add_argument("--branch", default="main")
    arguments = parser.parse_args()
    try:
        repository = origin(COURSE) if arguments.repo is None else arguments.repo
        changed = publish(repository, COURSE, arguments.branch or "main")
    except ValueError as error:
        parser.error(str(error))
    print(f"{repository or 'no address'}:", ", ".join(str(path.relative_to(COURSE)) for path in changed) or "no change")


if __name__ == "__main__":
    main()
