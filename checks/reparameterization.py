"""Instant checks for notebook 03, the reparameterization trick."""

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor
from torch.distributions import Normal

from checks.common import (
    CheckFailed,
    close,
    correct,
    instant_check,
    keeps_dtype,
    randn,
    recognise,
    require,
    require_gaussian_draws,
    require_items,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers

Pair = tuple[Tensor, Tensor]


@instant_check
def reparameterize(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check `answer(mu, logvar)`, a differentiable draw from N(mu, exp(logvar)); any common shape."""
    require_gaussian_draws(answer, (6, 3), (1,), (2, 7, 4))
    shape = (2, 1000, 2)
    copies = answer(torch.zeros(shape).double(), torch.zeros(shape).double()).abs().unique()
    message = "with three axes some entries share their noise; every entry needs its own ε: randn_like(mu)"
    require(len(copies) > 3960, "dependent", message)
    correct("reparameterize: right mean and width, an independent ε for every entry, gradients to mu and logvar.")


@instant_check
def score_function_gradient(answer: Callable[..., Pair]) -> None:
    """Check `answer(values, z, mu, logvar, baseline)`: gradients w.r.t. mu and logvar, each (n, latent_dim)."""
    for n, latent_dim in [(7, 1), (5, 3), (4, 4), (1, 2)]:
        mu, z, values = randn(latent_dim), randn(n, latent_dim), 2 + randn(n)
        logvar = torch.linspace(0.7, 3, latent_dim, dtype=torch.float64) * torch.tensor([1.0, -8, 8, -2])[:latent_dim]
        given = values, z, mu, logvar
        with untouched(*given):
            result = answer(*given)
        require_items(result, 2, "pair", "return two tensors: w.r.t. mu, w.r.t. logvar")
        for name, g in zip(("w.r.t. mu", "w.r.t. logvar"), result, strict=True):
            averaged = f"the estimate {name} is averaged over the draws; return one estimate per draw, (n, latent_dim)"
            axis = f"the estimate {name} has shape ({n}, {n}): values, (n,), meet the wrong axis; use unsqueeze(-1)"
            shape = getattr(g, "shape", None)
            require(shape != (latent_dim,), "averaged", averaged)
            require(n == latent_dim or shape != (n, n), "wrong-axis", axis)
            require_tensor(g, (n, latent_dim), f"the estimate {name}")
        _compare_scores(result, *given)
        for baseline in (1.75, randn(n)):
            with untouched(*given):
                shifted, higher = answer(*given, baseline), answer(values + baseline, z, mu, logvar, baseline)
            for plain, other, same in zip(result, shifted, higher, strict=True):
                unused = "the baseline has no effect: subtract it from the values"
                require(not close(plain, other), "no-baseline", unused)
                message = (
                    "values and baseline both raised must change nothing: the baseline is subtracted from the values "
                    "(draw by draw, if it has shape (n,)), for both parameters"
                )
                require(close(plain, same), "baseline-sign", message)
    for i in range(2):
        keeps_dtype(lambda *given, i=i: answer(*given)[i], *given)
    correct("score_function_gradient: the score of each draw, weighted by f minus the baseline.")


def _compare_scores(result: Pair, values: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> None:
    """Compare with autograd's derivative of log q, and recognise the usual slips."""
    rows = [p.expand_as(z).clone().requires_grad_() for p in (mu, logvar)]
    log_q = Normal(rows[0], (0.5 * rows[1]).exp()).log_prob(z)
    by_mu, by_logvar = torch.autograd.grad(log_q.sum(), rows)
    sigma, weight = (0.5 * logvar).exp(), values[:, None]
    right_mu, right_logvar = weight * by_mu, weight * by_logvar
    exchanged = close(result[0], right_logvar) and close(result[1], right_mu)
    require(not exchanged, "exchanged", "the two results are exchanged: first w.r.t. mu, then w.r.t. logvar")
    variance = "w.r.t. mu the variance is wrong: σ² = exp(logvar)"
    slips = {
        ("no-values", "f(z) plays no part in the estimate w.r.t. mu: weigh the score with the values"): by_mu,
        ("mu-sign", "the sign w.r.t. mu is wrong: the score is (z - mu) / σ²"): -right_mu,
        ("mu-sigma", "for the estimate w.r.t. mu you divide by σ; the score is (z - mu) / σ²"): right_mu * sigma,
        ("mu-variance", variance + ", not its square"): right_mu / sigma**2,
        ("logvar-as-variance", variance + ", not logvar"): right_mu * sigma**2 / logvar,
        ("averaged", "you divide by the number of draws; each draw has its own estimate"): right_mu / len(z),
    }
    if z.shape == (len(values),) * 2:
        slips["wrong-axis", "the values meet the wrong axis: they need shape (n, 1), unsqueeze(-1)"] = values * by_mu
    recognise(result[0], right_mu, slips, "w.r.t. mu: expected f(z) times the score, equation (3.7), for each draw")
    minus_one = "w.r.t. logvar the score is ½((z - mu)²/σ² - 1): the -1, from the normalisation of q, is missing"
    slips = {
        ("logvar-half", "w.r.t. logvar the factor ½ of equation (3.7) is missing"): 2 * right_logvar,
        ("by-sigma", "this is the derivative w.r.t. σ; asked is the one w.r.t. logvar"): 2 * right_logvar / sigma,
        ("no-minus-one", minus_one): weight * (by_logvar + 0.5),
        ("logvar-sign", "the sign w.r.t. logvar is wrong"): -right_logvar,
        ("no-values", "f(z) plays no part in the estimate w.r.t. logvar"): by_logvar,
    }
    recognise(result[1], right_logvar, slips, "w.r.t. logvar: expected f(z) times the score, equation (3.7)")


@instant_check
def leave_one_out(answer: Callable[[Tensor], Tensor]) -> None:
    """Check `answer(values)`: for each of the values (n,) the mean of the other n - 1; (n,)."""
    cases = [torch.tensor([1.0, 2.0, 6.0, 7.0, 7.0]), torch.tensor([-3.0, 5.0]), torch.linspace(-9, 4, 33) ** 3]
    for values in [*(case.double() for case in cases), 1e6 + cases[0].double()]:
        with untouched(values):
            baselines = answer(values)
        require_tensor(baselines, values.shape, "one mean for each value")
        n = len(values)
        others = (values.expand(n, n)[~torch.eye(n, dtype=torch.bool)]).view(n, n - 1)
        own = "the value itself is in its mean; a baseline must not depend on its own draw"
        slips = {
            ("own-value", own): values.mean().expand(n),
            ("own-value", own + "; leave it out of the sum"): values.sum().expand(n) / (n - 1),
            ("n", "you divide by n; there are n - 1 others"): others.sum(1) / n,
            ("sum", "this is the sum of the others; divide by their number"): others.sum(1),
            ("subtracted", "return the mean of the others alone; it is subtracted elsewhere"): values - others.mean(1),
            ("median", "this is the median of the others; asked is their mean"): others.median(1).values,
        }
        i = (baselines - others.mean(1)).abs().argmax().item()
        otherwise = f"expected the mean of the other values, {others.mean(1)[i]:.6g} for number {i + 1} of {n}"
        recognise(baselines, others.mean(1), slips, f"{otherwise}; yours is {baselines[i]:.6g}")
    keeps_dtype(answer, cases[0])
    correct("leave_one_out: the mean of the others, for two values and for many.")


@instant_check
def times_as_many(answer: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, int], Tensor]) -> None:
    """Check `answer(f, mu, logvar, n)`: variance of the score-function gradient of mu over that of the pathwise one."""
    two = ([2.0, 2.0], [1.2, 1.0], [1.0, 1.0])  # the variance of a sum of both would be 8 % larger
    for means, sigmas, weights in [
        ([1.4], [1.0], [3.0]),
        ([1.5], [0.3], [1.0]),
        ([1.0, -2.0], [1.2, 0.5], [1.0, 2.0]),
        two,
    ]:
        mu, sigma, a = (torch.tensor(values, dtype=torch.float64) for values in (means, sigmas, weights))
        shapes = []

        def f(z: Tensor, a: Tensor = a, shapes: list = shapes) -> Tensor:
            shapes.append(tuple(z.shape))
            return (a * z.square()).sum(-1)

        logvar, n = 2 * sigma.log(), 250_000
        with untouched(mu, logvar):
            ratio = answer(f, mu, logvar, n)
        require(
            isinstance(ratio, Tensor | Real) or hasattr(ratio, "__array__"),
            "type",
            f"return a number; you return a {type(ratio).__name__}",
        )
        ratio = torch.as_tensor(ratio)
        message = f"return one number, variances added over the dimensions; yours has shape {tuple(ratio.shape)}"
        require(ratio.ndim == 0, "shape", message)
        require(shapes, "not-called", "f was never called")
        drawn = f"f was given z of shape {shapes[0]}; give it n draws, (n, latent_dim), here ({n}, {len(mu)})"
        require(all(shape == (n, len(mu)) for shape in shapes), "draws", drawn)
        _compare_ratios(ratio.item(), mu, sigma, a)
    correct("times_as_many: the ratio of the variances, in one dimension and in two.")


