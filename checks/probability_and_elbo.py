"""Instant checks of notebook 02: each asks for properties that the right function has, on fresh random numbers."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from checks.common import correct, instant_check, require
from checks.common import numbers as numbers

LOG_2PI = math.log(2 * math.pi)


def _random(seed: int) -> Callable[..., Tensor]:
    """A `torch.randn` with a generator of its own, so that a check doesn't disturb the notebook's random numbers."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, dtype=torch.float64: torch.randn(*shape, generator=generator, dtype=dtype)


def _close(value: Tensor | float, expected: Tensor | float, tolerance: float = 1e-6) -> bool:
    """Whether two values, or all of two tensors of one shape, differ by at most `tolerance`, relative above 1."""
    value, expected = (torch.as_tensor(v, dtype=torch.float64).detach() for v in (value, expected))
    return bool(((value - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all())


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _shape(result: object, shape: tuple[int, ...], otherwise: dict[tuple[int, ...], str]) -> None:
    """Require a tensor of `shape`; `otherwise` names the likely cause of other shapes."""
    require(
        isinstance(result, Tensor),
        f"the function must return a tensor, it returned {type(result).__name__}. "
        + ("Leave out .item()." if isinstance(result, float) else "Is there a return?"),
    )
    cause = otherwise.get(tuple(result.shape), "look at which axes you sum over")
    require(result.shape == shape, f"the result has shape {tuple(result.shape)}, expected {shape}: {cause}.")


def _untouched(function: Callable[..., Tensor], *arguments: Tensor) -> None:
    """Require that `function` leaves its `arguments` as they are."""
    copies = [argument.clone() for argument in arguments]
    function(*arguments)
    same = all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))
    require(same, "an argument was changed in place; work on a new tensor (no exp_, no +=).")


def _well_behaved(
    function: Callable[..., Tensor], *arguments: Tensor, like: Callable[..., Tensor] | None = None
) -> None:
    """Require that the dtype of `arguments` is kept and that gradients reach each of them, those of `like` if given."""
    for dtype in (torch.float32, torch.float64):
        result = function(*(argument.to(dtype) for argument in arguments))
        require(
            result.dtype == dtype, f"for {dtype} arguments the result is {result.dtype}; keep the arguments' dtype."
        )
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    result = function(*leaves)
    require(result.requires_grad, "no gradient comes through: leave out .detach(), .item(), .data and torch.no_grad.")
    slopes = torch.autograd.grad(result.sum(), leaves, allow_unused=True)
    require(
        all(slope is not None and slope.isfinite().all() for slope in slopes),
        "no finite gradient reaches one of the arguments; is each of them used, without .detach() or .item()?",
    )
    if like:
        right = torch.autograd.grad(like(*leaves).sum(), leaves)
        same = all(_close(slope, other) for slope, other in zip(slopes, right, strict=True))
        require(same, "the values are right and the gradients are not: is one of the arguments detached in some place?")


