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
    return torch.addcmul(mu, logvar.exp().sqrt(), torch.randn(mu.shape, dtype=mu.dtype))


def draw_float32(mu, logvar):
    return mu - (0.5 * logvar).exp() * torch.randn(mu.shape)


def draw_quantile(mu, logvar):
    u = torch.rand(mu.shape, dtype=torch.float64)
    return mu + (0.5 * logvar).exp() * torch.special.ndtri(u).to(mu)


@pytest.mark.parametrize("answer", [draw, draw_rsample, draw_sqrt, draw_float32, draw_quantile])
def test_reparameterize_accepts(answer, capsys):
    check.reparameterize(answer)
    assert capsys.readouterr().out.startswith("Correct. reparameterize")


def mirrored(mu, logvar):
    """The second half of the batch gets the noise of the first, with the other sign."""
    half = torch.randn_like(mu[: (len(mu) + 1) // 2])
    return mu + (0.5 * logvar).exp() * torch.cat([half, -half])[: len(mu)]


def interleaved(mu, logvar):
    """Every second row gets the noise of the one before, with the other sign."""
    if mu.ndim < 2:
        return draw(mu, logvar)
    eps = torch.randn_like(mu)
    rows = eps[..., 1::2, :]
    rows.copy_(-eps[..., : 2 * rows.shape[-2] : 2, :])
    return mu + (0.5 * logvar).exp() * eps


class Alternating:
    """Every second call gets the noise of the one before, with the other sign."""

    def __init__(self):
        self.eps = torch.zeros(0)

    def __call__(self, mu, logvar):
        """A sample with fresh noise, or with the mirrored noise of the call before."""
        again = self.eps.shape == mu.shape and self.eps.dtype == mu.dtype
        eps = -self.eps if again else torch.randn_like(mu)
        self.eps = torch.zeros(0) if again else eps
        return mu + (0.5 * logvar).exp() * eps


def seeded(function):
    """The answer, with the seed set inside."""

    def answer(*given):
        torch.manual_seed(7)
        return function(*given)

    return answer


def in_double(function):
    return lambda *given: function(*(value.double() if torch.is_tensor(value) else value for value in given))


def third_axis(mu, logvar):
    """With three axes one block serves for all."""
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu if mu.ndim < 3 else mu[:1])


def in_place(mu, logvar):
    sigma = logvar.mul_(0.5).exp()
    return mu + sigma * torch.randn_like(mu)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda mu, logvar: mu + logvar.exp() * torch.randn_like(mu), "sigma-is-exp"),
        (lambda mu, logvar: Normal(mu, logvar.exp()).rsample(), "sigma-is-exp"),
        (lambda mu, logvar: mu + (-0.5 * logvar).exp() * torch.randn_like(mu), "exponent-sign"),
        (lambda mu, logvar: mu + logvar * torch.randn_like(mu), "logvar-gradient"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * torch.rand_like(mu), "mean"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * (2 * torch.rand_like(mu) - 1), "width"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * (12**0.5) * (torch.rand_like(mu) - 0.5), "not-normal"),
        (lambda mu, logvar: Normal(mu, (0.5 * logvar).exp()).sample(), "no-gradient"),
        (lambda mu, logvar: torch.normal(mu, (0.5 * logvar).exp()), "torch-normal"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp().detach() * torch.randn_like(mu), "sigma-detached"),
        (lambda mu, logvar: mu.detach() + (0.5 * logvar).exp() * torch.randn_like(mu), "mu-detached"),
        (lambda mu, logvar: mu, "no-noise"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp(), "not-fresh"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * torch.randn(mu.shape[-1], dtype=mu.dtype), "one-eps-for-batch"),
        (
            lambda mu, logvar: (
                mu + (0.5 * logvar).exp() * torch.randn(*mu.shape[:-1], 1, dtype=mu.dtype)
                if mu.ndim > 1
                else draw(mu, logvar)
            ),
            "one-eps-for-dimensions",
        ),
        (lambda mu, logvar: draw(mu, logvar).sum(), "shape"),
        (lambda mu, logvar: draw(mu.float(), logvar.float()), "dtype"),
        (lambda mu, logvar: draw(mu, logvar).detach().numpy(), "type"),
        (lambda mu, logvar: mu + (2 * logvar).exp() ** 0.25 * torch.randn_like(mu), "range"),
        (mirrored, "dependent"),
        (interleaved, "dependent"),
        (Alternating(), "dependent"),
        (in_place, "in-place"),
        (third_axis, "dependent"),
        (seeded(draw), "seeded"),
        (in_double(draw), "dtype"),
        (lambda mu, logvar: draw(mu, logvar.clamp(-20, 20)), "range"),
        (lambda mu, logvar: draw((mu + mu.detach()) / 2, logvar) + (mu - mu.detach()) * 0, "mu-gradient"),
        (lambda mu, logvar: draw(mu, (logvar + logvar.detach()) / 2), "logvar-gradient"),
        (lambda mu, logvar: mu + (0.5 * logvar).exp() * torch.randn_like(mu).clamp(-3.2, 3.2), "not-normal"),
    ],
)
def test_reparameterize_names_the_cause(answer, code):
    with pytest.raises(CheckFailed) as failure:
        check.reparameterize(answer)
    assert failure.value.code == code


