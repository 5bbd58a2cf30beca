"""What every instant check is made of: a failure that reads as one sentence, and a word of praise."""


class CheckFailed(AssertionError):
    """An answer is wrong; the message says what and where to look."""

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows instead of a traceback through the course's own code."""
        return [f"Not yet: {self}"]


def require(condition: object, message: str) -> None:
    """Raise `CheckFailed` with `message` unless `condition` is true."""
    if not condition:
        raise CheckFailed(message)


def correct(what: str) -> None:
    """Print that the exercise is solved and `what` was tested."""
    print(f"Correct. {what}")
