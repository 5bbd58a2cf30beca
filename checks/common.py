"""What every instant check is made of: a failure that reads as one sentence, and a word of praise."""

import functools
import os
import zlib
from collections.abc import Callable

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """An answer is wrong; the message says what and where to look."""

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows instead of a traceback through the course's own code."""
        return [f"Not yet: {self}"]


def require(condition: object, message: str) -> None:
    """Raise `CheckFailed` with `message` unless `condition` is true."""
    if not condition:
        raise CheckFailed(message)


def instant_check(check: Callable[..., None]) -> Callable[..., None]:
    """Let `check` say in a sentence that an answer has not been written yet."""

    @functools.wraps(check)
    def checked(answer: Callable) -> None:
        try:
            check(answer)
        except NotImplementedError:
            message = "this is not written yet. Put your code in place of `raise NotImplementedError`."
            raise CheckFailed(message) from None

    return checked


def correct(what: str) -> None:
    """Print that the exercise is solved and `what` was tested."""
    print(f"Correct. {what}")


def numbers(*shape: int) -> Tensor:
    """Random numbers of N(0, 1), float64, for tests that a homework's grader adds: the same for everyone in a course.

    Another course has other numbers: those of its seed, the environment variable VAE_COURSE_SEED.
    Equal shapes get equal numbers.
    """
    seed = zlib.crc32(f"{os.environ.get('VAE_COURSE_SEED', '')} {shape}".encode())
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