def score(values, z, mu, logvar, baseline=0.0):
    weight = (values - baseline)[:, None]
    return weight * (z - mu) / logvar.exp(), weight * ((z - mu) ** 2 / logvar.exp() - 1) / 2


def score_autograd(values, z, mu, logvar, baseline=0.0):
    mu, logvar = (p.detach().expand(len(z), -1).clone().requires_grad_() for p in (mu, logvar))
    log_q = Normal(mu, (logvar / 2).exp()).log_prob(z).sum(1)
    return torch.autograd.grad(((values - baseline) * log_q).sum(), [mu, logvar])


def score_with_tensor(values, z, mu, logvar, baseline=0.0):
    return score(values, z, mu, logvar, torch.as_tensor(baseline))  # of float32, if it was a number


def score_backward(values, z, mu, logvar, baseline=0.0):
    rows = [p.expand_as(z).clone().requires_grad_() for p in (mu, logvar)]
    Normal(rows[0], (rows[1] / 2).exp()).log_prob(z).sum().backward()
    return [(values - baseline)[:, None] * row.grad for row in rows]


def score_by_eps(values, z, mu, logvar, baseline=0.0):
    sigma = logvar.div(2).exp()
    eps, weight = (z - mu) / sigma, values - baseline
    return [torch.einsum("n,nd->nd", weight, g) for g in (eps / sigma, (eps * eps - 1) / 2)]


@pytest.mark.parametrize("answer", [score, score_autograd, score_by_eps, score_with_tensor, score_backward])
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


def subtracts_in_place(values, z, mu, logvar, baseline=0.0):
    values -= baseline
    return score(values, z, mu, logvar)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (variant(by_mu=lambda g, sigma: -g), "mu-sign"),
        (variant(by_mu=lambda g, sigma: g * sigma), "mu-sigma"),
        (variant(by_mu=lambda g, sigma: g / sigma**2), "mu-variance"),
        (variant(by_mu=lambda g, sigma: 3 * g), "value"),
        (variant(by_logvar=lambda g, sigma: 2 * g), "logvar-half"),
        (variant(by_logvar=lambda g, sigma: 2 * g / sigma), "by-sigma"),
        (variant(by_logvar=lambda g, sigma: -g), "logvar-sign"),
        (variant(by_logvar=lambda g, sigma: g**3), "value"),
        (variant(by_mu=lambda g, s: g.mean(0), by_logvar=lambda g, s: g.mean(0)), "averaged"),
        (variant(no_baseline=True), "no-baseline"),
        (variant(plus_baseline=True), "baseline-sign"),
        (no_minus_one, "no-minus-one"),
        (logvar_as_variance, "logvar-as-variance"),
        (wrong_axis, "wrong-axis"),
        (without_values, "no-values"),
        (changes_input, "in-place"),
        (subtracts_in_place, "in-place"),
        (lambda *a, **k: score(*a, **k)[0], "pair"),
        (lambda v, z, mu, logvar, b=0.0: score(v, z, mu, logvar.clamp(-6, 6), b), "value"),
        (lambda v, z, mu, logvar, b=0.0: score(v - v.mean(), z, mu, logvar, b), "value"),
        (lambda v, z, mu, logvar, b=0.0: score(v, z, mu, logvar, torch.as_tensor(b).mean()), "baseline-sign"),
        (variant(by_mu=lambda g, s: g / len(g), by_logvar=lambda g, s: g / len(g)), "averaged"),
        (lambda *a: [g.squeeze() for g in score(*a)], "shape"),
        (in_double(score), "dtype"),
        (seeded(score), "seeded"),
    ],
)
def test_score_function_gradient_names_the_cause(answer, code):
    with pytest.raises(CheckFailed) as failure:
        check.score_function_gradient(answer)
    assert failure.value.code == code


def others_by_sum(values):
    return (values.sum() - values) / (len(values) - 1)


def others_by_loop(values):
    return torch.stack([torch.cat([values[:i], values[i + 1 :]]).mean() for i in range(len(values))])


def others_by_matrix(values):
    weights = (1 - torch.eye(len(values), dtype=values.dtype)) / (len(values) - 1)
    return weights @ values


def others_by_float32(values):
    weights = (1 - torch.eye(len(values))) / (len(values) - 1)
    return (weights * values).sum(1)