@instant_check
def log_normal(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.1: `log_normal(x, mu, logvar)`, each (..., dim) after broadcasting, gives (...,), in nats."""
    randn = _random(21)
    x, mu, logvar = randn(7, 5), randn(7, 5), randn(7, 5)
    result = answer(x, mu, logvar)
    _shape(
        result,
        (7,),
        {
            (7, 5): "add the terms of the last axis, .sum(-1)",
            (): "sum over the last axis only; each image keeps its own number",
            (5,): "you sum over the batch; sum over the last axis, .sum(-1)",
        },
    )

    _untouched(answer, x, mu, logvar)
    zero = torch.zeros(1, 4, dtype=torch.float64)
    centre = answer(zero, zero, zero).item()
    require(
        not math.isnan(centre),
        "at x = mu, logvar = 0, so σ = 1, the result is nan: do you take the logarithm of logvar, or divide by it?",
    )
    require(not _close(centre, math.exp(-2 * LOG_2PI)), "this is the density itself; its logarithm is asked.")
    require(
        not _close(centre, 0),
        "at x = mu, logvar = 0 the result is 0: the constant is missing, -½ log 2π in every dimension.",
    )
    require(
        not _close(centre, -LOG_2PI / 2),
        "at x = mu, logvar = 0 in four dimensions you count -½ log 2π once (or take a mean over dimensions for a sum): "
        "every dimension has its own constant.",
    )
    require(not _close(centre, -4 * LOG_2PI), "the ½ in front of log 2π is missing: the constant is twice too large.")
    require(not _close(centre, 2 * LOG_2PI), "the sign is wrong: this is the negative log-density.")
    require(
        _close(centre, -2 * LOG_2PI),
        f"at x = mu, logvar = 0 in four dimensions the result must be 4 · (-½ log 2π) = {-2 * LOG_2PI:.4f}, "
        f"it is {centre:.4f}: look at the constant.",
    )
    one = torch.ones_like(zero)
    step = answer(one, zero, zero).item() - centre
    require(not _close(step, -4), "the ½ in front of the square is missing: a step of 1 must cost ½ nat per dimension.")
    require(
        _close(step, -2), f"a step of 1 away from mu, σ = 1, must cost ½ nat per dimension, it costs {-step / 4:.4f}."
    )
    require(
        _close(answer(-one, zero, zero).item() - centre, step),
        "a step to the left must cost as much as one to the right: where is the square of x - mu?",
    )
    wide = torch.full_like(zero, math.log(4))  # σ² = 4, σ = 2
    height = answer(zero, zero, wide).item() - centre
    step = answer(one, zero, wide).item() - answer(zero, zero, wide).item()
    require(
        not _close(step, -4 / 32),
        "you use exp(logvar) as the standard deviation; that is the variance: σ² = exp(logvar). Don't square it again.",
    )
    require(
        not _close(height, 0),
        "the width doesn't change the height of the density: the term -½ logvar is missing.",
    )
    require(
        not _close(height, -4 * math.log(4)),
        "you subtract logvar where ½ logvar belongs: the density has 1/σ in front, and log σ = ½ logvar.",
    )
    require(_close(height, -2 * math.log(4)), "at x = mu the term in logvar must be -½ logvar per dimension.")
    require(
        not _close(step, -4 / 4),
        "you divide the square by σ = exp(½ logvar); divide by the variance, σ² = exp(logvar).",
    )
    require(not _close(step, -4 / 2), "the square isn't divided by the variance, exp(logvar).")
    require(
        not _close(step, -4 * 4 / 2),
        "you multiply the square by the variance; divide by it: a wider density forgives larger errors.",
    )
    for seed in range(3):
        randn = _random(seed)
        for shape in ((1, 1), (6, 3), (2, 3, 8)):
            x, mu, logvar = randn(*shape), randn(*shape), randn(*shape)
            expected = Normal(mu, (0.5 * logvar).exp()).log_prob(x).sum(-1)
            result = answer(x, mu, logvar)
            require(
                result.shape == expected.shape,
                f"for arguments of shape {shape} the result has shape {tuple(result.shape)}, expected {shape[:-1]}: "
                "sum over the last axis, .sum(-1), however many there are.",
            )
            require(_close(result, expected), "it doesn't agree with torch.distributions on random numbers.")
    x, mu, logvar = randn(6, 3), randn(3), randn(1)[0]
    expected = Normal(mu, (0.5 * logvar).exp()).log_prob(x).sum(-1)
    result = answer(x, mu, logvar)
    require(
        result.shape == (6,) and _close(result, expected),
        "with mu (dim,) and a scalar logvar the result is wrong: first put the three terms together, so that they are "
        "broadcast to (..., dim), then sum once.",
    )
    _well_behaved(
        answer,
        *(randn(4, 3) for _ in range(3)),
        like=lambda x, mu, logvar: Normal(mu, (0.5 * logvar).exp()).log_prob(x),
    )
    correct(
        "log_normal: shape, constant, ½, width, broadcasting, gradients, and torch.distributions on random numbers."
    )


@instant_check
def estimate_log_px(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.2: `estimate_log_px(log_weights)`, (n, batch) -> (batch,), log of the mean weight, in nats."""
    randn = _random(22)
    _shape(
        answer(randn(7, 5)),
        (5,),
        {
            (7,): "you average over the images; average over the draws, axis 0",
            (): "average over the draws only, axis 0; each image keeps its own number",
            (7, 5): "average over the draws, axis 0",
            (1, 5): "drop the averaged axis (no keepdim)",
        },
    )
    _untouched(answer, randn(7, 5))
    equal = answer(torch.full((8, 2), -3.0, dtype=torch.float64))
    require(
        not _close(equal, -3 + math.log(8)),
        "eight equal weights of log -3 give -3 + log 8: that is the sum; for the mean subtract log n.",
    )
    require(
        not _close(equal, -3 - math.log(8)),
        "log n is subtracted although the mean has been taken already: once is enough.",
    )
    require(not _close(equal, math.exp(-3)), "this is the mean weight itself; its logarithm is missing at the end.")
    require(_close(equal, -3), "when all weights are equal, their mean is that weight: eight times -3 must give -3.")
    two = answer(torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64))
    require(
        not _close(two, math.log(3) / 2),
        "you take the mean of the logarithms; wanted is the logarithm of the mean, here log((1 + 3)/2).",
    )
    require(not _close(two, math.log(3)), "you take the largest logarithm; the other draws count, too.")
    require(not _close(two, 1.0), "base 2? The result is in nats: use the natural logarithm.")
    require(_close(two, math.log(2)), "for the weights 1 and 3 the result must be log 2.")
    for level in (-10_000.0, 10_000.0):
        result = answer(level + randn(50, 3))
        require(
            bool(result.isfinite().all()),
            f"for logarithms near {level:,.0f} the result is {result[0].item()}: exp under- or overflows. "
            "Take the largest logarithm out first: torch.logsumexp does.",
        )
        require(
            _close(answer(level + torch.zeros(50, 3, dtype=torch.float64)), level, 1e-9),
            f"for logarithms of {level:,.0f} the result is off: adding c to every logarithm must add exactly c.",
        )
    for seed in range(3):
        log_weights = 3 * _random(seed)(40, 6)
        require(
            _close(answer(log_weights).exp(), log_weights.exp().mean(0)),
            "on random weights the result isn't the logarithm of their mean over the draws.",
        )
    far = torch.tensor([[0.0, 0.0], [-5000.0, -2000.0]], dtype=torch.float64)
    require(_close(answer(far), -math.log(2)), "a draw of weight practically 0 still counts as one of n draws.")
    impossible = torch.tensor([[-1.0], [-math.inf]], dtype=torch.float64)
    require(_close(answer(impossible), -1 - math.log(2)), "a draw of weight 0 (log: -inf) must not spoil the others.")
    _well_behaved(answer, randn(9, 2))
    correct("estimate_log_px: log of the mean, over the draws, in nats, safe at ±10,000.")


