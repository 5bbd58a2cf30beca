"""The instant checks of notebook 02 pass right answers, however written, and name the cause of each wrong one."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.nn import functional as F

from checks import probability_and_elbo as check
from checks.common import CheckFailed

LOG_2PI = math.log(2 * math.pi)


def exact_kl(mu, logvar):
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(-1)


def draws(mu, logvar, eps):
    return mu + (0.5 * logvar).exp() * eps


def in_nats(q, p):
    """KL of two distributions over classes, by torch.distributions."""
    return kl_divergence(Categorical(q), Categorical(p.expand_as(q)))


def negative_entropy(q):
    return (q * q.clamp(min=torch.finfo(q.dtype).tiny).log()).sum(-1)


def estimate_in_place(log_weights):
    top = log_weights.amax(0)
    log_weights -= top
    return log_weights.exp().mean(0).log() + top


def elbo_from_loop(q, ll, p):
    rows = []
    for one, other in zip(q, ll, strict=True):
        terms = [a * (b + c.log() - a.log()) for a, b, c in zip(one, other, p, strict=True) if a > 0]
        rows.append(torch.stack(terms).sum())
    return torch.stack(rows)


def from_the_gap(q, ll, p):
    joint = ll + p.log()
    return joint.logsumexp(-1) - torch.xlogy(q, q).sum(-1) + (q * joint.log_softmax(-1)).sum(-1)


RIGHT = [
    (
        "log_normal",
        [
            lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1),
            lambda x, m, v: Normal(m, (0.5 * v).exp()).log_prob(x).sum(-1),
            lambda x, m, v: (-((x - m) * (-0.5 * v).exp()).square() / 2 - v / 2 - LOG_2PI / 2).sum(dim=-1),
            lambda x, m, v: Independent(Normal(*torch.broadcast_tensors(m + 0 * x, (v / 2).exp())), 1).log_prob(x),
        ],
    ),
    (
        "estimate_log_px",
        [
            lambda w: w.logsumexp(0) - math.log(len(w)),
            lambda w: (w - w.amax(0)).exp().mean(0).log() + w.amax(0),
            lambda w: torch.logsumexp(w - math.log(w.shape[0]), dim=0),
        ],
    ),
    (
        "gaussian_kl",
        [
            lambda m, v: 0.5 * (v.exp() + m**2 - v - 1).sum(-1),
            exact_kl,
            lambda m, v: -0.5 * torch.sum(1 + v - m.pow(2) - v.exp(), dim=1),
            lambda m, v: (torch.expm1(v) - v).sum(1) / 2 + (m * m).sum(1) / 2,
        ],
    ),
    (
        "elbo_estimate",
        [
            lambda f, m, v, e: f(draws(m, v, e)).mean() - exact_kl(m, v),
            lambda f, m, v, e: (f(m + torch.exp(v / 2) * e) + 0.5 * (1 + v - m**2 - v.exp()).sum()).mean(),
            lambda f, m, v, e: torch.stack([f(draws(m, v, row[None]))[0] for row in e]).mean() - exact_kl(m, v),
        ],
    ),
    (
        "class_elbo",
        [
            lambda q, ll, p: (q * ll).sum(-1) - torch.xlogy(q, q / p).sum(-1),
            lambda q, ll, p: (q * ll).sum(-1) - in_nats(q, p),
            lambda q, ll, p: (q * (ll + p.log()) + torch.special.entr(q)).sum(dim=1),
            lambda q, ll, p: torch.where(q > 0, q * (ll + p.log() - q.log()), 0 * q).sum(-1),
            lambda q, ll, p: torch.einsum("bc,bc->b", q, ll + p.log()) - negative_entropy(q),
            lambda q, ll, p: (q * (ll + p.log() - (q + 1e-12).log())).sum(1),
            lambda q, ll, p: (q * (ll + p.log() - (q + 1e-8).log())).sum(1),
            lambda q, ll, p: torch.nan_to_num(q * (ll - (q / p).log())).sum(1),
            elbo_from_loop,
            from_the_gap,
        ],
    ),
]

WRONG = [
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI), "not-summed"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(), "batch-sum"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).mean(-1), "constant-once"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v).sum(-1), "no-constant"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v).sum(-1) - LOG_2PI / 2, "constant-once"),
    ("log_normal", lambda x, m, v: -((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1), "constant-doubled"),
    ("log_normal", lambda x, m, v: -(0.5 * (x - m) ** 2 / v.exp() + 0.5 * v + LOG_2PI).sum(-1), "constant-doubled"),
    ("log_normal", lambda x, m, v: -((x - m) ** 2 / v.exp() + 0.5 * v + 0.5 * LOG_2PI).sum(-1), "half"),
    ("log_normal", lambda x, m, v: -(0.5 * (x - m) ** 2 / v.exp() + v + 0.5 * LOG_2PI).sum(-1), "logvar-doubled"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + LOG_2PI).sum(-1), "no-logvar"),
    ("log_normal", lambda x, m, v: 0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1), "sign"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() ** 2 + v + LOG_2PI).sum(-1), "variance-squared"),
    ("log_normal", lambda x, m, v: Normal(m, v.exp()).log_prob(x).sum(-1), "sigma-for-variance"),
    ("log_normal", lambda x, m, v: Normal(m, (v / 2).exp()).log_prob(x).sum(-1).exp(), "density"),
    (
        "log_normal",
        lambda x, m, v: Normal(m, (v / 2).exp().detach()).log_prob(x).sum(-1) - (v - v.detach()).sum(-1) / 2,
        "wrong-gradient",
    ),
    ("log_normal", lambda x, m, v: Normal(m, (v / 2).exp()).log_prob(x).sum(1 if x.ndim == 3 else -1), "axis"),
    ("log_normal", lambda x, m, v: Normal(m, (v.clamp(-5, 5) / 2).exp()).log_prob(x).sum(-1), "range"),
    (
        "log_normal",
        lambda x, m, v: -0.5 * ((x - m) * (x - m).detach() / v.exp() + v + LOG_2PI).sum(-1),
        "wrong-gradient",
    ),
    ("estimate_log_px", lambda w: (w - w.max()).exp().mean(0).log() + w.max(), "overflow"),
    ("estimate_log_px", lambda w: (w - w.amax(0).detach()).exp().mean(0).log() + w.amax(0), "wrong-gradient"),
    ("gaussian_kl", lambda m, v: exact_kl(m, v.clamp(-10, 10)), "range"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m * m.detach() - v - 1).sum(-1), "wrong-gradient"),
    ("gaussian_kl", lambda m, v: exact_kl(m, v) - 0.5 * (v - v.detach()).sum(-1), "wrong-gradient"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v.detach(), e)).mean() - exact_kl(m, v), "wrong-gradient"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean() - exact_kl(m, v).detach(), "wrong-gradient"),
    ("log_normal", lambda x, m, v: Normal(m, (v / 2).exp()).log_prob(x.clamp(-5, 5)).sum(-1), "range"),
    ("estimate_log_px", lambda w: (w - w[0]).exp().mean(0).log() + w[0], "all-count"),
    ("gaussian_kl", lambda m, v: exact_kl(m.clamp(-8, 8), v), "range"),
    ("gaussian_kl", lambda m, v: exact_kl(m, v).squeeze(), "squeezed"),
    ("estimate_log_px", lambda w: (w.logsumexp(0) - math.log(len(w))).squeeze(), "squeezed"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v.clamp(-5, 5), e)).mean() - exact_kl(m, v), "draws"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean() - exact_kl(m, v.clamp(-5, 5)), "range"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e.sort(0).values)).mean() - exact_kl(m, v), "draws"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e[:, :1])).mean() - exact_kl(m, v), "draws"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).quantile(0.5) - exact_kl(m, v), "value"),
    ("gaussian_kl", lambda m, v: 0.5 * ((m**2 + v.exp() - v).sum(-1) - 1), "minus-one-once"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / (v / 2).exp() + v + LOG_2PI).sum(-1), "divided-by-sigma"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 + v + LOG_2PI).sum(-1), "not-divided"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 * v.exp() + v + LOG_2PI).sum(-1), "multiplied"),
    (
        "log_normal",
        lambda x, m, v: -0.5 * (((x - m) ** 2 / v.exp()).sum(-1) + v.sum(-1) + x.shape[-1] * LOG_2PI),
        "broadcast",
    ),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1).detach(), "no-gradient"),
    ("log_normal", lambda x, m, v: (-0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1)).double(), "dtype"),
    ("log_normal", lambda x, m, v: None, "type"),
    ("estimate_log_px", lambda w: w.exp().mean(0).log(), "overflow"),
    ("estimate_log_px", lambda w: w.logsumexp(0), "sum"),
    ("estimate_log_px", lambda w: w.mean(0), "mean-of-logs"),
    ("estimate_log_px", lambda w: w.logsumexp(1) - math.log(w.shape[1]), "wrong-axis"),
    ("estimate_log_px", lambda w: w.logsumexp((0, 1)) - math.log(w.numel()), "batch-mean"),
    ("estimate_log_px", lambda w: w.exp().mean(0), "no-log"),
    ("estimate_log_px", lambda w: (w.logsumexp(0) - math.log(len(w))) / math.log(2), "base-2"),
    ("estimate_log_px", lambda w: w.amax(0), "largest"),
    ("estimate_log_px", lambda w: w.logsumexp(0) - 2 * math.log(len(w)), "log-n-twice"),
    ("estimate_log_px", lambda w: w.logsumexp(0, keepdim=True) - math.log(len(w)), "keepdim"),
    ("estimate_log_px", lambda w: (w.logsumexp(0) - math.log(len(w))).detach(), "no-gradient"),
    ("estimate_log_px", estimate_in_place, "in-place"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v - 1), "not-summed"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v - 1).sum(), "batch-sum"),
    ("gaussian_kl", lambda m, v: (v.exp() + m**2 - v - 1).sum(-1), "half"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v).sum(-1), "no-minus-one"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v - 1).mean(-1), "mean"),
    ("gaussian_kl", lambda m, v: -0.5 * (v.exp() + m**2 - v - 1).sum(-1), "sign"),
    ("gaussian_kl", lambda m, v: 0.5 * ((2 * v).exp() + m**2 - 2 * v - 1).sum(-1), "sigma-is-exp"),
    ("gaussian_kl", lambda m, v: 0.5 * ((0.5 * v).exp() + m**2 - v - 1).sum(-1), "variance-is-sigma"),
    ("gaussian_kl", lambda m, v: 0.5 * ((0.5 * v).exp() + m**2 - 0.5 * v - 1).sum(-1), "sigma-throughout"),
    ("gaussian_kl", lambda m, v: 0.5 * ((-v).exp() + m**2 / v.exp() + v - 1).sum(-1), "direction"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - 1).sum(-1), "no-logvar"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 + v - 1).sum(-1), "logvar-sign"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m - v - 1).sum(-1), "mu-sign"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m.detach() ** 2 - v - 1).sum(-1), "no-gradient"),
    ("elbo_estimate", lambda f, m, v, e: f(m - (0.5 * v).exp() * e).mean() - exact_kl(m, v), "eps-sign"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean() + exact_kl(m, v), "kl-added"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean(), "no-kl"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).sum() - exact_kl(m, v), "sum"),
    ("elbo_estimate", lambda f, m, v, e: f(m[None]).mean() - exact_kl(m, v), "codes"),
    ("elbo_estimate", lambda f, m, v, e: f(m + 0 * e).mean() - exact_kl(m, v), "no-eps"),
    ("elbo_estimate", lambda f, m, v, e: f(m + v.exp() * e).mean() - exact_kl(m, v), "sigma-is-exp"),
    ("elbo_estimate", lambda f, m, v, e: f(m + v * e).mean() - exact_kl(m, v), "sigma-is-logvar"),
    (
        "elbo_estimate",
        lambda f, m, v, e: f(draws(m, v, torch.randn_like(e))).mean() - exact_kl(m, v),
        "own-noise",
    ),
    (
        "elbo_estimate",
        lambda f, m, v, e: f(draws(m, v, e)).logsumexp(0) - math.log(len(e)) - exact_kl(m, v),
        "log-of-mean",
    ),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)) - exact_kl(m, v), "not-averaged"),
    ("elbo_estimate", lambda f, m, v, e: (f(draws(m, v, e)) - exact_kl(m, v)).sum() / 1, "kl-per-draw"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean() - exact_kl(m, v) / len(m), "kl-mean"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e).detach()).mean() - exact_kl(m, v), "wrong-gradient"),
    ("elbo_estimate", lambda f, m, v, e: -(f(draws(m, v, e)).mean() - exact_kl(m, v)), "loss"),
    ("class_elbo", lambda q, ll, p: q * ll - torch.xlogy(q, q / p), "not-summed"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(), "batch-sum"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(-1).mean(), "batch-sum"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(0), "wrong-axis"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(-1, keepdim=True), "keepdim"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).mean(-1), "mean"),
    ("class_elbo", lambda q, ll, p: ll.mean(-1) - torch.xlogy(q, q / p).sum(-1), "unweighted"),
    ("class_elbo", lambda q, ll, p: (q * ll).mean(-1) - torch.xlogy(q, q / p).sum(-1), "mean-likelihood"),
    ("class_elbo", lambda q, ll, p: (q * ll).sum(-1) - torch.xlogy(q, q / p).mean(-1), "mean-kl"),
    ("class_elbo", lambda q, ll, p: (q * ll).sum(-1) - (p * (p / q).log()).sum(-1), "direction"),
    ("class_elbo", lambda q, ll, p: (q * ll).sum(-1) + torch.xlogy(q, q / p).sum(-1), "kl-added"),
    ("class_elbo", lambda q, ll, p: torch.xlogy(q, q / p).sum(-1) - (q * ll).sum(-1), "loss"),
    ("class_elbo", lambda q, ll, p: (q * ll).sum(-1), "no-kl"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q)).sum(-1), "no-prior"),
    ("class_elbo", lambda q, ll, p: (q * (ll + p.log())).sum(-1), "no-entropy"),
    ("class_elbo", lambda q, ll, p: (q * ll.exp()).sum(-1).log() - torch.xlogy(q, q / p).sum(-1), "log-of-mean"),
    ("class_elbo", lambda q, ll, p: (ll + p.log()).logsumexp(-1) + 0 * q.sum(-1), "evidence"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p) / math.log(2)).sum(-1), "base-2"),
    ("class_elbo", lambda q, ll, p: (q * (ll - (q / p).log())).sum(-1), "nan"),
    ("class_elbo", lambda q, ll, p: (q * ll).sum(-1) - F.kl_div(p.log(), q, reduction="sum"), "batch"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(-1).detach(), "no-gradient"),
    ("class_elbo", lambda q, ll, p: (q.detach() * ll - torch.xlogy(q, q / p)).sum(-1), "wrong-gradient"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q.detach() / p)).sum(-1), "wrong-gradient"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p.detach())).sum(-1), "no-gradient"),
    ("class_elbo", lambda q, ll, p: (q * ll.clamp(min=-1000) - torch.xlogy(q, q / p)).sum(-1), "range"),
    ("class_elbo", lambda q, ll, p: (q * ll - q.clamp(min=0.1) * (q.clamp(min=0.1) / p).log()).sum(-1), "zeros"),
    ("class_elbo", lambda q, ll, p: (q.clamp(min=1e-6) * ll - torch.xlogy(q, q / p)).sum(-1), "zeros"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(-1) - ll.mean() + ll.mean(1), "batch"),
    ("class_elbo", lambda q, ll, p: (q * ll - torch.xlogy(q, q / p)).sum(-1).double(), "dtype"),
    ("class_elbo", lambda q, ll, p: ((q.mul_(1) * ll.sub_(1)) - torch.xlogy(q, q / p)).sum(-1), "in-place"),
    ("class_elbo", lambda q, ll, p: [0.0], "type"),
]


@pytest.mark.parametrize(("exercise", "answer"), [(name, a) for name, answers in RIGHT for a in answers])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_right_answers_pass(exercise, answer, dtype, capsys):
    before = torch.get_rng_state()
    torch.set_default_dtype(dtype)
    try:
        getattr(check, exercise)(answer)
    finally:
        torch.set_default_dtype(torch.float32)
    assert capsys.readouterr().out.startswith(f"Correct. {exercise}: ")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("exercise", "answer", "code"), WRONG)
def test_wrong_answers_hear_why(exercise, answer, code):
    with pytest.raises(CheckFailed) as caught:
        getattr(check, exercise)(answer)
    assert caught.value.code == code
