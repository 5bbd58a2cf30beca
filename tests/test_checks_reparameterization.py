"""The instant checks of notebook 03: right answers pass, each usual wrong one meets the message naming its cause."""

import pytest
import torch
from torch.distributions import Normal

from checks import reparameterization as check
from checks.common import CheckFailed


def draw(mu, logvar):
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def draw_rsample(mu, logvar):
    return Normal(mu, torch.exp(logvar / 2)).rsample()


def draw_sqrt(mu, logvar):
    sigma = logvar.clamp(-600, 600).exp().sqrt() if logvar.dtype == torch.float64 else (logvar / 2).exp()
    return torch.addcmul(mu, sigma, torch.randn(mu.shape, dtype=mu.dtype))


@pytest.mark.parametrize("answer", [draw, draw_rsample, draw_sqrt])
def test_reparameterize_accepts(answer, capsys):
    check.reparameterize(answer)
    assert capsys.readouterr().out.startswith("Correct. reparameterize")


def in_place(mu, logvar):
    sigma = logvar.mul_(0.5).exp()
    return mu + sigma * torch.randn_like(mu)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda mu, logvar: mu + logvar.exp() * torch.randn_like(mu), "the variance"),
        (lambda mu, logvar: Normal(mu, logvar.exp()).rsample(), "the variance"),
        (lambda mu, logvar: mu + (-0.5 * logvar).exp() * torch.randn_like(mu), "sign"),
        (lambda mu, logvar: mu + logvar * torch.randn_like(mu), "half of z - mu"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * torch.rand_like(mu), "randn, not rand"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * (2 * torch.rand_like(mu) - 1), "standard deviation 1"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * (12**0.5) * (torch.rand_like(mu) - 0.5), "68 %"),
        (lambda mu, logvar: Normal(mu, (0.5 * logvar).exp()).sample(), ".sample()"),
        (lambda mu, logvar: torch.normal(mu, (0.5 * logvar).exp()), "torch.normal"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp().detach() * torch.randn_like(mu), "σ detached"),
        (lambda mu, logvar: mu.detach() + (0.5 * logvar).exp() * torch.randn_like(mu), "reaches mu"),
        (lambda mu, logvar: mu, "where is the noise"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp(), "fresh ε"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * torch.randn(mu.shape[-1], dtype=mu.dtype), "whole batch"),
        (
            lambda mu, logvar: (
                mu + (0.5 * logvar).exp() * torch.randn(*mu.shape[:-1], 1, dtype=mu.dtype)
                if mu.ndim > 1
                else draw(mu, logvar)
            ),
            "latent dimensions",
        ),
        (lambda mu, logvar: draw(mu, logvar).sum(), "shape"),
        (lambda mu, logvar: draw(mu.float(), logvar.float()), "convert"),
        (lambda mu, logvar: draw(mu, logvar).detach().numpy(), "ndarray"),
        (lambda mu, logvar: mu + logvar.exp() * (-0.5 * logvar).exp() * torch.randn_like(mu), "not finite"),
        (in_place, "in place"),
    ],
)
def test_reparameterize_names_the_cause(answer, word):
    with pytest.raises(CheckFailed) as failure:
        check.reparameterize(answer)
    assert word in str(failure.value)


def score(values, z, mu, logvar, baseline=0.0):
    weight = (values - baseline)[:, None]
    return weight * (z - mu) / logvar.exp(), weight * ((z - mu) ** 2 / logvar.exp() - 1) / 2


def score_autograd(values, z, mu, logvar, baseline=0.0):
    mu, logvar = (p.detach().expand(len(z), -1).clone().requires_grad_() for p in (mu, logvar))
    log_q = Normal(mu, (logvar / 2).exp()).log_prob(z).sum(1)
    return torch.autograd.grad(((values - baseline) * log_q).sum(), [mu, logvar])


@pytest.mark.parametrize("answer", [score, score_autograd])
def test_score_function_gradient_accepts(answer, capsys):
    check.score_function_gradient(answer)
    assert capsys.readouterr().out.startswith("Correct. score_function_gradient")


