"""The instant checks of notebook 02 pass right answers, however written, and name the cause of each wrong one."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from checks import probability_and_elbo as check
from checks.common import CheckFailed

LOG_2PI = math.log(2 * math.pi)


def exact_kl(mu, logvar):
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(-1)


def draws(mu, logvar, eps):
    return mu + (0.5 * logvar).exp() * eps


def exact_gap(mu, logvar, mean, cov):
    return kl_divergence(MultivariateNormal(mu, torch.diag_embed(logvar.exp())), MultivariateNormal(mean, cov))


def gap_by_parts(mu, logvar, mean, cov, inverse=torch.inverse, half=0.5, n=1, signs=(1, -1)):
    precision, error = inverse(cov), mean - mu
    trace = (precision.diagonal() * logvar.exp()).sum(-1)
    distance = torch.einsum("bi,ij,bj->b", error, precision, error)
    dets = signs[0] * torch.logdet(cov) + signs[1] * logvar.sum(-1)
    return half * (trace + distance - n * mu.shape[-1] + dets)


def estimate_in_place(log_weights):
    top = log_weights.amax(0)
    log_weights -= top
    return log_weights.exp().mean(0).log() + top


def gap_from_loop(mu, logvar, mean, cov):
    inverse = torch.linalg.inv(cov)
    rows = []
    for m, v, c in zip(mu, logvar, mean, strict=True):
        d = c - m
        rows.append(0.5 * (torch.trace(inverse @ v.exp().diag()) + d @ inverse @ d - len(m)))
    return torch.stack(rows) + 0.5 * (torch.linalg.slogdet(cov).logabsdet - logvar.sum(-1))


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
    ("gap", [exact_gap, gap_by_parts, gap_from_loop]),
]

WRONG = [
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI), "sum"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(), "last axis only"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).mean(-1), "mean"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v).sum(-1), "constant is missing"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v).sum(-1) - LOG_2PI / 2, "every dimension"),
    ("log_normal", lambda x, m, v: -((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1), "½"),
    ("log_normal", lambda x, m, v: -(0.5 * (x - m) ** 2 / v.exp() + 0.5 * v + LOG_2PI).sum(-1), "½ in front of log 2π"),
    ("log_normal", lambda x, m, v: -((x - m) ** 2 / v.exp() + 0.5 * v + 0.5 * LOG_2PI).sum(-1), "½ in front of the sq"),
    ("log_normal", lambda x, m, v: -(0.5 * (x - m) ** 2 / v.exp() + v + 0.5 * LOG_2PI).sum(-1), "½ logvar"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + LOG_2PI).sum(-1), "-½ logvar is missing"),
    ("log_normal", lambda x, m, v: 0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1), "sign"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() ** 2 + v + LOG_2PI).sum(-1), "variance"),
    ("log_normal", lambda x, m, v: Normal(m, v.exp()).log_prob(x).sum(-1), "standard deviation"),
    ("log_normal", lambda x, m, v: Normal(m, (v / 2).exp()).log_prob(x).sum(-1).exp(), "its logarithm"),
    (
        "log_normal",
        lambda x, m, v: Normal(m, (v / 2).exp().detach()).log_prob(x).sum(-1) - (v - v.detach()).sum(-1) / 2,
        "gradients are not",
    ),
    ("log_normal", lambda x, m, v: Normal(m, (v / 2).exp()).log_prob(x).sum(1 if x.ndim == 3 else -1), "however many"),
    ("gaussian_kl", lambda m, v: 0.5 * ((m**2 + v.exp() - v).sum(-1) - 1), "-1 belongs to each"),
    (
        "gap",
        lambda m, v, pm, pc: (
            0.5
            * (
                (v.exp() / pc.diagonal()).sum(-1)
                + ((pm - m) @ pc.inverse() * (pm - m)).sum(-1)
                - m.shape[-1]
                + torch.logdet(pc)
                - v.sum(-1)
            )
        ),
        "diagonal of the inverse",
    ),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / (v / 2).exp() + v + LOG_2PI).sum(-1), "divide by the var"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 + v + LOG_2PI).sum(-1), "isn't divided"),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 * v.exp() + v + LOG_2PI).sum(-1), "multiply"),
    (
        "log_normal",
        lambda x, m, v: -0.5 * (((x - m) ** 2 / v.exp()).sum(-1) + v.sum(-1) + x.shape[-1] * LOG_2PI),
        "broadcast",
    ),
    ("log_normal", lambda x, m, v: -0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1).detach(), "gradient"),
    ("log_normal", lambda x, m, v: (-0.5 * ((x - m) ** 2 / v.exp() + v + LOG_2PI).sum(-1)).double(), "dtype"),
    ("log_normal", lambda x, m, v: None, "return"),
    ("estimate_log_px", lambda w: w.exp().mean(0).log(), "logsumexp"),
    ("estimate_log_px", lambda w: w.logsumexp(0), "subtract log n"),
    ("estimate_log_px", lambda w: w.mean(0), "mean of the logarithms"),
    ("estimate_log_px", lambda w: w.logsumexp(1) - math.log(w.shape[1]), "axis 0"),
    ("estimate_log_px", lambda w: w.logsumexp((0, 1)) - math.log(w.numel()), "draws only"),
    ("estimate_log_px", lambda w: w.exp().mean(0), "logarithm is missing"),
    ("estimate_log_px", lambda w: (w.logsumexp(0) - math.log(len(w))) / math.log(2), "-3"),
    ("estimate_log_px", lambda w: w.amax(0), "largest"),
    ("estimate_log_px", lambda w: w.logsumexp(0) - 2 * math.log(len(w)), "once"),
    ("estimate_log_px", lambda w: w.logsumexp(0, keepdim=True) - math.log(len(w)), "keepdim"),
    ("estimate_log_px", lambda w: (w.logsumexp(0) - math.log(len(w))).detach(), "gradient"),
    ("estimate_log_px", estimate_in_place, "in place"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v - 1), "sum over the latent"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v - 1).sum(), "each image"),
    ("gaussian_kl", lambda m, v: (v.exp() + m**2 - v - 1).sum(-1), "½"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v).sum(-1), "-1"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - v - 1).mean(-1), "no mean"),
    ("gaussian_kl", lambda m, v: -0.5 * (v.exp() + m**2 - v - 1).sum(-1), "sign"),
    ("gaussian_kl", lambda m, v: 0.5 * ((2 * v).exp() + m**2 - 2 * v - 1).sum(-1), "variance already"),
    ("gaussian_kl", lambda m, v: 0.5 * ((0.5 * v).exp() + m**2 - v - 1).sum(-1), "never negative|variance belongs"),
    ("gaussian_kl", lambda m, v: 0.5 * ((0.5 * v).exp() + m**2 - 0.5 * v - 1).sum(-1), "variance belongs"),
    ("gaussian_kl", lambda m, v: 0.5 * ((-v).exp() + m**2 / v.exp() + v - 1).sum(-1), "direction"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 - 1).sum(-1), "-logvar is missing"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m**2 + v - 1).sum(-1), "terms in logvar"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m - v - 1).sum(-1), "-mu|mu"),
    ("gaussian_kl", lambda m, v: 0.5 * (v.exp() + m.detach() ** 2 - v - 1).sum(-1), "gradient"),
    ("elbo_estimate", lambda f, m, v, e: f(m - (0.5 * v).exp() * e).mean() - exact_kl(m, v), "sign of eps"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean() + exact_kl(m, v), "subtracted"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean(), "no KL term"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).sum() - exact_kl(m, v), "take the mean"),
    ("elbo_estimate", lambda f, m, v, e: f(m[None]).mean() - exact_kl(m, v), "no draw"),
    ("elbo_estimate", lambda f, m, v, e: f(m + 0 * e).mean() - exact_kl(m, v), "eps isn't used"),
    ("elbo_estimate", lambda f, m, v, e: f(m + v.exp() * e).mean() - exact_kl(m, v), "variance"),
    ("elbo_estimate", lambda f, m, v, e: f(m + v * e).mean() - exact_kl(m, v), "½ logvar"),
    (
        "elbo_estimate",
        lambda f, m, v, e: f(draws(m, v, torch.randn_like(e))).mean() - exact_kl(m, v),
        "given eps",
    ),
    (
        "elbo_estimate",
        lambda f, m, v, e: f(draws(m, v, e)).logsumexp(0) - math.log(len(e)) - exact_kl(m, v),
        "mean of the logarithms",
    ),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)) - exact_kl(m, v), "average over the draws"),
    ("elbo_estimate", lambda f, m, v, e: (f(draws(m, v, e)) - exact_kl(m, v)).sum() / 1, "once|draw"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e)).mean() - exact_kl(m, v) / len(m), "mean over the latent"),
    ("elbo_estimate", lambda f, m, v, e: f(draws(m, v, e).detach()).mean() - exact_kl(m, v), "through the codes"),
    ("elbo_estimate", lambda f, m, v, e: -(f(draws(m, v, e)).mean() - exact_kl(m, v)), "this is the loss"),
    (
        "gap",
        lambda m, v, c, cov: kl_divergence(
            MultivariateNormal(c, cov), MultivariateNormal(m, torch.diag_embed(v.exp()))
        ),
        "direction",
    ),
    ("gap", lambda m, v, c, cov: gap_by_parts(m, v, c, cov, half=1), "½"),
    ("gap", lambda m, v, c, cov: gap_by_parts(m, v, c, cov, n=0), "-n"),
    ("gap", lambda m, v, c, cov: exact_gap(m, v, c, cov.diagonal().diag()), "diagonal"),
    ("gap", lambda m, v, c, cov: gap_by_parts(m, v, c, cov, inverse=lambda matrix: matrix), "0;|inverse"),
    ("gap", lambda m, v, c, cov: exact_gap(m, v, m, cov), "means"),
    ("gap", lambda m, v, c, cov: exact_gap(m, v, m, cov) + 0.5 * ((c - m) ** 2).sum(-1), "units"),
    ("gap", lambda m, v, c, cov: gap_by_parts(m, v, c, cov, signs=(-1, 1)), "log det|never|signs"),
    ("gap", lambda m, v, c, cov: exact_gap(m, 2 * v, c, cov), "0"),
    ("gap", lambda m, v, c, cov: exact_gap(m, v, c, cov).sum(), "own number"),
    (
        "gap",
        lambda m, v, c, cov: gap_by_parts(m, v, c, cov) - 0.5 * (torch.logdet(cov) - torch.det(cov).log()),
        "logdet",
    ),
    ("gap", lambda m, v, c, cov: exact_kl(m, v), "0"),
    ("gap", lambda m, v, c, cov: exact_gap(m, v, c, cov).detach(), "gradient"),
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


@pytest.mark.parametrize(("exercise", "answer", "cause"), WRONG)
def test_wrong_answers_hear_why(exercise, answer, cause):
    with pytest.raises(CheckFailed, match=cause):
        getattr(check, exercise)(answer)
