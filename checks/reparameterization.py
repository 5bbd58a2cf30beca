"""Instant checks for notebook 03, the reparameterization trick."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Exponential, Normal, Weibull

from checks.common import (
    close,
    correct,
    generator,
    instant_check,
    recognise,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers

Pair = tuple[Tensor, Tensor]


@instant_check
def reparameterize(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check `answer(mu, logvar)`, a differentiable draw from N(mu, exp(logvar)); any common shape."""
    for shape, dtype in [((6, 3), torch.float32), ((1,), torch.float64), ((2, 7, 4), torch.float64)]:
        _draw_and_gradients(answer, shape, dtype)
    _own_noise(answer)
    _spread(answer)
    z = answer(torch.ones(2, 2), torch.tensor([[-80.0, 80.0], [80.0, -80.0]]))
    require(z.isfinite().all(), "range", "at logvar = -80 or 80 the draw is not finite: use exp(0.5 * logvar)")
    correct("reparameterize: right mean and width, an independent ε for every entry, gradients to mu and logvar.")


def _draw_and_gradients(answer: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Shape, dtype, randomness, and the two derivatives of one draw."""
    mu, logvar = (3 * torch.randn(2, *shape, dtype=dtype)).unbind()
    with untouched(mu, logvar):
        z = answer(mu, logvar)
    require_tensor(z, shape, "z, of the shape of mu", dtype)
    require(not torch.equal(z, mu), "no-noise", "z is mu itself: where is the noise?")
    require(not torch.equal(z, answer(mu, logvar)), "not-fresh", "two calls give the same z: draw a fresh ε each time")
    mu.requires_grad_()
    logvar.requires_grad_()
    z = answer(mu, logvar)
    require(
        z.requires_grad,
        "no-gradient",
        "z carries no gradient: .sample(), .detach() or no_grad() cuts the path; write z = mu + σ * ε",
    )
    by_mu, by_logvar = torch.autograd.grad(z.sum(), [mu, logvar], allow_unused=True)
    require(by_mu is not None, "mu-detached", "no gradient reaches mu: is it detached, or unused?")
    require(
        by_mu.abs().max() > 0,
        "torch-normal",
        "the gradient of z w.r.t. mu is zero: torch.normal(mu, σ) has no path; draw ε with randn_like",
    )
    require(
        torch.allclose(by_mu, torch.ones_like(by_mu)),
        "mu-gradient",
        "dz/dmu must be 1, equation (3.4): add mu, unscaled",
    )
    require(by_logvar is not None, "sigma-detached", "no gradient reaches logvar: is σ detached, or logvar unused?")
    deviation = (z - mu).detach()

    def is_deviation(times: float) -> bool:
        return torch.allclose(by_logvar, times * deviation, rtol=1e-3, atol=1e-6)

    require(
        not is_deviation(1),
        "sigma-is-exp",
        "z changes with logvar twice as fast as it should: exp(logvar) is the variance; σ = exp(0.5 * logvar)",
    )
    require(
        not is_deviation(-0.5), "exponent-sign", "larger logvar gives smaller spread: the sign in the exponent is wrong"
    )
    require(
        is_deviation(0.5),
        "logvar-gradient",
        "dz/dlogvar must be half of z - mu, equation (3.4): σ is exp(0.5 * logvar) and multiplies ε",
    )


def _spread(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Mean, width and shape of the distribution of many draws."""
    n = 40_000
    for mean, logvar in [(3.0, 2.0), (-1.0, -3.0)]:
        sigma = torch.tensor(logvar / 2).exp().item()
        z = answer(torch.full((n,), mean), torch.full((n,), logvar))
        width = z.std().item()
        require(
            abs(width / sigma**2 - 1) > 0.05,
            "sigma-is-exp",
            f"the spread of z is {width:.3g} at logvar = {logvar:g}: that is the variance; σ = exp(0.5 * logvar)",
        )
        require(
            abs(z.mean().item() - mean) < 6 * max(width, sigma) / n**0.5,
            "mean",
            f"z is {z.mean().item():.3g} on average where mu = {mean:g}: ε must have mean 0 (randn, not rand)",
        )
        require(
            abs(width / sigma - 1) < 0.04,
            "width",
            f"the spread of z is {width:.3g} at logvar = {logvar:g}; σ = exp(0.5 * logvar) is {sigma:.3g}, and ε must "
            "have standard deviation 1 (randn)",
        )
        within = ((z - mean).abs() < sigma).float().mean().item()
        require(
            abs(within - 0.6827) < 0.02,
            "not-normal",
            f"{within:.0%} of the draws lie within one σ; for a normal ε it is 68 % (randn)",
        )


def _own_noise(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Every entry of every call has its own noise, independent of all others."""
    eps = answer(torch.zeros(64, 5), torch.zeros(64, 5))
    by_row, by_column = eps.std(0).max().item(), eps.std(1).max().item()
    require(by_row > 1e-4, "one-eps-for-batch", "one ε for the whole batch: each row needs its own; randn_like(mu)")
    require(by_column > 1e-4, "one-eps-for-dimensions", "one ε for all latent dimensions: each entry needs its own")
    first, second = (answer(torch.zeros(2, 4000, 2), torch.zeros(2, 4000, 2)) for _ in range(2))
    for a, b in [
        (first[0], first[1]),
        (first[0], second[0]),
        (first[..., 0], first[..., 1]),
        (first[:, 1:], first[:, :-1]),
        (first[0], first[0].flip(0)),
    ]:
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
        require(
            abs(correlation) < 0.1,
            "dependent",
            f"the noise of different entries has correlation {correlation:.2f}; every ε must be independent of the "
            "others: randn_like(mu)",
        )


@instant_check
def score_function_gradient(answer: Callable[..., Pair]) -> None:
    """Check `answer(values, z, mu, logvar, baseline)`: gradients w.r.t. mu and logvar, each (n, latent_dim)."""
    random = generator()

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    for n, latent_dim in [(7, 1), (5, 3), (4, 4)]:
        mu, logvar, z, values = randn(latent_dim), randn(latent_dim), randn(n, latent_dim), 2 + randn(n)
        logvar = 2 * logvar + 0.5
        with untouched(values, z, mu, logvar):
            result = answer(values, z, mu, logvar)
        require(
            isinstance(result, tuple | list) and len(result) == 2,
            "pair",
            "return two tensors: w.r.t. mu, w.r.t. logvar",
        )
        for name, g in zip(("w.r.t. mu", "w.r.t. logvar"), result, strict=True):
            shape = getattr(g, "shape", None)
            require(
                n == latent_dim or shape != (latent_dim,),
                "averaged",
                f"the estimate {name} is averaged over the draws; return one estimate per draw, (n, latent_dim)",
            )
            require(
                n == latent_dim or shape != (n, n),
                "wrong-axis",
                f"the estimate {name} has shape ({n}, {n}): values, (n,), meet the wrong axis; use unsqueeze(-1)",
            )
            require_tensor(g, (n, latent_dim), f"the estimate {name}")
        _compare_scores(result, values, z, mu, logvar)
        for baseline in (1.7, randn(n)):
            plain, shifted = result, answer(values, z, mu, logvar, baseline)
            for g, h in zip(plain, shifted, strict=True):
                require(not close(g, h), "no-baseline", "the baseline has no effect: subtract it from the values")
            higher = answer(values + baseline, z, mu, logvar, baseline)
            for g, h in zip(plain, higher, strict=True):
                require(
                    close(g, h),
                    "baseline-sign",
                    "values and baseline both raised must change nothing: the baseline is subtracted from the values "
                    "(draw by draw, if it has shape (n,)), for both parameters",
                )
    correct("score_function_gradient: the score of each draw, weighted by f minus the baseline.")


def _compare_scores(result: Pair, values: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> None:
    """Compare with autograd's derivative of log q, and recognise the usual slips."""
    n = len(z)
    rows = [p.expand(n, -1).clone().requires_grad_() for p in (mu, logvar)]
    log_q = Normal(rows[0], (0.5 * rows[1]).exp()).log_prob(z)
    by_mu, by_logvar = torch.autograd.grad(log_q.sum(), rows)
    weight, sigma = values[:, None], (0.5 * logvar).exp()
    mine_mu, mine_logvar = result
    if n == z.shape[1]:
        require(
            not close(mine_mu, values * by_mu),
            "wrong-axis",
            "with as many draws as dimensions the values meet the wrong axis: values need shape (n, 1), unsqueeze(-1)",
        )
    require(
        not (close(mine_mu, weight * by_logvar) and close(mine_logvar, weight * by_mu)),
        "exchanged",
        "the two results are exchanged: first w.r.t. mu, then w.r.t. logvar",
    )
    variance = "w.r.t. mu the variance is wrong: σ² = exp(logvar)"
    recognise(
        mine_mu,
        weight * by_mu,
        {
            ("no-values", "f(z) plays no part in the estimate w.r.t. mu: weigh the score with the values"): by_mu,
            ("mu-sign", "the sign w.r.t. mu is wrong: the score is (z - mu) / σ²"): -weight * by_mu,
            ("mu-sigma", "for the estimate w.r.t. mu you divide by σ; the score is (z - mu) / σ²"): weight
            * by_mu
            * sigma,
            ("mu-variance", variance): weight * by_mu / sigma**2,
            ("logvar-as-variance", variance): weight * by_mu * sigma**2 / logvar,
        },
        "w.r.t. mu: expected f(z) times the score, equation (3.7), for each draw",
    )
    recognise(
        mine_logvar,
        weight * by_logvar,
        {
            ("logvar-half", "w.r.t. logvar the factor ½ of equation (3.7) is missing"): 2 * weight * by_logvar,
            ("by-sigma", "this is the derivative w.r.t. σ; asked is the one w.r.t. logvar = log σ²"): 2
            * weight
            * by_logvar
            / sigma,
            (
                "no-minus-one",
                "w.r.t. logvar the score is ½((z - mu)²/σ² - 1): the -1, from the normalisation of q, is missing",
            ): weight * (by_logvar + 0.5),
            ("logvar-sign", "the sign w.r.t. logvar is wrong"): -weight * by_logvar,
            ("no-values", "f(z) plays no part in the estimate w.r.t. logvar"): by_logvar,
        },
        "w.r.t. logvar: expected f(z) times the score, equation (3.7)",
    )


@instant_check
def weibull_from_uniform(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check `answer(u, scale, concentration)`: uniform noise (n,) to Weibull draws (n,)."""
    random = generator()
    for scale, concentration in [(2.5, 0.7), (0.4, 3.0), (1.0, 1.0)]:
        u = torch.rand(50, generator=random, dtype=torch.float64).clamp(0.001, 0.999)
        parameters = [torch.tensor(v, dtype=torch.float64) for v in (scale, concentration)]
        with untouched(u):
            z = answer(u, *parameters)
        require_tensor(z, (50,), "one draw for each u")
        require(
            not z.isnan().any(),
            "nan",
            "z is NaN: log(1 - u) is negative, and a negative number has no real power; the minus sign goes inside",
        )
        require(torch.equal(z, answer(u, *parameters)), "own-noise", "two calls with the same u differ: use u alone")
        require((z > 0).all(), "negative", "a Weibull draw is positive; where did the minus sign of the exponent go?")
        _compare_quantiles(z.detach(), u, scale, concentration)
        require_gradients(lambda scale, k, u=u: answer(u, scale, k), scale=parameters[0], concentration=parameters[1])
    for tiny in (1e-12, 1e-30):
        z = answer(torch.tensor([tiny], dtype=torch.float64), torch.tensor(1.0), torch.tensor(1.0))
        require(
            abs(z.item() / tiny - 1) < 1e-6,
            "log1p",
            f"at u = {tiny:g}, scale = concentration = 1, z must be {tiny:g} and is {z.item():.12g}: 1 - u rounds off; "
            "use torch.log1p(-u), and don't clamp u",
        )
    correct("weibull_from_uniform: F(z) gives u back, gradients to scale and concentration, exact for tiny u.")


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
    require(False, "value", "F(z) does not give u back: solve u = 1 - exp(-(z/λ)^k) for z once more")


@instant_check
def surrogate(answer: Callable[[Distribution, Callable[[Tensor], Tensor], bool, int], Tensor]) -> None:
    """Check `answer(q, f, smooth, n)`: its gradient is an unbiased, and where possible a pathwise, estimate."""
    _unbiased(answer)
    _honest_with_two_draws(answer)
    _quiet(answer)
    correct("surrogate: unbiased with and without a path, and pathwise where a path exists.")


def _parameter(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def _gradient(answer: Callable, q: Distribution, parameter: Tensor, f: Callable, smooth: bool, n: int) -> float:
    """The gradient that the answer's scalar gives to `parameter`, with messages for what can go wrong on the way."""
    name = type(q).__name__
    shapes = []

    def watched(z: Tensor) -> Tensor:
        shapes.append(tuple(z.shape))
        return f(z)

    try:
        value = answer(q, watched, smooth, n)
    except NotImplementedError:
        require(q.has_rsample, "no-rsample", f"{name} has no rsample: ask q.has_rsample before you call it")
        raise
    require(isinstance(value, Tensor), "type", f"return a scalar tensor; you returned a {type(value).__name__}")
    require(shapes, "not-called", "f was never called")
    require(
        shapes[0] == (n,),
        "draws",
        f"f was given z of shape {shapes[0]}; draw n values: q.sample((n,)), q.rsample((n,))",
    )
    require(
        value.ndim == 0, "shape", f"return one number; yours has shape {tuple(value.shape)}: average over the draws"
    )
    require(
        value.requires_grad,
        "no-gradient",
        f"for {name}, f smooth: {smooth}, no gradient reaches the parameters: .sample() alone has no path, "
        "multiply by q.log_prob(z)",
    )
    (gradient,) = torch.autograd.grad(value, parameter, allow_unused=True)
    require(gradient is not None, "no-gradient", f"for {name} no gradient reaches the parameter")
    return gradient.item()


def _step(z: Tensor) -> Tensor:
    """1 where z > 0, else 0, with autograd's derivative of it: 0."""
    return 0.5 * (1 + z.sign())


def _unbiased(answer: Callable) -> None:
    """Compare averages with exact gradients: Normal, Exponential, Bernoulli, and a step."""
    mu, rate, logit, place = _parameter(1.0), _parameter(1.5), _parameter(0.4), _parameter(0.5)
    p = torch.sigmoid(logit.detach()).item()
    density = Normal(0.5, 0.8).log_prob(torch.tensor(0.0)).exp().item()
    cases = [
        (Normal(mu, 0.5), mu, torch.square, True, 2.0),
        (Exponential(rate), rate, lambda z: z, True, -1 / 1.5**2),
        (Bernoulli(logits=logit), logit, lambda z: 3 * z + 1, True, 3 * p * (1 - p)),
        (Bernoulli(logits=logit), logit, lambda z: 3 * z + 1, False, 3 * p * (1 - p)),
        (Normal(place, 0.8), place, _step, False, density),
    ]
    repeats, n = 100, 400
    for q, parameter, f, smooth, exact in cases:
        estimates = torch.tensor([_gradient(answer, q, parameter, f, smooth, n) for _ in range(repeats)])
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
    estimates = torch.tensor([_gradient(answer, q, logit, lambda z: 3 * z + 1, False, 2) for _ in range(repeats)])
    mean, error, exact = estimates.mean().item(), estimates.std().item() / repeats**0.5, 3 * p * (1 - p)
    require(
        abs(mean - exact) < 6 * error + 0.01,
        "own-value",
        f"with only two draws the gradient is {mean:.2f} on average, exact {exact:.2f}: a baseline must not "
        "contain the value of the draw itself",
    )


def _quiet(answer: Callable) -> None:
    """Where q has a path and f is smooth, the noise must be that of the pathwise gradient."""
    mu = _parameter(1.0)
    estimates = [_gradient(answer, Normal(mu, 0.5), mu, torch.square, True, 100) for _ in range(100)]
    variance, pathwise = torch.tensor(estimates).var().item(), 4 * 0.5**2 / 100
    require(
        variance < 3 * pathwise,
        "noisy",
        f"unbiased, but for a Normal and smooth f the variance is {variance / pathwise:.0f} times that of the pathwise "
        "gradient: use .rsample() where q.has_rsample and f is smooth",
    )