def _compare_ratios(ratio: float, mu: Tensor, sigma: Tensor, a: Tensor) -> None:
    """Compare with the variances for f = the sum of a_j z_j², and recognise the usual slips."""
    fourth = mu**4 + 18 * mu**2 * sigma**2 + 15 * sigma**4  # E[z⁴ ε²]
    mean, variance = a * (mu**2 + sigma**2), a**2 * (4 * mu**2 * sigma**2 + 2 * sigma**4)  # of each a z²
    rest, spread = mean.sum() - mean, variance.sum() - variance  # of the other dimensions' part of f
    path, square = (2 * a * sigma) ** 2, (2 * a * mu) ** 2

    def moment(shift: Tensor) -> Tensor:
        """Mean squares of the score-function gradients when the other part of f has this mean."""
        return (a**2 * fourth + 2 * a * shift * (mu**2 + 3 * sigma**2) + spread + shift**2) / sigma**2

    score, quiet = moment(rest) - square, moment(rest - mean.sum()) - square
    right = (score.sum() / path.sum()).item()

    def is_near(wrong: Tensor | float) -> bool:
        return abs(ratio / float(wrong) - 1) < 0.055  # about five standard errors

    if is_near(right):
        return
    sums = score.sum() + (2 * a * mu).sum() ** 2 - square.sum()
    slips = {
        ("summed", "you add the gradients over the dimensions; take the variance of each, then add"): sums / path.sum(),
        ("upside-down", "it is upside down: score function over pathwise"): 1 / right,
        ("std", "this is the ratio of standard deviations; draws go with the variance"): right**0.5,
        ("baseline", "you subtract a baseline; asked is the plain score function"): quiet.sum() / path.sum(),
        ("moment", "you compare mean squares; a variance has the squared mean subtracted"): moment(rest).sum()
        / (path + square).sum(),
        ("mean-of-ratios", "add the variances over the dimensions first, then divide"): (score / path).mean(),
        ("not-added", "one dimension alone; add the variances over all of them"): score[0] / path[0],
        ("sum-of-ratios", "add the variances over the dimensions first, then divide"): (score / path).sum(),
    }
    for (code, message), wrong in slips.items():
        require(not is_near(wrong), code, message)
    order = "take the variance over the draws of each dimension, then add up"
    raise CheckFailed("value", f"for f(z) = the sum of a z² the ratio is {right:.3g}; yours is {ratio:.3g}: {order}")
