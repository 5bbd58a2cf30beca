"""What every instant check is made of: a failure with a code and a sentence, and the questions that all checks ask."""

import functools
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb

import torch
from torch import Tensor
from torch.distributions import Normal

KEEP = "don't convert; make your own tensors with dtype=x.dtype"
USUAL = [  # what PyTorch's own messages mean here: code, pattern, cause
    ("in-place", "inplace operation", "you change in place a tensor that the gradient still needs: compute a new one"),
    ("784", r"\b784\b|\b28, 28\b", "images may have another number of pixels than 784, and these have: use x.shape[1]"),
    (
        "dtype",
        r"(?i)\bdouble\b.*\bfloat\b|\bfloat\b.*\bdouble\b",
        "these numbers are float64, yours are not: use dtype=x.dtype, and the arguments, no other tensors",
    ),
]
SEED = 271_828  # of every check; a seed that an answer sets is another one


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
                torch.manual_seed(SEED)
                check(answer)
        except NotImplementedError as error:
            *_, (frame, _) = walk_tb(error.__traceback__)
            name, ours = frame.f_code.co_name, getattr(answer, "__name__", None)
            if str(error) or frame.f_globals.get("__name__", "").startswith("torch"):
                raise  # PyTorch's own: something that it cannot do
            message = "this is not written yet. Put your code in place of `raise NotImplementedError`."
            if ours and name != ours:
                message = f"your function calls `{name}`, which is not written yet: solve that exercise first."
            raise CheckFailed("not-written", message) from None
        except RuntimeError as error:
            for code, pattern, cause in USUAL:
                require(not re.search(pattern, str(error)), code, f"{cause} (PyTorch: {error})")
            raise

    return checked


def correct(what: str) -> None:
    """Print that the exercise is solved and `what` was tested."""
    print(f"Correct. {what}")


def generator() -> torch.Generator:
    """The generator of a check: always the same numbers, so that the same answer gets the same verdict."""
    return torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    """Random numbers of N(0, 1), float64, the next ones of the generator that `instant_check` has seeded."""
    return torch.randn(shape, dtype=torch.float64)


def numbers(*shape: int) -> Tensor:
    """Random numbers of N(0, 1), float64, for the hidden tests of a course: the same for all its students.

    Another course has other numbers: those of its seed, the environment variable VAE_COURSE_SEED.
    Equal shapes get equal numbers.
    """
    seed = zlib.crc32(f"{os.environ.get('VAE_COURSE_SEED', '')} {shape}".encode())
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def require_items(value: object, n: int, code: str, message: str) -> None:
    """Require `n` tensors, as a tuple, a list, or stacked."""
    several = isinstance(value, tuple | list) or (isinstance(value, Tensor) and value.ndim > 0)
    require(several and len(value) == n, code, message)


def require_tensor(value: object, shape: tuple[int, ...], what: str, dtype: torch.dtype = torch.float64) -> None:
    """Require a tensor of this shape and dtype; `what` says what the shape means, "one number per image"."""
    require(isinstance(value, Tensor), "type", f"return a tensor, {what}; you return a {type(value).__name__}")
    require(
        value.shape == shape, "shape", f"the result has shape {tuple(value.shape)}; expected {tuple(shape)}: {what}"
    )
    require(value.dtype == dtype, "dtype", f"{dtype} went in and {value.dtype} came out: {KEEP}")


def keeps_dtype(function: Callable[..., Tensor], *given: Tensor) -> None:
    """Require that float32 arguments give a float32 result, and float64 arguments a float64 one."""
    for dtype in (torch.float32, torch.float64):
        result = function(*(tensor.to(dtype) for tensor in given))
        require(result.dtype == dtype, "dtype", f"{dtype} went in and {result.dtype} came out: {KEEP}")


@contextmanager
def untouched(*given: Tensor) -> Iterator[None]:
    """Require that in the `with` block the tensors keep their values, and PyTorch's generator its seed."""
    before, seed = [tensor.detach().clone() for tensor in given], torch.initial_seed()
    yield
    require(
        torch.initial_seed() == seed,
        "seeded",
        "your function sets the seed, so that every call draws the same numbers: leave that to the notebook",
    )
    same = all(torch.equal(old, new) for old, new in zip(before, given, strict=True))
    require(same, "in-place", "your function changes its input in place; compute a new tensor instead")


def close(value: Tensor | float, right: Tensor | float, rtol: float = 1e-6, atol: float = 1e-6) -> bool:
    """Whether two results agree, relatively or absolutely, to a millionth: float32 constants are allowed."""
    value, right = (torch.as_tensor(number, dtype=torch.float64) for number in (value, right))
    return torch.allclose(value, right, rtol=rtol, atol=atol)


def recognise(
    value: Tensor | float,
    right: Tensor | float,
    slips: Mapping[tuple[str, str], Tensor | float],
    otherwise: str,
    **tolerance: float,
) -> None:
    """Require `value` to be `close` to `right`; if not, name the slip {(code, message): wrong value} that it equals."""
    if close(value, right, **tolerance):
        return
    for (code, message), wrong in slips.items():
        require(not close(value, wrong, **tolerance), code, message)
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


