"""Whose submissions are in a folder, as learning platforms export them, and which attempt each is."""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tools.grading.dates import moment
from tools.grading.reading import File, files, parsed, why
from tools.notebook import CHAPTERS

MOST_FILES = 100  # of one student that are looked at
LONGEST = 150  # bytes of a student's name, which also names a file

# How platforms name what they export. `student`: the name; `number`: keeps people of one name apart and joins what
# belongs together; `attempt` or `date`: a later one is larger; `kind`: what else than files is exported.
PLATFORMS = {
    "Moodle": r"(?P<student>.+?)_(?P<number>\d+)_assignsubmission_(?P<kind>[a-z]+)(_.*)?",
    "Brightspace": r"(?P<number>\d{4,})(-\d+)? ?- ?(?P<student>.+?) ?- (?P<date>((?! - ).)*\d{4}((?! - ).)*)( - .+)?",
    "Blackboard": r"(?P<number>.+?_(?P<student>[^_]+))_attempt_(?P<attempt>\d{4}(-\d\d){5})(_.+|(?P<kind>\.txt))?",
    "ILIAS": r"(?P<student>[^_\d]+_[^_\d]+)_(?P<number>[^.]+_\d{2,})",
    "Canvas": r"(?P<student>.+?)(_LATE)?_(?P<number>[1-9]\d*)_(?P<attempt>[1-9]\d\d+)_.+",
    "Canvas, anonymous": r"(LATE_)?(?P<student>anon_[^_]{5})_(?P<attempt>[1-9]\d\d+)_.+",
    "Canvas, text": r"(?P<student>.+?)(_LATE)?_(?P<number>[1-9]\d*)_(?P<kind>text|link)\.html",
    "Canvas, short": r"(?P<student>[^_]+)(_LATE)?_(?P<number>[1-9]\d\d+)_.+",  # only beside one with LATE
}
COPY = re.compile(r"((Copy of|Kopie von|Copie de|Copia de) )+", re.IGNORECASE)
ENDING = re.compile(r"(\.ipynb|\.tar)?\.(ipynb|json|txt|zip|py|html?|pdf|docx?|md|rar|7z|tar|gz)$", re.IGNORECASE)
WORK = re.compile(  # what may hold an answer, and did not come with the hand-out
    r"(?!.*/(checks|utils)/|.*README\.txt).*\.(ipynb.*|json|txt|md|py|html?|pdf|docx?|odt|rar|7z|tar|gz)", re.IGNORECASE
)


@dataclass(frozen=True)
class Submission:
    """One notebook of one student, or the reason why there is none; of several attempts the largest counts."""

    student: str
    name: str
    file: File | None = None
    problem: str = ""
    flags: tuple[str, ...] = ()
    attempt: str = ""

    def content(self) -> bytes:
        """The notebook's bytes."""
        return self.file.content() if self.file else b""


@dataclass(frozen=True)
class Origin:
    """What the name of a file or folder says: `person` tells people apart, the rest is as in PLATFORMS."""

    person: tuple[str, ...]
    student: str
    platform: str = ""
    number: str = ""
    attempt: str = ""
    date: str = ""
    kind: str = ""


def collect(folder: Path) -> Iterator[Submission]:
    """All submissions in a folder or a zip, each student's in the order of the attempts.

    Each folder or file in it is a student's, named by a platform or freely. A folder or zip around all of them, or
    around what a platform named, is looked into.
    """
    people: dict[tuple[str, ...], list[tuple[Origin, File]]] = {}
    for origin, file in whose(list(files(folder))):
        people.setdefault(origin.person, []).append((origin, file))
    origins = [handed_in[0][0] for handed_in in people.values()]
    for name, handed_in in zip(called(origins), people.values(), strict=True):
        yield from sorted(_of_one(name, handed_in), key=lambda one: (one.attempt, one.name))


def whose(found: list[File], depth: int = 0) -> Iterator[tuple[Origin, File]]:
    """Each file with its origin, for files in one folder or zip, `depth` levels below the top."""
    groups = _by_name(found, depth)
    alone = len({ENDING.sub("", name) for name, own in groups.items() if any(file.is_candidate for file in own)}) == 1
    for name, own in groups.items():
        inside = [file for file in own if len(file.parts) > depth + 1]
        origin = identify(name, bool(inside), groups)
        if not origin.platform and len(inside) == len(own) and _holds_people(own, depth + 1, alone):
            yield from whose(own, depth + 1)
        else:
            if not origin.platform:
                around = (ENDING.sub("", name) for name in own[0].parts[:depth])
                origin = replace(origin, person=(*around, *origin.person))
            yield from ((origin, file) for file in own)


def _by_name(found: list[File], depth: int) -> dict[str, list[File]]:
    groups: dict[str, list[File]] = {}
    for file in found:
        if file.parts[depth]:
            groups.setdefault(unicodedata.normalize("NFC", file.parts[depth]), []).append(file)
    return groups