def variant(by_mu=lambda g, sigma: g, by_logvar=lambda g, sigma: g, **flags):
    """The right answer, bent."""

    def answer(values, z, mu, logvar, baseline=0.0):
        baseline = 0.0 if flags.get("no_baseline") else -baseline if flags.get("plus_baseline") else baseline
        a, b = score(values, z, mu, logvar, baseline)
        sigma = (0.5 * logvar).exp()
        return by_mu(a, sigma), by_logvar(b, sigma)

    return answer


def no_minus_one(values, z, mu, logvar, baseline=0.0):
    weight = (values - baseline)[:, None]
    return weight * (z - mu) / logvar.exp(), weight * (z - mu) ** 2 / logvar.exp() / 2


def logvar_as_variance(values, z, mu, logvar, baseline=0.0):
    weight = (values - baseline)[:, None]
    return weight * (z - mu) / logvar, weight * ((z - mu) ** 2 / logvar - 1) / 2


def wrong_axis(values, z, mu, logvar, baseline=0.0):
    a, b = score(torch.ones(len(z), dtype=z.dtype), z, mu, logvar)
    weight = values - baseline
    return (weight * a, weight * b) if a.shape[0] == a.shape[1] else score(values, z, mu, logvar, baseline)


def without_values(values, z, mu, logvar, baseline=0.0):
    return score(torch.ones_like(values), z, mu, logvar)


def changes_input(values, z, mu, logvar, baseline=0.0):
    result = score(values, z, mu, logvar, baseline)
    values -= baseline + 1
    return result


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (variant(by_mu=lambda g, sigma: -g), "sign w.r.t. mu is wrong"),
        (variant(by_mu=lambda g, sigma: g * sigma), "divide by σ"),
        (variant(by_mu=lambda g, sigma: g / sigma**2), "variance is wrong"),
        (variant(by_mu=lambda g, sigma: 3 * g), "w.r.t. mu: expected"),
        (variant(by_logvar=lambda g, sigma: 2 * g), "½"),
        (variant(by_logvar=lambda g, sigma: 2 * g / sigma), "derivative w.r.t. σ"),
        (variant(by_logvar=lambda g, sigma: -g), "sign w.r.t. logvar is wrong"),
        (variant(by_logvar=lambda g, sigma: g**3), "w.r.t. logvar: expected"),
        (variant(by_mu=lambda g, s: g.mean(0), by_logvar=lambda g, s: g.mean(0)), "averaged over the draws"),
        (variant(no_baseline=True), "baseline has no effect"),
        (variant(plus_baseline=True), "subtracted"),
        (no_minus_one, "-1"),
        (logvar_as_variance, "exp(logvar)"),
        (wrong_axis, "wrong axis"),
        (without_values, "plays no part"),
        (changes_input, "in place"),
        (lambda *a, **k: score(*a, **k)[0], "two tensors"),
    ],
)
def test_score_function_gradient_names_the_cause(answer, word):
    with pytest.raises(CheckFailed) as failure:
        check.score_function_gradient(answer)
    assert word in str(failure.value)


def weibull(u, scale, concentration):
    return scale * (-torch.log1p(-u)) ** (1 / concentration)


def weibull_logs(u, scale, concentration):
    return (scale.log() + (-torch.log1p(-u)).log() / concentration).exp()