@instant_check
def gaussian_kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.3: `gaussian_kl(mu, logvar)`, (batch, latent_dim) -> (batch,), KL to N(0, I) in nats."""
    randn = _random(23)
    _shape(
        answer(randn(7, 5), randn(7, 5)),
        (7,),
        {
            (7, 5): "sum over the latent dimensions, .sum(-1)",
            (): "sum over the latent dimensions only; each image keeps its own number",
            (5,): "you sum over the batch; sum over the last axis",
        },
    )
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    _untouched(answer, randn(7, 5), randn(7, 5))
    at_prior = answer(zero, zero).item()
    require(
        _close(at_prior, 0),
        f"for mu = 0, logvar = 0, q is the prior and the KL must be 0; it is {at_prior:.4f}. Is the -1 there? "
        "Does logvar stand for log σ², so that σ² = exp(logvar) = 1?",
    )
    moved = answer(one, zero).item()
    require(not _close(moved, 1), "a mean of 1 costs 1 nat; it must cost ½: the ½ in front is missing.")
    require(not _close(moved, -0.5), "the result is negative: a KL divergence never is. The sign is turned.")
    require(_close(moved, 0.5), f"a mean of 1 (σ = 1) must cost ½ nat, it costs {moved:.4f}: look at the term in mu.")
    wide = torch.full_like(zero, math.log(4))  # σ² = 4, σ = 2
    by_mean = (answer(one, wide) - answer(zero, wide)).item()
    require(
        not _close(by_mean, 0.125),
        "direction: this is KL(prior ‖ q). Wanted is KL(q ‖ prior), averaged over q: mu² isn't divided by σ².",
    )
    at_wide = answer(zero, wide).item()
    require(
        not _close(at_wide, 0.5 * (16 - 2 * math.log(4) - 1)) and not _close(at_wide, 0.5 * (16 - math.log(4) - 1)),
        "you square exp(logvar); that is the variance already: σ² = exp(logvar).",
    )
    require(
        not _close(at_wide, 0.5 * (2 - math.log(4) - 1), 1e-4)
        and not _close(at_wide, 0.5 * (2 - math.log(2) - 1), 1e-4),
        "you use σ = exp(½ logvar) where the variance belongs: σ² = exp(logvar).",
    )
    require(at_wide > 0, f"for σ² = 4 the result is {at_wide:.4f}; a KL divergence is never negative. Check the signs.")
    require(not _close(at_wide, 0.5 * (4 - 1)), "the term -logvar is missing: without it a small σ costs nothing.")
    require(
        _close(at_wide, 0.5 * (4 - math.log(4) - 1)) and _close(by_mean, 0.5),
        "for σ² = 4 the terms in logvar are off: per dimension ½(σ² - log σ² - 1), beside ½ mu².",
    )
    mu, logvar = randn(4, 6), randn(4, 6)
    parts = answer(mu[:, :2], logvar[:, :2]) + answer(mu[:, 2:], logvar[:, 2:])
    require(
        _close(answer(mu, logvar), parts),
        "the KL of six independent dimensions must be the KL of the first two plus that of the other four: "
        "sum over the dimensions, no mean, and the -1 belongs to each of them.",
    )
    require(_close(answer(mu, logvar), answer(-mu, logvar)), "mu and -mu must cost the same.")
    require(_close(answer(mu, logvar)[1:], answer(mu[1:], logvar[1:])), "an image's KL depends on others in the batch.")
    for seed in range(3):
        randn = _random(seed)
        for shape in ((1, 1), (6, 3), (3, 20)):
            mu, logvar = 2 * randn(*shape), 2 * randn(*shape)
            expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(zero, one)).sum(-1)
            require(
                _close(answer(mu, logvar), expected), "it doesn't agree with torch.distributions on random numbers."
            )
    narrow = answer(one, torch.full_like(zero, -700)).item()
    require(_close(narrow, 0.5 * (1 + 700 - 1)), f"for logvar = -700 the KL must be 350 nats; it is {narrow}.")
    _well_behaved(answer, randn(4, 3), randn(4, 3))
    correct("gaussian_kl: zero at the prior, never negative, additive, direction, variance, gradients.")


@instant_check
def elbo_estimate(answer: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.4: `elbo_estimate(log_likelihood, mu, logvar, eps)`, a scalar in nats."""
    randn = _random(24)
    mu, logvar, eps = randn(3), randn(3), randn(50, 3)
    codes: list[Tensor] = []

    def linear(z: Tensor) -> Tensor:
        codes.append(z.detach().clone())
        return z.sum(-1)

    result = answer(linear, mu, logvar, eps)
    _shape(
        result,
        (),
        {
            (50,): "average over the draws; the result is one number",
            (1,): "one number, without an axis: .squeeze() it, or index",
            (3,): "sum the KL over the latent dimensions; the result is one number",
        },
    )
    _untouched(lambda *arguments: answer(linear, *arguments), mu, logvar, eps)
    codes.clear()
    answer(linear, mu, logvar, eps)
    require(len(codes) > 0, "log_likelihood was never called; give it the codes z = mu + σ · eps.")
    require(
        all(z.shape[-1:] == (3,) for z in codes) and sum(z.shape[:-1].numel() for z in codes) == 50,
        f"log_likelihood got codes of shape {tuple(codes[0].shape)}, expected (50, 3): one draw for every row of eps "
        "(z = mu alone is no draw).",
    )
    codes.clear()
    unit = torch.ones(1, 1, dtype=torch.float64)
    answer(linear, _tensor(5), _tensor(math.log(4)), unit)  # σ = 2, so z = 7
    z = codes[0].item()
    require(not _close(z, 5), "eps isn't used: z = mu is no draw from q, and the result isn't the ELBO.")
    require(not _close(z, 9), "you use exp(logvar) as the standard deviation; that is the variance: σ = exp(½ logvar).")
    require(not _close(z, 5 + math.log(4)), "you use logvar as the standard deviation: σ = exp(½ logvar).")
    require(not _close(z, 3), "the sign of eps is turned; z = mu + σ · eps.")
    require(
        _close(z, 7), f"for mu = 5, σ = 2, eps = 1 the code must be 7; log_likelihood got {z:.4f}. Use the given eps."
    )

    def nothing(z: Tensor) -> Tensor:
        return z.sum(-1) * 0

    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum()
    result = answer(nothing, mu, logvar, eps)
    require(not _close(result, 0), "where the likelihood is constant 1, the ELBO is -KL(q‖p(z)); you have no KL term.")
    certain = answer(lambda z: nothing(z) + 1, mu, logvar, eps)
    require(
        not _close(certain, kl - 1), "this is the loss, -ELBO; asked is the ELBO itself: E_q[log p(x|z)] - KL(q‖p(z))."
    )
    require(not _close(result, -2 * kl), "the KL is twice too large: the ½ in front is missing.")
    require(not _close(result, kl), "the KL is added; it must be subtracted: ELBO = E_q[log p(x|z)] - KL(q‖p(z)).")
    require(
        not _close(result, -50 * kl), "the KL is counted once for every draw; it is subtracted once, after the mean."
    )
    require(not _close(result, -kl / 50), "the KL is divided by the number of draws; only log p(x|z) is averaged.")
    require(not _close(result, -kl / 3), "the KL is a mean over the latent dimensions; it must be their sum.")
    require(
        _close(result, -kl),
        f"where the likelihood is constant 1, the ELBO must be -KL(q‖p(z)) = {-kl:.4f}; it is {result:.4f}. Is the KL "
        "the closed form, `gaussian_kl`, and no average over draws?",
    )

    def two(z: Tensor) -> Tensor:
        return math.log(3) * (z.sum(-1) > 0).to(z.dtype) + 0 * z.sum(-1)

    sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    value = answer(two, _tensor(0), _tensor(0), sign)
    require(
        not _close(value, math.log(2)),
        "you take the logarithm of the mean likelihood; the ELBO is the mean of the logarithms (Jensen's step).",
    )
    require(not _close(value, math.log(3)), "log p(x|z) is summed over the draws; take the mean.")
    require(not _close(value, -math.log(3) / 2), "the sign of log p(x|z) is turned: this is the loss, not the ELBO.")
    require(_close(value, math.log(3) / 2), "log p(x|z) must be averaged over the draws.")
    target = randn(3)

    def quadratic(z: Tensor) -> Tensor:
        return -0.5 * ((z - target.to(z.dtype)) ** 2).sum(-1)

    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)  # mean 0, variance 1
    exact = -0.5 * ((mu - target) ** 2 + logvar.exp()).sum() - kl
    require(
        _close(answer(quadratic, mu, logvar, corners), exact),
        "for a quadratic log-likelihood, whose ELBO is known exactly, the estimate is off.",
    )
    leaf = mu.clone().requires_grad_()
    slope = torch.autograd.grad(answer(quadratic, leaf, logvar, corners), leaf, allow_unused=True)[0]
    require(
        slope is not None and _close(slope, -(mu - target) - mu),
        "the gradient with respect to mu is wrong: it must flow through the codes z too: no .detach().",
    )
    require(
        _close(answer(quadratic, mu, logvar, eps), answer(quadratic, mu, logvar, eps)),
        "two calls with the same eps differ: draw no noise of your own, use the given eps.",
    )
    _well_behaved(lambda mu, logvar: answer(quadratic, mu, logvar, eps.to(mu.dtype)), mu, logvar)
    correct("elbo_estimate: draws from q, mean of the logarithms, closed-form KL subtracted once, gradients.")