def _holds_people(found: list[File], depth: int, alone: bool) -> bool:
    """Whether what is in a folder belongs to several people; `alone`: nothing else was handed in."""
    groups = _by_name(found, depth)
    origins = [identify(name, len(own[0].parts) > depth + 1, groups) for name, own in groups.items()]
    known = [origin.person for origin in origins if origin.platform]
    if 2 * len(known) > len(groups) and (alone or len(set(known)) > 1):
        return True
    if len(groups) == 1 and all(len(file.parts) > depth + 1 for file in found):
        return _holds_people(found, depth + 1, alone)
    chapters = tuple(path.stem for path in CHAPTERS)  # the name of one student's work, not of a student
    work = [name for name, own in groups.items() if any(re.search(r"\.(ipynb|zip)", f.parts[-1], re.I) for f in own)]
    return alone and sum(not name.startswith(chapters) for name in work) > 1


def identify(name: str, is_folder: bool, beside: Collection[str]) -> Origin:
    """What the name of a file, or of a folder or zip, says, beside others. Free names are the student's own."""
    for platform, pattern in PLATFORMS.items():
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if match and _plausible(platform, match, is_folder, beside):
            known = {key: value or "" for key, value in match.groupdict().items()}
            person = (platform.split(",")[0], known["student"].casefold(), known.get("number", ""))
            return Origin(person, platform=platform, **known)
    stem = name if is_folder and not name.lower().endswith(".zip") else ENDING.sub("", name) or name
    student = COPY.sub("", stem).strip()
    return Origin((stem,), student or stem, number="" if student == stem else stem)


def _plausible(platform: str, match: re.Match, is_folder: bool, beside: Collection[str]) -> bool:
    """Whether the platform wrote a name that looks like it."""
    if platform == "ILIAS":
        return is_folder
    if platform == "Canvas, short":
        late = f"{match['student']}_LATE_{match['number']}_".casefold()
        return any(other.casefold().startswith(late) for other in beside)
    if platform in ("Canvas", "Canvas, anonymous"):  # numbers each file
        return sum(other.startswith(match.string[: match.end("attempt")] + "_") for other in beside) < 2
    return True


def called(origins: list[Origin]) -> list[str]:
    """A name for each person that can name a file and that no other has, not even in letters of another case."""
    names = [re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", origin.student) for origin in origins]
    names = [name.encode()[:LONGEST].decode(errors="ignore").strip() or "_" for name in names]
    numbers = [re.sub(r"[^\w.@ -]", "_", origin.number).encode()[-40:].decode(errors="ignore") for origin in origins]
    for tags in numbers, [f"{zlib.crc32(repr(origin.person).encode()):08x}" for origin in origins]:
        times = Counter(name.casefold() for name in names)
        names = [
            f"{name} ({tag})" if tag and times[name.casefold()] > 1 else name
            for name, tag in zip(names, tags, strict=True)
        ]
    return names


def _of_one(name: str, handed_in: list[tuple[Origin, File]]) -> Iterator[Submission]:
    """The submissions of one student; flags say what else was handed in."""
    found, other, texts, flags = [], [], [], []
    handed_in = sorted(handed_in, key=lambda pair: (".ipynb" not in pair[1].parts[-1], not pair[1].is_candidate))
    for looked_at, (origin, file) in enumerate(handed_in):
        last, order = file.parts[-1], moment(origin.date) or origin.attempt
        copy = re.search(r"(?:-| ?\()(\d{1,3})\)?\.", last)
        attempt = f"{order.zfill(20) if order.isdigit() else order} {file.time} {copy[1] if copy else '':0>3}"
        at = Submission(name, file.name, file, attempt=attempt)
        if origin.kind in ("onlinetext", "text", "link"):
            texts.append(f"{file.name}: an online text, to be read")
        elif file.problem:
            found.append(replace(at, file=None, problem=f"{last}: {file.problem}"))
        elif not file.is_candidate or looked_at >= MOST_FILES:
            other.append((origin, file))
        else:
            try:
                content = file.content()
                if not last.lower().endswith(".ipynb"):
                    parsed(content)
                    at = replace(at, flags=(f"{last} was read as a notebook",))
                found.append(at)
            except ValueError:
                other.append((origin, file))
            except Exception as error:  # whatever a file can contain
                found.append(replace(at, file=None, problem=f"{last}: can't be read: {why(error)}"))
    dates = {origin.date: moment(origin.date) for origin, _ in handed_in if origin.date}
    if len(set(dates.values()) - {""}) < len(dates) > 1:
        flags.append(f"which attempt is the latest is not certain from the dates {' and '.join(dates)}")
    if not found:
        names = _some([file.parts[-1] for _, file in other if file.parts[-1]] + texts)
        reason = f"no notebook (a file .ipynb, or a zip with one), only {names or 'nothing'}"
        found = [replace(at, file=None, problem=reason)]
    else:
        flags += texts
        unread = [file.parts[-1] for origin, file in other if origin.kind != ".txt" and WORK.fullmatch(file.name)]
        flags += [f"also handed in, not graded: {_some(unread)}"] if unread else []
    yield from (replace(one, flags=(*one.flags, *flags)) for one in found)


def _some(names: list[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
