"""`make train`: no held-out image is trained on, an interrupted training ends where another would, weights travel."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from tools import train
from tools.cells import definitions
from utils.data import load_digits
from utils.deep_vae import CHECKPOINT, DeepVAE, load_deep_vae

NOTEBOOK = definitions("07_how_good_is_it")


@pytest.fixture
def binary():
    """Five binary images (5, 784) that no model knows."""
    return (torch.rand(5, 784, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_held_out_images_are_left_out(monkeypatch):
    heldout, _ = load_digits("heldout", "embedded")
    mnist = torch.zeros(60_000, 784)
    mnist[:4000:2] = heldout

    def pretend(split, source):
        return (mnist if split == "train" else heldout), None

    monkeypatch.setattr(train, "load_digits", pretend)
    assert train.training_images("full").shape == (58_000, 784)
    assert train.training_images("full").count_nonzero() == 0


def test_the_embedded_digits_are_not_enough():
    with pytest.raises(SystemExit, match="full MNIST"):
        train.training_images("embedded")


@pytest.mark.parametrize("samples", [1, 5])
def test_the_loss_is_the_notebooks_bound(binary, samples):
    torch.manual_seed(0)
    model = DeepVAE()
    many = binary.repeat_interleave(2000, 0)
    mine = torch.stack([train.loss(model, many, samples) for _ in range(2)]).mean()
    with torch.no_grad():
        log_w = NOTEBOOK.log_weights(model, binary, *model.encode(binary), 10_000)
    torch.testing.assert_close(mine, -NOTEBOOK.bound(log_w, samples).mean(), rtol=0, atol=0.05)


def test_the_gradient_is_on_average_that_of_the_elbo(binary):
    """The ELBO here has its KL in closed form, by PyTorch's own; mu and logvar are well away from 0."""
    torch.manual_seed(0)
    model = DeepVAE()
    model.encoder[-1].weight.data *= 5
    many = binary.repeat_interleave(2000, 0)
    mu, logvar = model.encode(many)
    q = Normal(mu, (0.5 * logvar).exp())
    log_likelihood = Bernoulli(logits=model.decode(q.rsample())).log_prob(many).sum(1)
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, model.encoder.parameters())])
        for value in ((0.7 * kl - log_likelihood).mean(), train.loss(model, many, 1, 0.7))
    ]
    assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[0].norm()


def test_the_gradient_is_without_noise_where_q_is_the_posterior(binary):
    """A decoder that ignores its code, and q the prior."""
    model = DeepVAE()
    for weight in (*model.encoder[-1].parameters(), model.decoder[0].weight):
        weight.data.zero_()
    slopes = torch.autograd.grad(train.loss(model, binary, 1), model.encoder.parameters())
    assert max(slope.abs().max() for slope in slopes) < 1e-6


def test_the_untrained_network_decodes_to_the_mean_image():
    x, _ = load_digits("heldout", "embedded")
    torch.manual_seed(0)
    mean = train.new_model(x).decode(torch.zeros(50)).sigmoid()
    torch.testing.assert_close(mean, x.mean(0), atol=0.0011, rtol=0)


def test_an_interrupted_training_goes_on(monkeypatch, tmp_path, binary):
    recipe = train.Recipe("elbo", samples=1, epochs=23, lr=1e-3, warm_up=2, batch_size=2)
    monkeypatch.setattr(train, "STATES", tmp_path / "whole")
    whole = train.train(recipe, binary)
    epochs = []

    def interrupted(x, batch_size):
        epochs.append(len(epochs))
        if len(epochs) == 22:
            raise KeyboardInterrupt
        return minibatches(x, batch_size)

    minibatches = train.minibatches
    monkeypatch.setattr(train, "STATES", tmp_path / "parts")
    monkeypatch.setattr(train, "minibatches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(recipe, binary)
    again = train.train(recipe, binary)
    assert len(epochs) == 22 + 3
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    train.train(replace(recipe, epochs=2), binary)
    assert len(epochs) == 22 + 3 + 2, "the state of another recipe must not count"


def test_weights_are_saved_beside_those_of_the_other_objective(monkeypatch, tmp_path):
    monkeypatch.setattr(train, "CHECKPOINT", tmp_path / "vae.npz")
    models = {"elbo": DeepVAE(), "iwae": DeepVAE()}
    for objective, model in models.items():
        train.save(model, objective)
    saved = np.load(tmp_path / "vae.npz")
    assert len(saved) == 2 * len(models["elbo"].state_dict())
    for objective, model in models.items():
        for name, value in model.state_dict().items():
            assert np.array_equal(saved[f"{objective}.{name}"], value.half().numpy())


def test_the_networks_that_travel_are_small_and_good():
    assert CHECKPOINT.stat().st_size < 3_000_000
    x = load_digits("heldout", "embedded")[0][:100]
    torch.manual_seed(0)
    x = train.binarize(x)
    with torch.no_grad():
        bounds = {
            name: math.log(100) - train.log_weights(load_deep_vae(name), x, 100).logsumexp(0).mean()
            for name in ("elbo", "iwae")
        }
    assert bounds["iwae"] < bounds["elbo"] < 90


def test_a_measurement_names_both_bounds_with_their_errors(binary):
    line = train.evaluate("elbo", binary, samples=1000)
    elbo, bound = (part.split() for part in line.split(", "))
    assert (elbo[0], bound[0], elbo[2]) == ("-ELBO", "-L_1000", "±")
    assert float(elbo[1]) > float(bound[1])