@instant_check
def gap(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.5: `gap(mu, logvar, posterior_mean, posterior_cov)`, (batch, n) and (n, n) -> (batch,), in nats."""
    randn = _random(25)
    eye = torch.eye(3, dtype=torch.float64)
    factor = randn(3, 3)
    cov = factor @ factor.T + 0.3 * eye
    mu, logvar, mean = randn(7, 3), randn(7, 3), randn(7, 3)
    _shape(
        answer(mu, logvar, mean, cov),
        (7,),
        {
            (7, 3): "sum over the dimensions; each image keeps one number",
            (): "each image keeps its own number; sum over the dimensions only",
            (7, 7): "the squared distance of each image to itself only: ((error @ precision) * error).sum(-1)",
        },
    )
    _untouched(answer, mu, logvar, mean, cov)
    widths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    same = answer(mu, widths.square().log().expand(7, 3), mu, widths.square().diag())
    require(
        _close(same, 0),
        f"where q equals the posterior the gap must be 0; it is {same[0].item():.4f}. Is the -n there? Is "
        "logvar = log σ² used as such, is posterior_mean, does each image keep its own sum, and have both log det "
        "opposite signs?",
    )
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    wide = 4 * one  # a posterior with variance 4; q has variance 1
    value = answer(zero, zero, zero, wide).item()
    require(
        not _close(value, 0.5 * (4 - 1 - math.log(4))),
        "direction: this is KL(posterior ‖ q). Wanted is KL(q ‖ posterior): divide by the posterior's variance.",
    )
    require(not _close(value, 0.25 - 1 + math.log(4)), "the ½ in front is missing: the result is twice too large.")
    require(
        value > 0, f"the result is {value:.4f}; a KL divergence is never negative. Check the signs of both log det."
    )
    require(
        _close(value, 0.5 * (0.25 - 1 + math.log(4))),
        "for q = N(0, 1) and the posterior N(0, 4) the gap must be ½(¼ - 1 + log 4): look at the trace "
        "(with the inverse of posterior_cov) and both log det.",
    )
    step = answer(zero, zero, one, wide).item() - value
    require(not _close(step, 0), "the distance of the two means doesn't enter.")
    require(
        not _close(step, 0.5),
        "the squared distance of the means must be in units of the posterior: use the inverse of posterior_cov.",
    )
    require(not _close(step, 2), "you multiply by posterior_cov where its inverse belongs.")
    require(_close(step, 0.125), "the term of the means must be ½ (m - μ)ᵀ S⁻¹ (m - μ).")
    q_wide = answer(zero, math.log(4) * one, zero, one).item()
    require(
        _close(q_wide, 0.5 * (4 - 1 - math.log(4))),
        "for q with variance 4 the result is off: the variance of q is exp(logvar), its log det the sum of logvar.",
    )
    diagonal_only = answer(mu, logvar, mean, cov.diagonal().diag())
    full = answer(mu, logvar, mean, cov)
    require(
        not _close(full, diagonal_only),
        "only the diagonal of posterior_cov is used; the posterior is correlated: use the matrix.",
    )
    for seed in range(3):
        randn = _random(seed)
        for n in (1, 2, 6):
            factor = randn(n, n)
            cov = factor @ factor.T + 0.3 * torch.eye(n, dtype=torch.float64)
            mu, logvar, mean = randn(5, n), randn(5, n), randn(5, n)
            q = MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
            expected = kl_divergence(q, MultivariateNormal(mean, cov))
            result = answer(mu, logvar, mean, cov)
            traces = [(d * logvar.exp()).sum(-1) for d in (1 / cov.diagonal(), cov.inverse().diagonal())]
            require(
                n == 1 or not _close(result, expected + 0.5 * (traces[0] - traces[1])),
                "the trace of S⁻¹Σ needs the diagonal of the inverse, which is not 1 / the diagonal of S.",
            )
            require(_close(result, expected), f"it doesn't agree with torch.distributions in {n} dimensions.")
            require(_close(result[1:], answer(mu[1:], logvar[1:], mean[1:], cov)), "images in a batch mix.")
    tiny = 1e-8 * torch.eye(60, dtype=torch.float64)
    mu = randn(2, 60)
    result = answer(mu, torch.full((2, 60), math.log(1e-8), dtype=torch.float64), mu, tiny)
    require(
        bool(result.isfinite().all()) and _close(result, 0),
        "for a narrow posterior in 60 dimensions the determinant underflows: use torch.logdet, not torch.det().log().",
    )
    _well_behaved(lambda mu, logvar, mean: answer(mu, logvar, mean, eye.to(mu.dtype)), *(randn(4, 3) for _ in range(3)))
    correct("gap: zero for the exact posterior, direction, correlations, both means, gradients.")