def require_gaussian_draws(draw: Callable[[Tensor, Tensor], Tensor], *shapes: tuple[int, ...]) -> None:
    """Require of `draw(mu, logvar)`: z ~ N(mu, exp(logvar)), and an own, fresh ε for each number.

    `shapes`: shapes of mu for which it must have its gradients, too.
    """
    for shape in shapes:
        for dtype in (torch.float32, torch.float64):
            _one_draw(draw, *(3 * randn(2, *shape)).to(dtype))
    _independence(draw)
    _distribution(draw)


def _one_draw(draw: Callable[[Tensor, Tensor], Tensor], mu: Tensor, logvar: Tensor) -> None:
    """Shape, dtype, randomness, and the two derivatives of one draw."""
    with untouched(mu, logvar):
        z = draw(mu, logvar)
    require_tensor(z, mu.shape, "z, of the shape of mu", mu.dtype)
    require(not torch.equal(z, mu), "no-noise", "z is mu itself: where is the noise?")
    require(not torch.equal(z, draw(mu, logvar)), "not-fresh", "two calls give the same z: draw a fresh ε each time")
    mu, logvar = (tensor.clone().requires_grad_() for tensor in (mu, logvar))
    z = draw(mu, logvar)
    cut = "z carries no gradient: .sample(), .detach() or no_grad() cuts the path; add σ times ε to mu"
    require(z.requires_grad, "no-gradient", cut)
    by_mu, by_logvar = torch.autograd.grad(z.sum(), [mu, logvar], allow_unused=True)
    require(by_mu is not None, "mu-detached", "no gradient reaches mu: is it detached, or unused?")
    no_path = "the gradient of z w.r.t. mu is zero: torch.normal(mu, σ) has no path; draw ε with randn_like"
    require(by_mu.any(), "torch-normal", no_path)
    require(close(by_mu, 1.0, atol=1e-5), "mu-gradient", "dz/dmu must be 1: add mu, unscaled")
    require(by_logvar is not None, "sigma-detached", "no gradient reaches logvar: is σ detached, or logvar unused?")
    deviation = (z - mu).detach()
    slips = {
        ("sigma-is-exp", "z changes with logvar twice as fast as it should: exp(logvar) is σ²"): deviation,
        ("exponent-sign", "larger logvar gives smaller spread: the sign in the exponent is wrong"): -0.5 * deviation,
    }
    otherwise = "dz/dlogvar must be half of z - mu: is σ, all of it, computed from logvar, and does it multiply ε?"
    try:
        recognise(by_logvar, 0.5 * deviation, slips, otherwise, rtol=1e-3, atol=1e-5)
    except CheckFailed as failure:
        raise CheckFailed(failure.code.replace("value", "logvar-gradient"), str(failure)) from None


def _distribution(draw: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Mean, width and shape of the distribution of many draws, with widths from exp(-40) to exp(40) side by side."""
    n, means, logvars = 20_000, torch.tensor([3.0, -1, 5, 0, 0, 0]), torch.tensor([2.0, -3, 0.5, -30, -80, 80])
    sigma = (0.5 * logvars.double()).exp()
    noise = (draw(means.repeat(n, 1), logvars.repeat(n, 1)).detach().double() - means) / sigma
    require(noise.isfinite().all(), "range", "at logvar = -80 or 80 the draw is not finite: use half of logvar in exp")
    average, width = noise.mean(0), noise.std(0)
    usual = width[:3]
    require(
        (average.abs() < 6 * width.clamp(min=1) / n**0.5).all(),
        "mean",
        f"z is {(means + sigma * average)[0]:.3g} on average where mu = {means[0]:g}: ε must have mean 0 (randn)",
    )
    spread = f"σ at logvar = {logvars[0]:g} is {sigma[0]:.3g}, the spread of z is {usual[0] * sigma[0]:.3g}"
    require(close(usual, 1.0, atol=0.03), "width", f"{spread}: multiply σ by an ε of standard deviation 1 (randn)")
    require(close(width, 1.0, atol=0.03), "range", f"the spread is wrong where logvar is one of {logvars[3:].tolist()}")
    ranks = (torch.arange(noise.numel()) + 0.5) / noise.numel()
    distance = (Normal(0.0, 1.0).cdf(noise.flatten().sort().values) - ranks).abs().max()
    require(
        distance < 0.01 and noise.abs().max() > 3.5,
        "not-normal",
        f"mean and spread are right, but ε is not normal: the largest |ε| of {noise.numel()} is "
        f"{noise.abs().max():.1f}; use randn",
    )


def _independence(draw: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Every entry of every call has its own noise, independent of all others."""
    zeros = torch.zeros(1000, 3, dtype=torch.float64)
    eps = torch.stack([draw(zeros, zeros) for _ in range(2)])
    require(eps.std(1).min() > 1e-4, "one-eps-for-batch", "one ε for the whole batch: each row needs its own")
    require(eps.std(2).max() > 1e-4, "one-eps-for-dimensions", "one ε for all latent dimensions: each needs its own")
    flat = eps.flatten() - eps.mean()
    power = torch.fft.rfft(flat, 2 * len(flat)).abs().square()
    correlation = torch.fft.irfft(power)[1 : len(flat)].abs().max() / flat.square().sum()  # the largest, of all shifts
    require(
        correlation < 0.1 and len(eps.abs().unique()) > 0.99 * len(flat),
        "dependent",
        "some entries' noise can be told from that of others, of the same call or of the one before; every ε must be "
        "independent: randn_like(mu)",
    )
