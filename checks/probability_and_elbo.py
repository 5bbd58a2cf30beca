"""Instant checks of notebook 02: each asks for the properties that the right function has."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from checks.common import (
    close,
    correct,
    generator,
    instant_check,
    keeps_dtype,
    recognise,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers

LOG_2PI = math.log(2 * math.pi)
EXTREMES = torch.tensor([[-30.0, 0.3], [0.1, 30.0]], dtype=torch.float64)  # for logvar: all must work, side by side


def _randn() -> Callable[..., Tensor]:
    """A `torch.randn` in float64 with the check's own generator."""
    random = generator()
    return lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)


def _column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _shape(result: object, shape: tuple[int, ...], otherwise: dict[tuple[int, ...], tuple[str, str]]) -> None:
    """Require a tensor of `shape`; `otherwise` gives code and cause of other likely shapes."""
    code, cause = otherwise.get(tuple(getattr(result, "shape", "?")), ("shape", "look at which axes you sum over"))
    if isinstance(result, Tensor):
        require(result.shape == shape, code, f"the result has shape {tuple(result.shape)}, expected {shape}: {cause}")
    require_tensor(result, shape, "and no number by .item(); is there a return?")


def _kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL from N(mu, exp(logvar)) to N(0, 1) of each entry, by torch.distributions."""
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0))


@instant_check
def log_normal(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.1: `log_normal(x, mu, logvar)`, each (..., dim) after broadcasting, gives (...,), in nats."""
    randn = _randn()
    x, mu, logvar = randn(7, 5), randn(7, 5), randn(7, 5)
    with untouched(x, mu, logvar):
        result = answer(x, mu, logvar)
    _shape(
        result,
        (7,),
        {
            (7, 5): ("not-summed", "add the terms of the last axis, .sum(-1)"),
            (): ("batch-sum", "sum over the last axis only; each image keeps its own number"),
            (5,): ("wrong-axis", "you sum over the batch; sum over the last axis, .sum(-1)"),
        },
    )
    zero, one = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    wide = math.log(4) * one  # σ² = 4, σ = 2
    centre = answer(zero, zero, zero)
    require(
        not centre.isnan(), "nan", "at x = mu, σ = 1 the result is nan: do you take the logarithm of logvar, or divide?"
    )
    recognise(
        centre,
        -2 * LOG_2PI,
        {
            ("density", "this is the density itself; its logarithm is asked"): math.exp(-2 * LOG_2PI),
            ("no-constant", "the constant is missing, -½ log 2π in every dimension"): 0.0,
            ("constant-once", "every dimension has its own -½ log 2π: a sum, no mean"): -LOG_2PI / 2,
            ("constant-doubled", "the ½ in front of log 2π is missing: the constant is twice too large"): -4 * LOG_2PI,
            ("sign", "the sign is wrong: this is the negative log-density"): 2 * LOG_2PI,
        },
        f"at x = mu, σ = 1, in four dimensions the result must be {-2 * LOG_2PI:.8g}, it is {centre.item():.8g}",
    )
    step = answer(one, zero, zero) - centre
    slip = "the ½ in front of the square is missing: a step of 1 must cost ½ nat per dimension"
    recognise(step, -2.0, {("half", slip): -4.0}, "a step of 1 away from mu, σ = 1, must cost ½ nat per dimension")
    require(
        close(answer(-one, zero, zero) - centre, step),
        "not-squared",
        "a step to the left must cost as much as one to the right: where is the square of x - mu?",
    )
    lower = answer(zero, zero, wide)
    recognise(
        torch.stack([answer(one, zero, wide) - lower, lower - centre]).flatten(),
        _column(-0.5, -2 * math.log(4)),
        {
            (
                "sigma-for-variance",
                "exp(logvar) is the variance σ², and you use it as the standard deviation",
            ): _column(-4 / 32, -4 * math.log(4)),
            ("variance-squared", "exp(logvar) is σ² already: don't square it again"): _column(
                -4 / 32, -2 * math.log(4)
            ),
            ("no-logvar", "the width must change the height: the term -½ logvar is missing"): _column(-0.5, 0.0),
            ("logvar-doubled", "you subtract logvar where ½ logvar belongs: log σ = ½ logvar"): _column(
                -0.5, -4 * math.log(4)
            ),
            ("divided-by-sigma", "you divide the square by σ; divide by the variance, σ² = exp(logvar)"): _column(
                -1.0, -2 * math.log(4)
            ),
            ("not-divided", "the square isn't divided by the variance, exp(logvar)"): _column(-2.0, -2 * math.log(4)),
            ("multiplied", "you multiply the square by the variance; divide by it"): _column(-8.0, -2 * math.log(4)),
        },
        "for σ = 2 a step of 1 must cost 1/8 nat per dimension, and the centre must be log 2 lower per dimension",
    )
    for shape in ((1, 1), (6, 3), (2, 3, 8)):
        x, mu, logvar = randn(*shape), randn(*shape), randn(*shape)
        result = answer(x, mu, logvar)
        require(
            result.shape == shape[:-1],
            "axis",
            f"for arguments of shape {shape} the result has shape {tuple(result.shape)}, expected {shape[:-1]}: "
            "sum over the last axis, .sum(-1), however many there are",
        )
        expected = Normal(mu, (0.5 * logvar).exp()).log_prob(x).sum(-1)
        require(close(result, expected), "value", "it doesn't agree with torch.distributions on random numbers")
    x, mu = 100 * randn(2, 2), randn(2, 2)
    require(
        close(answer(x, mu, EXTREMES), Normal(mu, (0.5 * EXTREMES).exp()).log_prob(x).sum(-1)),
        "range",
        "for logvar = -30 or 30, or x far from mu, the result is off: use logarithms throughout, and no clamp",
    )
    x, mu, logvar = randn(6, 3), randn(3), randn(1)[0]
    result = answer(x, mu, logvar)
    require(
        result.shape == (6,) and close(result, Normal(mu, (0.5 * logvar).exp()).log_prob(x).sum(-1)),
        "broadcast",
        "with mu (dim,) and a scalar logvar the result is wrong: first put the three terms together, so that they are "
        "broadcast to (..., dim), then sum once",
    )
    keeps_dtype(answer, randn(4, 3), randn(4, 3), randn(4, 3))
    require_gradients(answer, x=randn(4, 3), mu=randn(4, 3), logvar=randn(4, 3))
    correct("log_normal: constant, ½, width, broadcasting, gradients, and torch.distributions on random numbers.")