@pytest.mark.parametrize("answer", [weibull, weibull_logs])
def test_weibull_accepts(answer, capsys):
    check.weibull_from_uniform(answer)
    assert capsys.readouterr().out.startswith("Correct. weibull_from_uniform")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda u, s, k: s * (-u.log()) ** (1 / k), "1 - u"),
        (lambda u, s, k: s * (-torch.log(1 - u)) ** (1 / k), "log1p"),
        (lambda u, s, k: s * (-torch.log1p(-u)) ** k, "upside down"),
        (lambda u, s, k: (-torch.log1p(-u)) ** (1 / k) / s, "scale is upside down"),
        (lambda u, s, k: (-s * torch.log1p(-u)) ** (1 / k), "outside the power"),
        (lambda u, s, k: (-torch.log1p(-u)) ** (1 / k) + 0 * s, "plays no part"),
        (lambda u, s, k: s * torch.log1p(-u) ** (1 / k), "minus sign"),
        (lambda u, s, k: weibull(u, s.detach(), k), "scale"),
        (lambda u, s, k: weibull(u, s, k.detach()), "concentration"),
        (lambda u, s, k: weibull(u, s, k).detach(), "no gradient"),
        (lambda u, s, k: weibull(torch.rand_like(u), s, k), "no noise of your own"),
        (lambda u, s, k: weibull(u, s, k) + 1, "does not give u back"),
        (lambda u, s, k: weibull(u, s, k).sum(), "shape"),
    ],
)
def test_weibull_names_the_cause(answer, word):
    with pytest.raises(CheckFailed) as failure:
        check.weibull_from_uniform(answer)
    assert word in str(failure.value)


def both(q, f, smooth, n):
    if smooth and q.has_rsample:
        return f(q.rsample((n,))).mean()
    z = q.sample((n,))
    return (f(z).detach() * q.log_prob(z)).mean()


def both_with_baseline(q, f, smooth, n):
    if smooth and q.has_rsample:
        return f(q.rsample((n,))).mean()
    with torch.no_grad():
        z = q.sample((n,))
        values = f(z)
        others = (values.sum() - values) / (n - 1)
    return torch.sum((values - others) * q.log_prob(z)) / n


@pytest.mark.parametrize("answer", [both, both_with_baseline])
def test_surrogate_accepts(answer, capsys):
    check.surrogate(answer)
    assert capsys.readouterr().out.startswith("Correct. surrogate")


def by_score(q, f, n, draw="sample"):
    z = getattr(q, draw)((n,))
    return (f(z).detach() * q.log_prob(z)).mean()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda q, f, smooth, n: f(q.rsample((n,))).mean(), "has_rsample"),
        (lambda q, f, smooth, n: f(q.sample((n,))).mean(), ".sample() alone"),
        (lambda q, f, smooth, n: by_score(q, f, n), "variance is"),
        (
            lambda q, f, smooth, n: f(q.rsample((n,))).mean() if q.has_rsample else by_score(q, f, n),
            "path is flat",
        ),
        (
            lambda q, f, smooth, n: (
                both(q, f, smooth, n) if smooth else by_score(q, f, n, "rsample" if q.has_rsample else "sample")
            ),
            "cancels the score",
        ),
        (lambda q, f, smooth, n: -both(q, f, smooth, n), "sign"),
        (lambda q, f, smooth, n: n * both(q, f, smooth, n), "mean over draws"),
        (lambda q, f, smooth, n: both(q, f, smooth, n) * 2, "biased"),
        (lambda q, f, smooth, n: both(q, f, smooth, 1), "draw n values"),
        (lambda q, f, smooth, n: f(q.rsample()) if q.has_rsample else by_score(q, f, n), "draw n values"),
        (lambda q, f, smooth, n: f(q.rsample((n,))) if q.has_rsample else by_score(q, f, n), "average over the draws"),
        (lambda q, f, smooth, n: both(q, f, smooth, n).item(), "float"),
        (
            lambda q, f, smooth, n: (
                both(q, f, smooth, n) if q.has_rsample else (f(z := q.sample((n,))) * q.log_prob(z).exp()).mean()
            ),
            "biased",
        ),
    ],
)
def test_surrogate_names_the_cause(answer, word):
    with pytest.raises(CheckFailed) as failure:
        check.surrogate(answer)
    assert word in str(failure.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("reparameterize", draw),
        ("score_function_gradient", score),
        ("weibull_from_uniform", weibull),
        ("surrogate", both),
    ],
)
def test_the_notebooks_random_numbers_stay_as_they_are(name, answer):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    getattr(check, name)(answer)
    assert torch.equal(torch.randn(3), expected)
