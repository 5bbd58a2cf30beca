"""The submissions in a folder, as learning platforms export them, and the notebook in each, mended where it can be."""

import io
import json
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import nbformat
from nbformat import NotebookNode

MOST_UNPACKED = 50_000_000  # bytes
DEEPEST = 3  # zips within zips
NOTEBOOK_NAMES = (".ipynb", ".ipynb.txt", ".ipynb.json", ".json", ".txt")
IGNORED = re.compile(r"(^|/)(\.|__MACOSX)|-checkpoint\.")

# How platforms name what they export. `student`: the name; `number`: keeps people of one name apart and joins what
# belongs together; `attempt`: a later one is larger; `kind`: what Moodle exports besides files.
PLATFORMS = {
    "Moodle": r"(?P<student>.+)_(?P<number>\d+)_assignsubmission_(?P<kind>file|onlinetext)_.*",
    "Canvas": r"(?P<student>[^_]+)(_late)?_(?P<number>\d+)_(?P<attempt>\d+)_.+",
    "Blackboard": r".+_(?P<student>[^_]+)_attempt_(?P<attempt>\d{4}(-\d\d){5})(_.*)?(\.\w+)?",
    "Brightspace": r"(?P<number>\d+-\d+|\d{4,}) ?- (?P<student>.+?) ?- (?P<attempt>.*\d{4}.*)",
    "ILIAS": r"(?P<student>[^_\d]+_[^_\d]+)_(?P<number>[^_]+_\d+)",
}
COPY = re.compile(r"^(Copy of|Kopie von|Copie de|Copia de) ", re.IGNORECASE)


@dataclass(frozen=True)
class Submission:
    """One notebook of one student, or the reason why there is none.

    `members` leads through zips within zips; of several attempts at one notebook the one with the largest `attempt`
    counts.
    """

    student: str
    name: str
    path: Path | None = None
    members: tuple[str, ...] = ()
    problem: str = ""
    flags: tuple[str, ...] = ()
    attempt: str = ""

    def content(self) -> bytes:
        """The notebook's bytes, read when they are needed: a class's work need not fit into memory."""
        data = self.path.read_bytes() if self.path else b""
        for member in self.members:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(member)
        return data


def collect(folder: Path) -> Iterator[Submission]:
    """All submissions in `folder`: each folder or file directly in it is a student's, named by a platform or freely."""
    entries = [e for e in sorted(folder.iterdir()) if not IGNORED.search(e.name) and not e.is_symlink()]
    people: dict[tuple[str, str], list[tuple[Path, str, str]]] = {}
    for entry in entries:
        student, number, attempt, kind = identify(entry)
        people.setdefault((student, number), []).append((entry, attempt, kind))
    names = [student for student, _ in people]
    for (student, number), handed_in in people.items():
        shown = student if names.count(student) == 1 else f"{student} ({number})"
        texts = [f"{entry.name}: an online text, to be read" for entry, _, kind in handed_in if kind == "onlinetext"]
        found, other = [], []
        for entry, attempt, kind in handed_in:
            for path in [entry] if entry.is_file() else sorted(p for p in entry.rglob("*") if p.is_file()):
                relative = path.relative_to(folder).as_posix()
                if path.is_symlink() or IGNORED.search(relative) or kind == "onlinetext":
                    continue
                when = attempt or f"{path.stat().st_mtime:020.6f}"
                notebooks = list(_notebooks(Submission(shown, path.name, path, attempt=when)))
                found += notebooks
                other += [] if notebooks else [path.name]
        if not found:
            reason = f"no notebook, only {', '.join(other + texts) or 'nothing'}"
            found = [Submission(shown, handed_in[0][0].name, problem=reason)]
        yield from (replace(one, flags=(*one.flags, *texts)) for one in found)


def identify(entry: Path) -> tuple[str, str, str, str]:
    """Student, number, attempt and kind of a file or folder, from its name; free names are the student's own."""
    name = unicodedata.normalize("NFC", entry.name)
    for pattern in PLATFORMS.values():
        if match := re.fullmatch(pattern, name):
            parts = {"number": "", "attempt": "", "kind": ""} | match.groupdict()
            attempt = parts["attempt"].zfill(20) if parts["attempt"].isdigit() else parts["attempt"]
            return parts["student"].strip(), parts["number"], attempt, parts["kind"]
    stem = name if entry.is_dir() else re.sub(r"(\.ipynb)?(\.\w+)?$", "", name)
    return COPY.sub("", stem).strip(), "", "", ""


def _notebooks(at: Submission, depth: int = 0) -> Iterator[Submission]:
    """The notebooks in a file, which may be a zip with zips in it."""
    lower = at.name.lower()
    if lower.endswith(".zip"):
        yield from _unpack(at, depth)
    elif lower.endswith(NOTEBOOK_NAMES):
        if lower.endswith(".ipynb"):
            yield at
        elif _looks_like_a_notebook(at.content()):
            yield replace(at, flags=(*at.flags, f"{at.name} was read as a notebook"))


def _unpack(at: Submission, depth: int) -> Iterator[Submission]:
    try:
        with zipfile.ZipFile(io.BytesIO(at.content())) as archive:
            inside = [one for one in archive.infolist() if one.filename.lower().endswith((*NOTEBOOK_NAMES, ".zip"))]
            inside = [one for one in inside if not IGNORED.search(one.filename)]
            if depth == DEEPEST:
                yield replace(at, problem=f"zip files are nested more than {DEEPEST} deep", path=None, members=())
            elif sum(one.file_size for one in inside) > MOST_UNPACKED:
                yield replace(at, problem="the zip file unpacks to more than 50 MB", path=None, members=())
            else:
                for one in inside:
                    archive.read(one)  # so that a damaged one is known at once
                    name = PurePosixPath(one.filename).name
                    yield from _notebooks(replace(at, name=name, members=(*at.members, one.filename)), depth + 1)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError) as error:
        yield replace(at, problem=f"the zip file can't be read: {error}", path=None, members=())


def _looks_like_a_notebook(content: bytes) -> bool:
    try:
        known = json.loads(_decoded(content)[0])
    except ValueError:
        return False
    return isinstance(known, dict) and "nbformat" in known


def _decoded(content: bytes) -> tuple[str, str]:
    """The text of a file and the encoding it was in. Raises ValueError if it is in none of those that editors write."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16"), "UTF-16"
    if content[1:2] == b"\0":
        return content.decode("utf-16-le"), "UTF-16"
    if content[:1] == b"\0":
        return content.decode("utf-16-be"), "UTF-16"
    return content.decode("utf-8-sig"), "UTF-8"


def read(content: bytes) -> tuple[NotebookNode, list[str]]:
    """The notebook in a file, and what had to be mended. Raises ValueError with a sentence on what is wrong."""
    if not content.strip(b" \t\r\n\0"):
        raise ValueError("the file is empty")
    if len(content) > MOST_UNPACKED:
        raise ValueError(f"the file has {len(content) / 1e6:.0f} MB")
    mended = []
    try:
        text, encoding = _decoded(content)
        if encoding != "UTF-8":
            mended.append(f"the file was in {encoding}")
        if (major := json.loads(text).get("nbformat", 4)) != 4:
            mended.append(f"the notebook had the old format {major}")
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validator.normalize(notebook)
        for cell in notebook.cells:
            cell.source = "".join(cell.source).replace("\r\n", "\n")
            cell.metadata = nbformat.from_dict(dict(cell.get("metadata", {})))
    except Exception as error:  # whatever a file can contain
        raise ValueError(f"not a notebook ({type(error).__name__}: {str(error)[:100]})") from None
    return notebook, mended
