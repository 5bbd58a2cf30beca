"""What was handed in, file by file, also within zips, and the notebook in a file, repaired where it can be."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode

MOST_UNPACKED = 50_000_000  # bytes of one file
MOST_PACKED = 20  # times its size that a zip may unpack to, beyond the above
DEEPEST = 4  # zips within zips: a class, a student, and what the student packed twice
MOST_FOLDERS = 30  # within each other
JUNK = re.compile(r"\._.*|\.(?!.*(ipynb|zip)$).*|__MACOSX|Thumbs\.db|desktop\.ini", re.IGNORECASE)
CANDIDATE = re.compile(r"\.ipynb|\.(json|txt|zip)$", re.IGNORECASE)  # may be a notebook, or hold one


@dataclass(frozen=True)
class File:
    """A file that was handed in. `problem` says why it can't be read; an empty name means an empty folder.

    `parts`: its folders and zips below the folder of all submissions, and its name; `inside`: its place in each of the
    zips around it; `time`: when it was last changed, as text that sorts.
    """

    path: Path
    parts: tuple[str, ...]
    inside: tuple[int, ...] = ()
    time: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        """The path within the folder of all submissions."""
        return "/".join(self.parts)

    @property
    def is_candidate(self) -> bool:
        """Whether, by its name, it may be a notebook or hold one."""
        return bool(CANDIDATE.search(self.parts[-1]))

    def content(self) -> bytes:
        """The bytes, read when they are needed: a class's work need not fit into memory."""
        source, data = self.path, b""
        for place in self.inside:
            with zipfile.ZipFile(source) as archive:
                data = archive.read(archive.infolist()[place])
            source = io.BytesIO(data)
        return data if self.inside else self.path.read_bytes()


def files(path: Path, parts: tuple[str, ...] = ()) -> Iterator[File]:
    """All files in a folder, and in the zips there. Links are not followed."""
    at = File(path, parts or (_readable(path.name),))
    try:
        if parts and path.is_symlink():
            yield replace(at, problem="a link, which is not followed")
        elif len(parts) > MOST_FOLDERS:
            yield replace(at, problem=f"folders are nested more than {MOST_FOLDERS} deep")
        elif path.is_dir():
            inside = [child for child in sorted(path.iterdir()) if not JUNK.fullmatch(child.name)]
            for child in inside:
                yield from files(child, (*parts, _readable(child.name)))
            if not inside and parts:
                yield replace(at, parts=(*parts, ""))
        elif not path.is_file():
            yield replace(at, problem="neither a file nor a folder")
        else:
            size, time = path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime)
            at = replace(at, time=time.isoformat(" "))
            if at.name.lower().endswith(".zip"):
                yield from _unpacked(at, path, size, [MOST_UNPACKED + MOST_PACKED * size])
            else:
                yield replace(at, problem=_too_large(size) if at.is_candidate else "")
    except (OSError, ValueError, OverflowError) as error:  # the last two for a time that no calendar has
        yield replace(at, problem=f"can't be read: {why(error)}")


def _unpacked(at: File, source: Path | io.BytesIO, size: int, left: list[int]) -> Iterator[File]:
    """The files in a zip of `size` bytes; `left`: how many bytes the outermost zip may still unpack to."""
    if len(at.inside) == DEEPEST:
        yield replace(at, problem=f"zip files are nested more than {DEEPEST} deep")
        return
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # whatever a file can contain
        yield replace(at, problem=f"the zip file can't be read: {why(error)}")
        return
    with archive:
        inside = []
        for place, member in enumerate(archive.infolist()):
            names = [name for name in re.split(r"[/\\]", _unzipped(member.filename)) if name not in ("", ".", "..")]
            if names and not any(JUNK.fullmatch(name) for name in names):
                names = [*names[-MOST_FOLDERS:], *[""] * member.is_dir()]
                time = "{}-{:02}-{:02} {:02}:{:02}:{:02}".format(*member.date_time)
                one = File(at.path, (*at.parts, *names), (*at.inside, place), time)
                problem = "locked with a password" if member.flag_bits & 1 else _too_large(member.file_size)
                inside.append((replace(one, problem=problem if one.is_candidate else ""), member))
        needed = sum(member.file_size for one, member in inside if one.is_candidate and not one.problem)
        if needed > min(left[0], MOST_UNPACKED + MOST_PACKED * size):
            yield replace(at, problem=f"the zip file unpacks to {needed / 1e6:.0f} MB, too much: unpack it by hand")
            return
        left[0] -= needed
        if not inside:
            yield replace(at, parts=(*at.parts, ""))
        for one, member in inside:
            if one.problem or not one.name.lower().endswith(".zip"):
                yield one
                continue
            try:
                data = archive.read(member)
            except Exception as error:
                yield replace(one, problem=f"can't be unpacked: {why(error)}")
            else:
                yield from _unpacked(one, io.BytesIO(data), len(data), left)


def why(error: Exception) -> str:
    """The reason in an exception, without the path on this machine."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _too_large(size: int) -> str:
    return f"the file has {size / 1e6:.0f} MB" if size > MOST_UNPACKED else ""


def _readable(name: str) -> str:
    """A name with U+FFFD for the bytes that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _unzipped(name: str) -> str:
    """A name in a zip, which macOS writes in UTF-8 without saying so."""
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def parsed(content: bytes) -> tuple[dict, list[str]]:
    """The JSON of a notebook, and what was repaired. Raises ValueError with a sentence on what is wrong."""
    if not content.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
        raise ValueError("the file is empty")
    if len(content) > MOST_UNPACKED:
        raise ValueError(_too_large(len(content)))
    encoding = "utf-8-sig"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in content[:2]:
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    try:
        known = json.loads(content.decode(encoding))
    except (RecursionError, MemoryError):
        raise ValueError("not a notebook: its brackets are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not a notebook, which is a file .ipynb as Jupyter saves it: {str(error)[:100]}") from None
    if not isinstance(known, dict) or "nbformat" not in known:
        raise ValueError("not a notebook, though it is JSON")
    return known, [] if encoding == "utf-8-sig" else ["the file was in UTF-16"]


def read(content: bytes) -> tuple[NotebookNode, list[str]]:
    """The notebook in a file, and what was repaired. Raises ValueError with a sentence on what is wrong."""
    known, repaired = parsed(content)
    try:
        if known["nbformat"] != 4:
            repaired.append(f"the notebook had the old format {known['nbformat']}")
        notebook = nbformat.reads(json.dumps(known), as_version=4)
        for cell in notebook.cells:
            source = "".join(cell.source).replace("\r\n", "\n")
            cell.source = re.sub("[\ud800-\udfff]", "\ufffd", source)  # halves of characters can't be written
            cell.metadata = nbformat.from_dict(dict(cell.get("metadata", {})))
            if cell.cell_type not in ("code", "markdown", "raw"):
                raise ValueError(f"unknown kind of cell {cell.cell_type}")
    except Exception as error:  # whatever a file can contain
        raise ValueError(f"not a notebook ({type(error).__name__}: {str(error)[:100]})") from None
    return notebook, repaired