@instant_check
def estimate_log_px(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.2: `estimate_log_px(log_weights)`, (n, batch) -> (batch,), log of the mean weight, in nats."""
    randn = _randn()
    log_weights = randn(7, 5)
    with untouched(log_weights):
        result = answer(log_weights)
    _shape(
        result,
        (5,),
        {
            (7,): ("wrong-axis", "you average over the images; average over the draws, axis 0"),
            (): ("batch-mean", "average over the draws only, axis 0; each image keeps its own number"),
            (7, 5): ("not-averaged", "average over the draws, axis 0"),
            (1, 5): ("keepdim", "drop the averaged axis (no keepdim)"),
        },
    )
    _shape(answer(log_weights[:, :1]), (1,), {(): ("squeezed", "for one image the result is (1,): no .squeeze()")})
    recognise(
        answer(torch.full((8, 2), -3.0, dtype=torch.float64)),
        -3.0,
        {
            ("sum", "eight equal weights of log -3 give -3 + log 8: for the mean subtract log n"): -3 + math.log(8),
            ("log-n-twice", "log n is subtracted although the mean has been taken already"): -3 - math.log(8),
            ("no-log", "this is the mean weight itself; its logarithm is missing at the end"): math.exp(-3),
            ("base-2", "base 2? The result is in nats: use the natural logarithm"): -3 / math.log(2),
        },
        "when all weights are equal, their mean is that weight: eight times -3 must give -3",
    )
    recognise(
        answer(_column(0.0, math.log(3))[:, None]),
        math.log(2),
        {
            ("mean-of-logs", "you take the mean of the logarithms; wanted is log((1 + 3)/2)"): math.log(3) / 2,
            ("largest", "you take the largest logarithm; the other draws count, too"): math.log(3),
        },
        "for the weights 1 and 3 the result must be log 2",
    )
    base = 3 * randn(40, 3)
    expected = base.exp().mean(0).log()
    require(close(answer(base), expected), "value", "it isn't the logarithm of the mean over the draws")
    levels = _column(-10_000, 0, 10_000)
    result = answer(base + levels)
    require(
        torch.allclose(result, expected + levels, rtol=1e-12, atol=1e-8),
        "overflow",
        f"for columns with logarithms near -10,000, 0 and 10,000 the result is {result.tolist()}: exp under- or "
        "overflows. Take the largest logarithm of *each column* out first: torch.logsumexp does",
    )
    far = torch.tensor([[0.0, -2000.0], [-5000.0, 0.0]], dtype=torch.float64)
    require(close(answer(far), -math.log(2)), "all-count", "a draw of weight practically 0 still counts as one of n")
    impossible = torch.tensor([[-1.0], [-math.inf]], dtype=torch.float64)
    require(
        close(answer(impossible), -1 - math.log(2)), "zero-weight", "a draw of weight 0 (log: -inf) must not spoil it"
    )
    keeps_dtype(answer, randn(9, 2))
    require_gradients(answer, log_weights=randn(5, 2))
    correct("estimate_log_px: log of the mean, over the draws, in nats, safe at ±10,000.")


@instant_check
def gaussian_kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.3: `gaussian_kl(mu, logvar)`, (batch, latent_dim) -> (batch,), KL to N(0, I) in nats."""
    randn = _randn()
    mu, logvar = randn(7, 5), randn(7, 5)
    with untouched(mu, logvar):
        result = answer(mu, logvar)
    _shape(
        result,
        (7,),
        {
            (7, 5): ("not-summed", "sum over the latent dimensions, .sum(-1)"),
            (): ("batch-sum", "sum over the latent dimensions only; each image keeps its own number"),
            (5,): ("wrong-axis", "you sum over the batch; sum over the last axis"),
        },
    )
    zero = torch.zeros(1, 3, dtype=torch.float64)
    _shape(answer(zero, zero), (1,), {(): ("squeezed", "for one image the result is (1,): no .squeeze()")})
    one, two = zero.clone(), torch.full_like(zero, math.log(4))  # a mean of 1 in one of three dimensions; σ = 2
    one[0, 0] = 1
    recognise(
        answer(zero, zero),
        0.0,
        {
            ("no-minus-one", "at the prior the KL must be 0: the -1 is missing"): 1.5,
            ("minus-one-once", "the -1 belongs to each dimension"): 1.0,
        },
        "for mu = 0, logvar = 0, q is the prior and the KL must be 0: does logvar stand for log σ², σ² = exp(logvar)?",
    )
    recognise(
        answer(one, zero),
        0.5,
        {
            ("half", "a mean of 1 costs 1 nat; it must cost ½: the ½ in front is missing"): 1.0,
            ("sign", "the result is negative: a KL divergence never is. The sign is turned"): -0.5,
            ("mean", "you average over the latent dimensions; sum over them"): 0.5 / 3,
        },
        "a mean of 1 in one dimension (σ = 1) must cost ½ nat: look at the term in mu",
    )
    wide = answer(zero, two)
    recognise(
        torch.stack([wide, answer(one, two) - wide]).flatten(),
        _column(1.5 * (4 - math.log(4) - 1), 0.5),
        {
            ("direction", "this is KL(prior ‖ q); wanted is KL(q ‖ prior), averaged over q"): _column(
                1.5 * (1 / 4 + math.log(4) - 1), 0.125
            ),
            ("variance-squared", "you square exp(logvar); that is the variance already"): _column(
                1.5 * (16 - math.log(4) - 1), 0.5
            ),
            ("sigma-is-exp", "exp(logvar) is the variance, and you take it for σ"): _column(
                1.5 * (16 - 2 * math.log(4) - 1), 0.5
            ),
            ("variance-is-sigma", "you use σ = exp(½ logvar) where the variance σ² belongs"): _column(
                1.5 * (2 - math.log(4) - 1), 0.5
            ),
            ("sigma-throughout", "you use σ and log σ where σ² and log σ² = logvar belong"): _column(
                1.5 * (2 - math.log(2) - 1), 0.5
            ),
            ("no-logvar", "the term -logvar is missing: without it a small σ costs nothing"): _column(4.5, 0.5),
            ("logvar-sign", "the sign of the term in logvar is turned"): _column(1.5 * (4 + math.log(4) - 1), 0.5),
        },
        "for σ² = 4 the terms in logvar are off: per dimension ½(σ² - log σ² - 1), beside ½ mu²",
    )
    mu, logvar = randn(4, 6), randn(4, 6)
    require(close(answer(mu, logvar), answer(-mu, logvar)), "mu-sign", "mu and -mu must cost the same")
    require(close(answer(mu, logvar)[1:], answer(mu[1:], logvar[1:])), "batch", "an image's KL depends on the others")
    for shape in ((1, 1), (6, 3), (3, 20)):
        mu, logvar = 2 * randn(*shape), 2 * randn(*shape)
        require(
            close(answer(mu, logvar), _kl(mu, logvar).sum(-1)), "value", "it doesn't agree with torch.distributions"
        )
    mu = 100 * randn(2, 2)
    require(
        close(answer(mu, EXTREMES), _kl(mu, EXTREMES).sum(-1)),
        "range",
        "for large mu or logvar = ±30 it is off: no clamp",
    )
    narrow = answer(one, torch.full_like(zero, -700))
    require(close(narrow, 0.5 + 3 * 349.5), "range", f"for logvar = -700 the KL must be 1049; it is {narrow.item()}")
    keeps_dtype(answer, randn(4, 3), randn(4, 3))
    require_gradients(answer, mu=randn(4, 3), logvar=randn(4, 3))
    correct("gaussian_kl: zero at the prior, additive, direction, variance, gradients.")


@instant_check
def elbo_estimate(answer: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.4: `elbo_estimate(log_likelihood, mu, logvar, eps)`, a scalar in nats."""
    randn = _randn()
    mu, logvar, eps = randn(3), randn(3), randn(50, 3)
    codes: list[Tensor] = []

    def linear(z: Tensor) -> Tensor:
        codes.append(z.detach().clone())
        return z.sum(-1)

    with untouched(mu, logvar, eps):
        result = answer(linear, mu, logvar, eps)
    _shape(
        result,
        (),
        {
            (50,): ("not-averaged", "average over the draws; the result is one number"),
            (1,): ("shape", "one number, without an axis: .squeeze() it, or index"),
            (3,): ("not-summed", "sum the KL over the latent dimensions; the result is one number"),
        },
    )
    require(codes, "not-called", "log_likelihood was never called; give it the codes z = mu + σ · eps")
    require(
        all(z.ndim == 2 and z.shape[1] == 3 for z in codes) and sum(map(len, codes)) == 50,
        "codes",
        f"log_likelihood got codes of shape {[tuple(z.shape) for z in codes]}, expected [(50, 3)]: call it once, with "
        "a draw for every row of eps (z = mu alone is no draw)",
    )
    first, again = torch.cat(codes).flatten(), answer(linear, mu, logvar, eps)
    require(
        close(first, torch.cat(codes).flatten()[len(first) :]) and close(result, again),
        "own-noise",
        "two calls with the same eps differ: draw no noise of your own, use the given eps",
    )
    codes.clear()
    answer(linear, _column(5, 1), _column(math.log(4), -2), torch.ones(1, 2, dtype=torch.float64))
    recognise(
        codes[0].flatten(),
        _column(7, 1 + math.exp(-1)),
        {
            ("no-eps", "eps isn't used: z = mu is no draw from q, and the result isn't the ELBO"): _column(5, 1),
            ("sigma-is-exp", "exp(logvar) is the variance; σ = exp(½ logvar)"): _column(9, 1 + math.exp(-2)),
            ("sigma-is-logvar", "you use logvar as the standard deviation: σ = exp(½ logvar)"): _column(
                5 + math.log(4), -1
            ),
            ("eps-sign", "the sign of eps is turned; z = mu + σ · eps"): _column(3, 1 - math.exp(-1)),
        },
        f"for mu = 5, σ = 2, eps = 1 the code must be 7; log_likelihood got {codes[0].flatten()[0]:.8g}. Use eps",
    )
    far = _column(-20, 0.3, 20)
    for widths in (logvar, far):
        codes.clear()
        answer(linear, mu, widths, eps)
        draws = torch.cat([z.reshape(-1, 3) for z in codes])
        require(
            torch.allclose((draws - mu).square() / widths.exp(), eps.square(), rtol=1e-6),
            "draws",
            "each row of eps gives one code, each entry with its own mu and σ: leave eps and logvar as they are",
        )

    def nothing(z: Tensor) -> Tensor:
        return z.sum(-1) * 0

    kl = _kl(mu, logvar).sum()
    slips = {
        ("no-kl", "where the likelihood is constant 1, the ELBO is -KL(q‖p(z)); you have no KL term"): 0.0,
        ("half", "the KL is twice too large: the ½ in front is missing"): -2 * kl,
        ("kl-added", "the KL is added; it must be subtracted: ELBO = E_q[log p(x|z)] - KL(q‖p(z))"): kl,
        ("kl-per-draw", "the KL is counted once for every draw; it is subtracted once, after the mean"): -50 * kl,
        ("kl-averaged", "the KL is divided by the number of draws; only log p(x|z) is averaged"): -kl / 50,
        ("kl-mean", "the KL is a mean over the latent dimensions; it must be their sum"): -kl / 3,
    }
    certain = answer(lambda z: nothing(z) + 1, mu, logvar, eps)
    require(
        not close(certain, kl - 1), "loss", "this is the loss, -ELBO; asked is the ELBO: E_q[log p(x|z)] - KL(q‖p(z))"
    )
    recognise(
        answer(nothing, mu, logvar, eps),
        -kl,
        slips,
        f"where the likelihood is constant 1, the ELBO must be -KL(q‖p(z)) = {-kl:.8g}: use the closed form, "
        "`gaussian_kl`, and no average over draws",
    )

    def two_values(z: Tensor) -> Tensor:
        return math.log(3) * (z.sum(-1) > 0).to(z.dtype) + 0 * z.sum(-1)

    signs = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    recognise(
        answer(two_values, _column(0, 0), _column(0, 0), signs),
        math.log(3) / 2,
        {
            ("log-of-mean", "you take the logarithm of the mean likelihood; take the mean of the logarithms"): math.log(
                2
            ),
            ("sum", "log p(x|z) is summed over the draws; take the mean"): math.log(3),
            ("loss", "the sign of log p(x|z) is turned: this is the loss, not the ELBO"): -math.log(3) / 2,
        },
        "log p(x|z) must be averaged over the draws",
    )
    target = randn(3)

    def quadratic(z: Tensor) -> Tensor:
        return -0.5 * ((z - target.to(z.dtype)) ** 2).sum(-1)

    corners = torch.cartesian_prod(*[_column(-1, 1)] * 3)  # mean 0, variance 1
    exact = -0.5 * ((mu - target) ** 2 + logvar.exp()).sum() - kl
    require(
        close(answer(quadratic, mu, logvar, corners), exact),
        "value",
        "for a quadratic log-likelihood, whose ELBO is known exactly, the estimate is off",
    )
    require(
        close(answer(nothing, mu, far, eps), -_kl(mu, far).sum()), "range", "for logvar = ±20 the KL is off: no clamp"
    )
    codes.clear()
    result = answer(linear, mu, logvar, eps)
    mean = torch.cat([z.reshape(-1, 3) for z in codes]).sum(-1).mean()
    require(close(result, mean - kl), "value", "log p(x|z) must be averaged over all draws, each with the same weight")
    keeps_dtype(lambda mu, logvar, eps: answer(quadratic, mu, logvar, eps), mu, logvar, eps)
    require_gradients(lambda mu, logvar: answer(quadratic, mu, logvar, corners), mu=mu, logvar=logvar)
    correct("elbo_estimate: draws from q, mean of the logarithms, closed-form KL subtracted once, gradients.")


@instant_check
def class_elbo(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.5: `class_elbo(q, log_likelihood, prior)`, (batch, classes) twice and (classes,) -> (batch,), nats."""
    randn = _randn()

    def evidence(log_likelihood: Tensor, prior: Tensor) -> Tensor:
        return (log_likelihood + prior.log()).logsumexp(-1)

    def right(q: Tensor, log_likelihood: Tensor, prior: Tensor) -> Tensor:
        """The evidence minus the gap: neither holds the terms that are asked for."""
        log_posterior = (log_likelihood + prior.log()).log_softmax(-1)
        return evidence(log_likelihood, prior) + (torch.special.entr(q) + q * log_posterior).sum(-1)

    q, log_likelihood, prior = randn(7, 5).softmax(1), 2 * randn(7, 5) - 3, randn(5).softmax(0)
    with untouched(q, log_likelihood, prior):
        result = answer(q, log_likelihood, prior)
    _shape(
        result,
        (7,),
        {
            (7, 5): ("not-summed", "an expectation over q is a sum over the classes, .sum(-1)"),
            (): ("batch-sum", "sum over the classes only; each image keeps its own number"),
            (5,): ("wrong-axis", "you sum over the batch; sum over the classes, the last axis"),
            (7, 1): ("keepdim", "drop the summed axis (no keepdim)"),
        },
    )
    q, log_likelihood = randn(3, 4).softmax(1), randn(3, 4)
    prior = randn(4).softmax(0)
    alone = torch.cat([answer(q[[i]], log_likelihood[[i]], prior) for i in range(3)])
    require(
        close(answer(q, log_likelihood, prior), alone),
        "batch",
        "an image's ELBO depends on the others in the batch: sum over the classes only, each image by itself",
    )
    q, levels, prior = _column(0.6, 0.4), _column(-1, -4), _column(0.75, 0.25)
    recon, kl = (q * levels).sum(), (q * (q / prior).log()).sum()
    result = answer(q[None], levels[None], prior)
    recognise(
        result,
        recon - kl,
        {
            ("direction", "this KL is averaged over the prior; it must be averaged over q: sum q log(q / prior)"): recon
            - (prior * (prior / q).log()).sum(),
            ("no-kl", "the KL is missing: this is the first term alone"): recon,
            ("kl-added", "the KL is added; it must be subtracted"): recon + kl,
            ("loss", "this is the loss, -ELBO"): kl - recon,
            ("no-prior", "the prior is forgotten: the KL is the sum of q log(q / prior)"): recon - (q * q.log()).sum(),
            ("no-entropy", "log q is forgotten: the KL is the sum of q log(q / prior)"): recon
            + (q * prior.log()).sum(),
            ("log-of-mean", "you take the logarithm of the mean likelihood; take the mean of the logarithms"): (
                q * levels.exp()
            )
            .sum()
            .log()
            - kl,
            ("evidence", "this is log p(x), which does not depend on q"): (prior * levels.exp()).sum().log(),
            ("mean", "you average over the classes where a sum, weighted with q, is asked"): (recon - kl) / 2,
            ("mean-likelihood", "the first term is a sum weighted with q; don't divide by the classes"): recon / 2 - kl,
            ("unweighted", "the first term must be weighted with q"): levels.mean() - kl,
            ("mean-kl", "the KL is a sum over the classes, no mean"): recon - kl / 2,
            ("base-2", "base 2? The result is in nats: use natural logarithms throughout"): recon - kl / math.log(2),
        },
        "for q = (0.6, 0.4), log-likelihoods -1 and -4 and the prior (0.75, 0.25) the ELBO must be "
        f"{recon - kl:.8g}; it is {result.item():.8g}",
    )
    certain = torch.eye(3, dtype=torch.float64)[[1, 0]]
    some, thirds = _column(-2, -5, -9)[None].expand(2, 3), _column(0.2, 0.3, 0.5)
    result = answer(certain, some, thirds)
    require(
        not result.isnan().any(),
        "nan",
        "where q is 0 the result is nan: 0 · log 0 is nan for a computer, and must count as 0 (torch.xlogy does)",
    )
    require(
        result.isfinite().all(),
        "infinite",
        "where q is 0 the result is infinite; such a class must contribute nothing: is it KL(q‖p), q in front?",
    )
    require(
        close(result, right(certain, some, thirds), atol=1e-6),
        "zeros",
        "for a q that is certain the ELBO must be log p(x|z) + log p(z) of that class",
    )
    for batch, classes in ((1, 1), (6, 3), (4, 10)):
        q, log_likelihood = randn(batch, classes).softmax(1), 5 * randn(batch, classes) - 100
        prior = randn(classes).softmax(0)
        result = answer(q, log_likelihood, prior)
        require(
            result.shape == (batch,) and close(result, right(q, log_likelihood, prior), atol=1e-6),
            "value",
            f"for {batch} images and {classes} classes it is not E_q[log p(x|z)] - KL(q‖p(z))",
        )
    q, prior = randn(2, 4).softmax(1), randn(4).softmax(0)
    far = randn(2, 4) - _column(0, 10_000)[:, None]
    require(
        close(answer(q, far, prior), right(q, far, prior), atol=1e-6),
        "range",
        "for log-likelihoods near -10,000 it is off: stay with logarithms, no exp, no clamp, and nothing added to q",
    )
    q = torch.tensor([[1.0, 0.0], [1 - 1e-9, 1e-9]], dtype=torch.float64)
    steep, prior = _column(0, -1e6).expand(2, 2), _column(0.4, 0.6)
    require(
        close(answer(q, steep, prior), right(q, steep, prior), atol=1e-6),
        "range",
        "a class of q near 0 with a very low log-likelihood must count with its own q: no clamp on q in the first term",
    )
    keeps_dtype(answer, randn(4, 3).softmax(1), randn(4, 3), randn(3).softmax(0))
    require_gradients(answer, q=randn(4, 3).softmax(1), log_likelihood=randn(4, 3), prior=randn(3).softmax(0))
    correct("class_elbo: both terms, direction, zeros in q, each image alone, gradients.")
