"""What every instant check is made of: a failure with a code and a sentence, and the questions that all checks ask."""

import functools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """An answer is wrong: `code` names the fault in a word or two, the message says what and where to look."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows instead of a traceback through the course's own code."""
        return [f"Not yet: {self}"]


def require(condition: object, code: str, message: str) -> None:
    """Raise `CheckFailed(code, message)` unless `condition` is true."""
    if not condition:
        raise CheckFailed(code, message)


def instant_check(check: Callable[..., None]) -> Callable[..., None]:
    """Let `check` say in a sentence that an answer is not written yet, and leave PyTorch's generator alone."""

    @functools.wraps(check)
    def checked(answer: Callable) -> None:
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                check(answer)
        except NotImplementedError:
            message = "this is not written yet. Put your code in place of `raise NotImplementedError`."
            raise CheckFailed("not-written", message) from None

    return checked


def correct(what: str) -> None:
    """Print that the exercise is solved and `what` was tested."""
    print(f"Correct. {what}")


def generator() -> torch.Generator:
    """The generator of a check: always the same numbers, so that the same answer gets the same verdict."""
    return torch.Generator().manual_seed(0)


def numbers(*shape: int) -> Tensor:
    """Random numbers of N(0, 1), float64, for the hidden tests of a course: the same for all its students.

    Another course has other numbers: those of its seed, the environment variable VAE_COURSE_SEED.
    Equal shapes get equal numbers.
    """
    seed = zlib.crc32(f"{os.environ.get('VAE_COURSE_SEED', '')} {shape}".encode())
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def require_tensor(value: object, shape: tuple[int, ...], what: str, dtype: torch.dtype = torch.float64) -> None:
    """Require a tensor of this shape and dtype; `what` says what the shape means, "one number per image"."""
    require(isinstance(value, Tensor), "type", f"return a tensor, {what}; you return a {type(value).__name__}")
    require(
        value.shape == shape, "shape", f"the result has shape {tuple(value.shape)}; expected {tuple(shape)}: {what}"
    )
    require(value.dtype == dtype, "dtype", f"{dtype} went in and {value.dtype} came out: don't convert")


def keeps_dtype(function: Callable[..., Tensor], *given: Tensor) -> None:
    """Require that float32 arguments give a float32 result, and float64 arguments a float64 one."""
    for dtype in (torch.float32, torch.float64):
        result = function(*(tensor.to(dtype) for tensor in given))
        require(result.dtype == dtype, "dtype", f"{dtype} went in and {result.dtype} came out: don't convert")


@contextmanager
def untouched(*given: Tensor) -> Iterator[None]:
    """Require that the tensors have the same values at the end of the `with` block as at its beginning."""
    before = [tensor.detach().clone() for tensor in given]
    yield
    same = all(torch.equal(old, new) for old, new in zip(before, given, strict=True))
    require(same, "in-place", "your function changes its input in place; compute a new tensor instead")


def close(value: Tensor | float, right: Tensor | float) -> bool:
    """Whether two float64 results agree to a billionth, relative or absolute."""
    value, right = (torch.as_tensor(number, dtype=torch.float64) for number in (value, right))
    return torch.allclose(value, right, rtol=1e-9, atol=1e-9)


def recognise(
    value: Tensor | float, right: Tensor | float, slips: Mapping[tuple[str, str], Tensor | float], otherwise: str
) -> None:
    """Require `value` to be `right`; if it is not, name the slip {(code, message): wrong value} that it equals."""
    if close(value, right):
        return
    for (code, message), wrong in slips.items():
        require(not close(value, wrong), code, message)
    raise CheckFailed("value", otherwise)


def require_gradients(function: Callable[..., Tensor], /, **inputs: Tensor) -> None:
    """Require that the gradient of `function(*inputs).sum()` reaches every input and has the right value.

    The inputs are float64. The right value is read from `function` itself by central differences, so a factor that was
    detached from the graph is noticed although the result is right.
    """
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    result = function(*leaves.values()).sum()
    gradients = [None] * len(leaves)
    if result.requires_grad:
        gradients = torch.autograd.grad(result, list(leaves.values()), allow_unused=True)
    for name, gradient in zip(leaves, gradients, strict=True):
        require(
            gradient is not None,
            "no-gradient",
            f"no gradient reaches {name}: leave out .detach(), .item(), .data and torch.no_grad()",
        )
        slopes = _central_differences(function, {key: leaf.detach() for key, leaf in leaves.items()}, name)
        require(
            torch.allclose(gradient, slopes, rtol=1e-4, atol=1e-6),
            "wrong-gradient",
            f"the value is right, but its gradient with respect to {name} is not: a part of it is cut off from the "
            "graph; leave out .detach(), .item(), .data and torch.no_grad()",
        )


def _central_differences(function: Callable[..., Tensor], inputs: dict[str, Tensor], name: str) -> Tensor:
    """The slopes of `function(*inputs).sum()` in each entry of the input `name`, by two values around it."""
    step, slopes = 1e-5, torch.empty_like(inputs[name])
    for i in range(slopes.numel()):
        values = []
        for sign in (1, -1):
            moved = inputs[name].clone()
            moved.view(-1)[i] += sign * step
            values.append(function(*(inputs | {name: moved}).values()).detach().sum())
        slopes.view(-1)[i] = (values[0] - values[1]) / (2 * step)
    return slopes
