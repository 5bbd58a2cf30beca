"""What the two processes of the grader exchange about a submission: dataclasses, sent as JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

Status = Literal["graded", "refused", "failed"]


@dataclass
class Grade:
    """The outcome of one exercise. `score` None: a person has to decide."""

    title: str
    points: int
    score: float | None
    message: str
    answer: str = ""
    rubric: str = ""


@dataclass
class Result:
    """All that is known about one submission.

    `status`: "graded"; "refused", because the file is no notebook of the course; "failed", because the grader itself
    stopped, which the next run tries again. `version` names the tests that gave the points.
    """

    status: Status = "graded"
    notebook: str = ""
    grades: list[Grade] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    confined: bool = True
    seconds: float = 0.0
    version: str = ""
    student: str = ""

    def to_json(self) -> str:
        """The result as text."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The result in a text. Raises ValueError if it is not whole."""
        try:
            known = json.loads(text)
            return cls(**known | {"grades": [Grade(**grade) for grade in known["grades"]]})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a result: {error}") from None

    @property
    def total(self) -> float:
        """Points that are certain."""
        return sum(grade.score for grade in self.grades if grade.score is not None)

    @property
    def texts(self) -> list[str]:
        """The student's answers to questions."""
        return [grade.answer for grade in self.grades if grade.rubric and grade.answer]

    @property
    def to_be_read(self) -> int:
        """Points that a person has still to give."""
        return sum(grade.points for grade in self.grades if grade.score is None)
