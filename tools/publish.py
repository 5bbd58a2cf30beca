"""Write a GitHub repository's address wherever the course names its own: `make publish REPO=owner/name`.

That is in the "Open in Colab" badges and the `git clone` line of README.md and of the notebooks, and in the notebooks'
setup cell. Without REPO the address is that of the git remote "origin".
"""

import re
import subprocess
import sys
from pathlib import Path

COURSE = Path(__file__).parents[1]
NAME = r"[A-Za-z0-9-]+/[\w.-]+"
ADDRESS = re.compile(  # in a notebook's JSON a backslash stands before a quotation mark
    rf'(colab\.research\.google\.com/github/|git clone https://github\.com/|REPOSITORY = \\?"){NAME}'
)


def origin(course: Path) -> str:
    """owner/name of the GitHub repository that the git remote "origin" of `course` stands for."""
    git = subprocess.run(["git", "remote", "get-url", "origin"], cwd=course, capture_output=True, text=True)
    found = re.search(rf"github\.com[:/]({NAME}?)(\.git)?/?$", git.stdout.strip())
    if not found:
        raise SystemExit('The git remote "origin" is no repository on GitHub: name yours, make publish REPO=owner/name')
    return found[1]


def publish(repository: str, course: Path) -> list[Path]:
    """Write `repository`, owner/name, into README.md and all notebooks of `course`; returns the files that changed."""
    if not re.fullmatch(NAME, repository):
        raise SystemExit(f"{repository!r} doesn't name a repository: make publish REPO=owner/name")
    changed = []
    for path in [course / "README.md", *sorted(course.glob("notebooks/**/*.ipynb"))]:
        before = path.read_bytes()
        after = ADDRESS.sub(rf"\g<1>{repository}", before.decode()).encode()
        if after != before:
            partial = path.with_suffix(".partial")
            partial.write_bytes(after)
            partial.replace(path)
            changed.append(path)
    return changed


if __name__ == "__main__":
    repository = sys.argv[1] if len(sys.argv) > 1 else origin(COURSE)
    changed = [str(path.relative_to(COURSE)) for path in publish(repository, COURSE)]
    print(f"{repository}:", ", ".join(changed) or "stood everywhere already")
