"""The instant checks of notebook 09: right answers pass, each usual wrong one meets the message naming its cause."""

import pytest
import torch
from test_checks_reparameterization import in_double, seeded
from torch.distributions import Bernoulli, Normal

from checks import discrete_codes as check
from checks.common import CheckFailed


def weibull(u, scale, concentration):
    return scale * (-torch.log1p(-u)) ** (1 / concentration)


def weibull_logs(u, scale, concentration):
    return (scale.log() + (-torch.log1p(-u)).log() / concentration).exp()


@pytest.mark.parametrize("answer", [weibull, weibull_logs])
def test_weibull_accepts(answer, capsys):
    check.weibull_from_uniform(answer)
    assert capsys.readouterr().out.startswith("Correct. weibull_from_uniform")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda u, s, k: s * (-u.log()) ** (1 / k), "log-u"),
        (lambda u, s, k: s * (-torch.log(1 - u)) ** (1 / k), "log1p"),
        (lambda u, s, k: s * (-torch.log1p(-u)) ** k, "power"),
        (lambda u, s, k: (-torch.log1p(-u)) ** (1 / k) / s, "scale"),
        (lambda u, s, k: (-s * torch.log1p(-u)) ** (1 / k), "scale-inside"),
        (lambda u, s, k: (-torch.log1p(-u)) ** (1 / k) + 0 * s, "no-scale"),
        (lambda u, s, k: s * torch.log1p(-u) ** (1 / k), "nan"),
        (lambda u, s, k: weibull(u, s.detach(), k), "no-gradient"),
        (lambda u, s, k: weibull(u, s, k.detach()), "no-gradient"),
        (lambda u, s, k: weibull(u, s, k).detach(), "no-gradient"),
        (lambda u, s, k: weibull(u, (s + s.detach()) / 2, k), "wrong-gradient"),
        (lambda u, s, k: weibull(torch.rand_like(u), s, k), "own-noise"),
        (lambda u, s, k: weibull(u, s, k) + 1, "value"),
        (lambda u, s, k: weibull(u, s, k).sum(), "shape"),
        (lambda u, s, k: weibull(u.clamp(max=0.9995), s, k), "clamped"),
        (lambda u, s, k: weibull(u, s, k.clamp(min=0.5)), "value"),
        (lambda u, s, k: weibull(u.sort().values, s, k), "value"),
        (lambda u, s, k: (weibull(u, s, k), s.data.mul_(2))[0], "in-place"),
        (in_double(weibull), "dtype"),
        (seeded(weibull), "seeded"),
    ],
)
def test_weibull_names_the_cause(answer, code):
    with pytest.raises(CheckFailed) as failure:
        check.weibull_from_uniform(answer)
    assert failure.value.code == code


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


def both_by_ratio(q, f, smooth, n):
    """With the ratio of q to itself, whose value is 1."""
    if q.has_rsample and smooth:
        return torch.mean(f(q.rsample([n])))
    z = q.sample([n])
    log_q = q.log_prob(z)
    return f(z) @ (log_q - log_q.detach()).exp() / n


def both_with_value_at_the_mean(q, f, smooth, n):
    baseline = f(q.mean).detach()
    if smooth and q.has_rsample:
        return f(q.rsample((n,))).mean()
    z = q.sample((n,))
    return ((f(z).detach() - baseline) * q.log_prob(z)).mean()


@pytest.mark.parametrize("answer", [both, both_with_baseline, both_by_ratio, both_with_value_at_the_mean])
def test_surrogate_accepts(answer, capsys):
    check.surrogate(answer)
    assert capsys.readouterr().out.startswith("Correct. surrogate")


def only_the_mean(q, f, smooth, n):
    """The path leads to the mean of q, not to its width."""
    if not (smooth and q.has_rsample):
        return both(q, f, smooth, n)
    z = q.rsample((n,))
    return f(q.mean + (z - q.mean).detach()).mean()


def last_draw(q, f, smooth, n):
    if smooth and q.has_rsample:
        return both(q, f, smooth, n)
    z = q.sample((n,))
    return (f(z) * q.log_prob(z))[-1]


def by_score(q, f, n, draw="sample"):
    z = getattr(q, draw)((n,))
    return (f(z).detach() * q.log_prob(z)).mean()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda q, f, smooth, n: f(q.rsample((n,))).mean(), "no-rsample"),
        (lambda q, f, smooth, n: f(q.sample((n,))).mean(), "no-gradient"),
        (lambda q, f, smooth, n: by_score(q, f, n), "noisy"),
        (lambda q, f, smooth, n: both(q, f, smooth and isinstance(q, Normal), n), "noisy"),
        (
            lambda q, f, smooth, n: (
                f(q.rsample((n,))).mean() if smooth and not isinstance(q, Bernoulli) else by_score(q, f, n)
            ),
            "no-rsample",
        ),
        (
            lambda q, f, smooth, n: f(q.rsample((n,))).mean() if q.has_rsample else by_score(q, f, n),
            "flat",
        ),
        (
            lambda q, f, smooth, n: (
                both(q, f, smooth, n) if smooth else by_score(q, f, n, "rsample" if q.has_rsample else "sample")
            ),
            "flat",
        ),
        (lambda q, f, smooth, n: -both(q, f, smooth, n), "sign"),
        (lambda q, f, smooth, n: n * both(q, f, smooth, n), "sum"),
        (lambda q, f, smooth, n: both(q, f, smooth, n) * 2, "biased"),
        (lambda q, f, smooth, n: both(q, f, smooth, 1), "draws"),
        (lambda q, f, smooth, n: f(q.rsample()) if q.has_rsample else by_score(q, f, n), "draws"),
        (lambda q, f, smooth, n: f(q.rsample((n,))) if q.has_rsample else by_score(q, f, n), "shape"),
        (lambda q, f, smooth, n: both(q, f, smooth, n).item(), "type"),
        (seeded(both), "seeded"),
        (only_the_mean, "no-gradient"),
        (last_draw, "few-draws"),
        (
            lambda q, f, smooth, n: (
                both(q, f, smooth, n) if q.has_rsample else (f(z := q.sample((n,))) * q.log_prob(z).exp()).mean()
            ),
            "biased",
        ),
    ],
)
def test_surrogate_names_the_cause(answer, code):
    with pytest.raises(CheckFailed) as failure:
        check.surrogate(answer)
    assert failure.value.code == code


@pytest.mark.parametrize(
    ("name", "answer"),
    [("weibull_from_uniform", weibull), ("surrogate", both)],
)
def test_the_notebooks_random_numbers_stay_as_they_are(name, answer):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    getattr(check, name)(answer)
    assert torch.equal(torch.randn(3), expected)
