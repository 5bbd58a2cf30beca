"""Instant checks for notebook 09, codes that are not Gaussian."""

from collections.abc import Callable
from traceback import walk_tb

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Exponential, Normal, Poisson, Weibull

from checks.common import (
    CheckFailed,
    close,
    correct,
    instant_check,
    keeps_dtype,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def weibull_from_uniform(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check `answer(u, scale, concentration)`: uniform noise (n,) to Weibull draws (n,)."""
    for scale, concentration in [(2.5, 0.7), (0.4, 3.0), (1.0, 1.0), (30.0, 0.2)]:
        u = torch.rand(50, dtype=torch.float64).clamp(0.001, 0.999)
        parameters = [torch.tensor(v, dtype=torch.float64) for v in (scale, concentration)]
        with untouched(u, *parameters):
            z = answer(u, *parameters)
        require_tensor(z, (50,), "one draw for each u")
        root = "z is NaN: log(1 - u) is negative, and a negative number has no real power; the minus sign goes inside"
        require(not z.isnan().any(), "nan", root)
        require(torch.equal(z, answer(u, *parameters)), "own-noise", "two calls with the same u differ: use u alone")
        require((z > 0).all(), "negative", "a Weibull draw is positive; where did the minus sign of the exponent go?")
        _compare_quantiles(z.detach(), u, scale, concentration)
        require_gradients(lambda scale, k, u=u: answer(u, scale, k), scale=parameters[0], concentration=parameters[1])
    one = torch.ones((), dtype=torch.float64)
    for tiny in (1e-12, 1e-30):
        z = answer(tiny * one[None], one, one)
        message = (
            f"at u = {tiny:g}, scale = concentration = 1, z must be {tiny:g} and is {z.item():.12g}: 1 - u rounds off"
        )
        require(close(z / tiny, 1.0, rtol=1e-6), "log1p", message + "; use torch.log1p(-u), and don't clamp u")
    z = answer(1 - 2.0**-40 * one[None], one, one)
    message = f"at u = 1 - 2^-40, scale = concentration = 1, exp(-z) must be 2^-40; don't clamp u, z = {z.item():.6g}"
    require(close((-z).exp() * 2.0**40, 1.0, rtol=1e-6), "clamped", message)
    keeps_dtype(answer, u, *parameters)
    correct("weibull_from_uniform: F(z) gives u back, gradients to scale and concentration, exact at both ends of u.")


def _compare_quantiles(z: Tensor, u: Tensor, scale: float, concentration: float) -> None:
    """Push z back through the distribution function, and recognise the usual slips."""

    def is_back(scale: float, concentration: float, expected: Tensor = u) -> bool:
        parameters = torch.tensor([scale, concentration], dtype=torch.float64)
        return torch.allclose(Weibull(*parameters, validate_args=False).cdf(z), expected, rtol=1e-6, atol=1e-9)

    if is_back(scale, concentration):
        return
    require(
        not is_back(scale, concentration, 1 - u),
        "log-u",
        "F(z) is 1 - u: you use log(u). It has the same distribution, but z then falls as u rises; solve u = F(z)",
    )
    require(not is_back(scale, 1 / concentration), "power", "the power is upside down: 1 / concentration")
    require(not is_back(1 / scale, concentration), "scale", "the scale is upside down: z grows in proportion to it")
    require(
        not is_back(scale ** (1 / concentration), concentration), "scale-inside", "the scale belongs outside the power"
    )
    require(not is_back(1.0, concentration), "no-scale", "the scale plays no part")
    raise CheckFailed("value", "F(z) does not give u back: solve u = 1 - exp(-(z/λ)^k) for z once more")


@instant_check
def surrogate(answer: Callable[[Distribution, Callable[[Tensor], Tensor], bool, int], Tensor]) -> None:
    """Check `answer(q, f, smooth, n)`: its gradient is an unbiased, and where possible a pathwise, estimate."""
    _unbiased(answer)
    _honest_with_two_draws(answer)
    _quiet(answer)
    correct("surrogate: unbiased with and without a path, and pathwise where a path exists.")


def _parameter(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def _gradients(answer: Callable, q: Distribution, parameter: Tensor, f: Callable, smooth: bool, n: int, repeats: int):
    """The gradients (repeats,) that the answer's scalars give to `parameter`, and a message for what goes wrong."""
    name, shapes, gradients = type(q).__name__, [], []

    def watched(z: Tensor) -> Tensor:
        shapes.append(tuple(z.shape))
        return f(z)

    for _ in range(repeats):
        try:
            with untouched():
                value = answer(q, watched, smooth, n)
        except NotImplementedError as error:
            *_, (frame, _) = walk_tb(error.__traceback__)
            by_rsample = frame.f_code.co_name == "rsample"
            require(
                q.has_rsample or not by_rsample,
                "no-rsample",
                f"{name} has no rsample: ask q.has_rsample before you call it",
            )
            raise
        require(isinstance(value, Tensor), "type", f"return a scalar tensor; you returned a {type(value).__name__}")
        require(shapes, "not-called", "f was never called")
        drawn = f"f was given z of shape {shapes[0]}; draw n values: q.sample((n,)), q.rsample((n,))"
        require((n,) in shapes, "draws", drawn)
        scalar = f"return one number; yours has shape {tuple(value.shape)}: average over the draws"
        require(value.ndim == 0, "shape", scalar)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, parameter, allow_unused=True)
        cure = "multiply by q.log_prob(z), not detached"
        if smooth and q.has_rsample:
            cure = "draw with .rsample() and give f these draws, not detached"
        message = f"for {name}, f smooth: {smooth}, no gradient reaches the parameters: .sample() has no path; {cure}"
        require(gradient is not None, "no-gradient", message)
        gradients.append(gradient.item())
    return torch.tensor(gradients)


def _step(z: Tensor) -> Tensor:
    """1 where z > 0, else 0, with autograd's derivative of it: 0."""
    return 0.5 * (1 + z.sign())


def _unbiased(answer: Callable) -> None:
    """Compare averages with exact gradients: Normal, Exponential, Bernoulli, and a step."""
    mu, rate, logit, place, width = map(_parameter, (1.0, 1.5, 0.4, 0.5, 0.7))
    p = torch.sigmoid(logit.detach()).item()
    density = Normal(0.5, 0.8).log_prob(torch.tensor(0.0)).exp().item()
    cases = [
        (Normal(mu, 0.5), mu, torch.square, True, 2.0),
        (Normal(1.0, width), width, torch.square, True, 2 * 0.7),
        (Exponential(rate), rate, lambda z: z, True, -1 / 1.5**2),
        (Bernoulli(logits=logit), logit, lambda z: 3 * z + 1, True, 3 * p * (1 - p)),
        (Poisson(rate), rate, lambda z: 3 * z + 1, True, 3.0),
        (Bernoulli(logits=logit), logit, lambda z: 3 * z + 1, False, 3 * p * (1 - p)),
        (Normal(place, 0.8), place, _step, False, density),
    ]
    repeats, n = 100, 400
    for q, parameter, f, smooth, exact in cases:
        estimates = _gradients(answer, q, parameter, f, smooth, n, repeats)
        mean, error = estimates.mean().item(), estimates.std().item() / repeats**0.5
        name = type(q).__name__
        require(
            smooth or mean != 0 or error != 0,
            "flat",
            f"for {name} and an f with jumps the gradient is zero: the path is flat on both sides of a jump, and a z "
            "from .rsample() inside log_prob cancels the score; draw with .sample()",
        )
        slack = 6 * error + 0.01
        require(abs(mean + exact) > slack, "sign", f"for {name} the sign of the gradient is wrong")
        require(
            abs(mean / n - exact) > slack / n,
            "sum",
            f"for {name} the gradient is {n} times too large: mean over draws, not sum",
        )
        require(
            abs(mean - exact) < slack,
            "biased",
            f"for {name} with f smooth: {smooth} the gradient is {mean:.3f} ± {error:.3f} on average, exact "
            f"{exact:.3f}: biased. One way only: either f(q.rsample()), or f(z) * q.log_prob(z) with z from .sample()",
        )


def _honest_with_two_draws(answer: Callable) -> None:
    """A baseline that holds the draw's own value shrinks the gradient by 1 - 1/n: by half for two draws."""
    logit, repeats = _parameter(0.4), 3000
    q, p = Bernoulli(logits=logit), torch.sigmoid(logit.detach()).item()
    estimates = _gradients(answer, q, logit, lambda z: 3 * z + 1, False, 2, repeats)
    mean, error, exact = estimates.mean().item(), estimates.std().item() / repeats**0.5, 3 * p * (1 - p)
    require(
        abs(mean - exact) < 6 * error + 0.01,
        "own-value",
        f"with only two draws the gradient is {mean:.2f} on average, exact {exact:.2f}: a baseline must not "
        "contain the value of the draw itself",
    )


def _quiet(answer: Callable) -> None:
    """The noise must be that of the mean over n draws, and where a path exists, that of the pathwise gradient."""
    mu, rate, logit, n = _parameter(1.0), _parameter(1.5), _parameter(0.4), 100
    smooth = [(Normal(mu, 0.5), mu, torch.square, 4 * 0.5**2), (Exponential(rate), rate, lambda z: 1 * z, 1.5**-4)]
    for q, parameter, f, pathwise in smooth:
        ratio = _gradients(answer, q, parameter, f, True, n, 100).var().item() / (pathwise / n)
        message = (
            f"unbiased, but for {type(q).__name__} and smooth f the variance is {ratio:.0f} times that of the pathwise "
            "gradient: use .rsample() where q.has_rsample and f is smooth"
        )
        require(ratio < 3, "noisy", message)
    estimates, p = (
        _gradients(answer, Bernoulli(logits=logit), logit, lambda z: 3 * z + 1, True, n, 100),
        logit.sigmoid(),
    )
    ratio = estimates.var().item() / ((16 * p * (1 - p) ** 2 + (1 - p) * p**2 - (3 * p * (1 - p)) ** 2).item() / n)
    require(ratio < 3, "few-draws", f"the variance is {ratio:.0f} times that of {n} draws: average over all of them")