@pytest.mark.parametrize("answer", [others_by_sum, others_by_loop, others_by_matrix, others_by_float32])
def test_leave_one_out_accepts(answer, capsys):
    check.leave_one_out(answer)
    assert capsys.readouterr().out.startswith("Correct. leave_one_out")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda v: v.mean().expand(len(v)), "own-value"),
        (lambda v: v.sum().expand(len(v)) / (len(v) - 1), "own-value"),
        (lambda v: (v.sum() - v) / len(v), "n"),
        (lambda v: v.sum() - v, "sum"),
        (lambda v: v - others_by_sum(v), "subtracted"),
        (lambda v: others_by_sum(v).flip(0), "value"),
        (lambda v: torch.stack([v[v != one].mean() for one in v]), "value"),  # equal values are left out, too
        (lambda v: (1 - torch.eye(len(v))) @ v / (len(v) - 1), "dtype"),
        (lambda v: v.flip(0) if len(v) == 2 else v.roll(1), "value"),
        (lambda v: others_by_sum(v).mean(), "shape"),
        (lambda v: others_by_sum(v).tolist(), "type"),
        (lambda v: others_by_sum(v.float()), "dtype"),
        (lambda v: others_by_sum(v.double()), "dtype"),
        (lambda v: others_by_sum(v.clamp(-100, 100)), "value"),
        (lambda v: others_by_sum(v.sub_(0).mul_(2)) / 2, "in-place"),
    ],
)
def test_leave_one_out_names_the_cause(answer, code):
    with pytest.raises(CheckFailed) as failure:
        check.leave_one_out(answer)
    assert failure.value.code == code


def both_gradients(f, mu, logvar, n, eps=None):
    means = mu.expand(n, -1).clone().requires_grad_()
    eps = torch.randn(n, len(mu), dtype=mu.dtype) if eps is None else eps
    z = means + (0.5 * logvar).exp() * eps
    values = f(z)
    (pathwise,) = torch.autograd.grad(values.sum(), means)
    return values.detach()[:, None] * eps / (0.5 * logvar).exp(), pathwise


def ratio(f, mu, logvar, n):
    by_score, pathwise = both_gradients(f, mu, logvar, n)
    return by_score.var(0).sum() / pathwise.var(0).sum()


def ratio_apart(f, mu, logvar, n):
    """With draws of their own for each estimator, and the score by autograd."""
    means = mu.expand(n, -1).clone().requires_grad_()
    q = Normal(means, (0.5 * logvar).exp())
    (pathwise,) = torch.autograd.grad(f(q.rsample()).sum(), means)
    z = q.sample()
    (by_score,) = torch.autograd.grad((f(z) * q.log_prob(z).sum(1)).sum(), means)
    return (by_score.var(0).mean() / pathwise.var(0).mean()).item()


@pytest.mark.parametrize("answer", [ratio, ratio_apart, lambda *given: ratio(*given).numpy()])
def test_times_as_many_accepts(answer, capsys):
    check.times_as_many(answer)
    assert capsys.readouterr().out.startswith("Correct. times_as_many")


def with_gradients(combine):
    return lambda f, mu, logvar, n: combine(*both_gradients(f, mu, logvar, n))


def with_baseline(f, mu, logvar, n):
    return ratio(lambda z: f(z) - f(z).detach().mean(), mu, logvar, n)


def one_eps_for_all_dimensions(f, mu, logvar, n):
    by_score, pathwise = both_gradients(f, mu, logvar, n, torch.randn(n, 1, dtype=mu.dtype).expand(n, len(mu)))
    return by_score.var(0).sum() / pathwise.var(0).sum()


def seeds(f, mu, logvar, n):
    torch.manual_seed(0)
    return ratio(f, mu, logvar, n)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (with_gradients(lambda s, p: p.var(0).sum() / s.var(0).sum()), "upside-down"),
        (with_gradients(lambda s, p: s.sum(1).var() / p.sum(1).var()), "summed"),
        (with_gradients(lambda s, p: (s.var(0).sum() / p.var(0).sum()).sqrt()), "std"),
        (with_gradients(lambda s, p: s.square().sum() / p.square().sum()), "moment"),
        (with_gradients(lambda s, p: (s.var(0) / p.var(0)).mean()), "mean-of-ratios"),
        (with_gradients(lambda s, p: (s.var(0) / p.var(0)).sum()), "sum-of-ratios"),
        (with_gradients(lambda s, p: s[:, 0].var() / p[:, 0].var()), "not-added"),
        (with_gradients(lambda s, p: s.var() / p.var()), "value"),
        (with_gradients(lambda s, p: s.var(0) / p.var(0)), "shape"),
        (with_gradients(lambda s, p: [s.var(), p.var()]), "type"),
        (lambda f, mu, logvar, n: ratio(f, mu, 2 * logvar, n), "value"),
        (lambda f, mu, logvar, n: ratio(f, mu, logvar, 100), "draws"),
        (lambda f, mu, logvar, n: torch.tensor(7.5), "not-called"),
        (with_baseline, "baseline"),
        (one_eps_for_all_dimensions, "value"),
        (seeds, "seeded"),
    ],
)
def test_times_as_many_names_the_cause(answer, code):
    with pytest.raises(CheckFailed) as failure:
        check.times_as_many(answer)
    assert failure.value.code == code


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("reparameterize", draw),
        ("score_function_gradient", score),
        ("leave_one_out", others_by_sum),
        ("times_as_many", ratio),
    ],
)
def test_the_notebooks_random_numbers_stay_as_they_are(name, answer):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    getattr(check, name)(answer)
    assert torch.equal(torch.randn(3), expected)
