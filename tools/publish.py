"""Write a GitHub repository's address wherever the course names its own: `make publish REPO=owner/name BRANCH=main`.

That is in the "Open in Colab" badges and the `git clone` line of README.md and of the notebooks, and in the notebooks'
setup cell. Without REPO the address is that of the git remote "origin"; without BRANCH the branch is main.
"""

import re
import subprocess
import sys
from pathlib import Path

COURSE = Path(__file__).parents[1]
NAME = r"[A-Za-z0-9-]+/[\w.-]+"
BRANCH = r"[\w.-]+(?:/[\w.-]+)*"
PLACES = [  # pattern, and what stands there for {repository} and {branch}; in JSON a quotation mark has a backslash
    (rf"(colab\.research\.google\.com/github/){NAME}/blob/{BRANCH}?(/notebooks/)", r"\1{repository}/blob/{branch}\2"),
    (rf"(git clone https://github\.com/){NAME}", r"\1{repository}"),
    (rf'(REPOSITORY, BRANCH = \\?"){NAME}(\\?", \\?"){BRANCH}', r"\1{repository}\2{branch}"),
]


def origin(course: Path) -> str:
    """owner/name of the GitHub repository that the git remote "origin" of `course` stands for."""
    git = subprocess.run(["git", "remote", "get-url", "origin"], cwd=course, capture_output=True, text=True)
    found = re.search(rf"github\.com[:/]({NAME}?)(\.git)?/?$", git.stdout.strip())
    if not found:
        raise SystemExit('The git remote "origin" is no repository on GitHub: name yours, make publish REPO=owner/name')
    return found[1]


def publish(repository: str, course: Path, branch: str = "main") -> list[Path]:
    """Write `repository`, owner/name, into README.md and all notebooks of `course`; returns the files that changed."""
    if not re.fullmatch(NAME, repository):
        raise SystemExit(f"{repository!r} doesn't name a repository: make publish REPO=owner/name")
    if not re.fullmatch(BRANCH, branch):
        raise SystemExit(f"{branch!r} doesn't name a branch: make publish REPO=owner/name BRANCH=main")
    changed = []
    for path in [course / "README.md", *sorted(course.glob("notebooks/**/*.ipynb"))]:
        before = path.read_bytes()
        text = before.decode()
        for pattern, address in PLACES:
            text = re.sub(pattern, address.format(repository=repository, branch=branch), text)
        after = text.encode()
        if after != before:
            partial = path.with_suffix(".partial")
            partial.write_bytes(after)
            partial.replace(path)
            changed.append(path)
    return changed


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])  # as make hands them on; empty: not given
    repository = given.get("REPO") or origin(COURSE)
    changed = [str(path.relative_to(COURSE)) for path in publish(repository, COURSE, given.get("BRANCH") or "main")]
    print(f"{repository}:", ", ".join(changed) or "stood everywhere already")
