"""Train the networks of notebook 07, utils/deep_vae.npz: run `make train` (an hour and a half on one idle core).

The network of Burda, Grosse & Salakhutdinov (2016), 784-200-200-50 with tanh, is trained on MNIST's 60,000 training
images without the course's 2,000 held-out ones, binarised anew in each step: first by the ELBO, then, from there, by
the importance-weighted bound with 5 samples (IWAE). Every 20 epochs the state goes to data/train/, from where an
interrupted training goes on. Half an hour goes to measuring both on the 10,000 test images;
ARGS="--images 1000" takes every tenth of them, since the first 5,000 are easier than the rest, and ARGS=--evaluate
trains nothing.

MNIST is read from the folder that the environment variable VAE_DIGITS names, or downloaded into data/.
"""

import argparse
import io
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tools.notebook import COURSE, write_whole
from utils.data import binarize, load_digits
from utils.deep_vae import CHECKPOINT, DeepVAE, load_deep_vae
from utils.training import minibatches

STATES = COURSE / "data" / "train"


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: by the importance-weighted bound with `samples` codes per image, by the ELBO for 1.

    `lr` falls to 0 along a cosine; in the first `warm_up` epochs the weight of the KL rises to 1.
    """

    objective: str
    samples: int
    epochs: int
    lr: float
    warm_up: int = 0
    start: str = ""  # the objective that the weights to begin with were trained by
    batch_size: int = 200


RECIPES = [
    Recipe("elbo", samples=1, epochs=600, lr=3e-3, warm_up=20),
    Recipe("iwae", samples=5, epochs=80, lr=1e-3, start="elbo"),
]


def training_images(source: str) -> Tensor:
    """MNIST's training images (58000, 784) without the held-out ones, recognised by their pixels."""
    x, _ = load_digits("train", source)
    if len(x) != 60_000:
        raise SystemExit("`make train` needs the full MNIST: let it be downloaded, or name its folder in VAE_DIGITS")
    heldout = {image.tobytes() for image in load_digits("heldout", "embedded")[0].numpy()}
    return x[torch.tensor([image.tobytes() not in heldout for image in x.numpy()])]


def log_weights(model: DeepVAE, x: Tensor, samples: int) -> Tensor:
    """log p(x, z) - log q(z|x) in nats, (samples, n), for codes z drawn from q and binary images x (n, 784)."""
    mu, logvar = model.encode(x)
    eps = torch.randn(samples, *mu.shape)
    z = mu + (0.5 * logvar).exp() * eps
    logits = model.decode(z)
    log_likelihood = (logits * x - F.softplus(logits)).sum(-1)
    return log_likelihood + 0.5 * (eps**2 + logvar - z**2).sum(-1)


def loss(model: DeepVAE, x: Tensor, samples: int, beta: float = 1.0) -> Tensor:
    """The bound with `samples` codes per image, negative, in nats per image; for one code -ELBO, its KL weighted by
    `beta`. There log q takes `mu` and `logvar` for constants: what that leaves out of the gradient is 0 on average, so
    that only noise is lost (Roeder, Wu & Duvenaud 2017).
    """
    if samples > 1:
        return math.log(samples) - log_weights(model, x, samples).logsumexp(0).mean()
    mu, logvar = model.encode(x)
    z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
    logits = model.decode(z)
    mu, logvar = mu.detach(), logvar.detach()
    kl = 0.5 * (z**2 - (z - mu) ** 2 / logvar.exp() - logvar).sum() / len(x)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x) + beta * kl


def new_model(x: Tensor) -> DeepVAE:
    """An untrained network that decodes to about the mean of the images x (n, 784)."""
    model = DeepVAE()
    for layer in [*model.encoder, *model.decoder]:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    model.decoder[-1].bias.data = x.mean(0).clamp(0.001, 0.999).logit()
    return model


def train(recipe: Recipe, x: Tensor) -> DeepVAE:
    """The network trained on images x (n, 784) as the recipe says, from where an earlier run was interrupted."""
    torch.manual_seed(0)
    model = load_deep_vae(recipe.start).requires_grad_() if recipe.start else new_model(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, eps=1e-4, fused=True)
    path, begin = STATES / f"{recipe.objective}.pt", 0
    state = torch.load(path) if path.exists() else {}
    if state.get("recipe") == asdict(recipe):
        begin = state["epoch"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
    for epoch in range(begin, recipe.epochs):
        started, total = time.perf_counter(), 0.0
        steps = math.ceil(len(x) / recipe.batch_size)
        for i, batch in enumerate(minibatches(x, recipe.batch_size)):
            done = epoch + i / steps
            optimizer.param_groups[0]["lr"] = recipe.lr / 2 * (1 + math.cos(math.pi * done / recipe.epochs))
            optimizer.zero_grad()
            beta = min(1.0, done / recipe.warm_up) if recipe.warm_up else 1.0
            batch_loss = loss(model, binarize(batch), recipe.samples, beta)
            batch_loss.backward()
            optimizer.step()
            total += batch_loss.item() * len(batch)
        seconds = time.perf_counter() - started
        measured = f"loss {total / len(x):.2f} nats per image, {seconds:.1f} s"
        print(f"{recipe.objective}: epoch {epoch + 1} of {recipe.epochs}: {measured}", flush=True)
        if (epoch + 1) % 20 == 0 or epoch + 1 == recipe.epochs:
            state = {"recipe": asdict(recipe), "epoch": epoch + 1}
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
            packed = io.BytesIO()
            torch.save(state, packed)
            write_whole(path, packed.getvalue())
    return model


def save(model: DeepVAE, objective: str) -> None:
    """Write the network's weights, as float16, into the file that travels with the course, beside the others there."""
    weights = dict(np.load(CHECKPOINT)) if CHECKPOINT.exists() else {}
    weights |= {f"{objective}.{name}": value.half().numpy() for name, value in model.state_dict().items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, **weights)
    write_whole(CHECKPOINT, packed.getvalue())


@torch.no_grad()
def evaluate(objective: str, x: Tensor, samples: int = 5000) -> str:
    """-ELBO and -log p(x) from `samples` codes for each of the images x (n, 784), binarised once, in words."""
    torch.manual_seed(0)
    model, x, weights = load_deep_vae(objective), binarize(x), torch.empty(len(x), samples)
    for image, row in zip(x.split(1), weights, strict=True):
        for part in row.split(500):
            part[:] = log_weights(model, image, len(part))[:, 0]
    bounds = {"-ELBO": -weights.mean(1), f"-L_{samples}": math.log(samples) - weights.logsumexp(1)}
    return ", ".join(f"{name} {v.mean():.2f} ± {v.std() / len(x) ** 0.5:.2f}" for name, v in bounds.items())


def main() -> None:
    """Train both networks, then measure them."""
    parser = argparse.ArgumentParser(description="Train and measure the networks of notebook 07.")
    parser.add_argument("--evaluate", action="store_true", help="measure the networks that are there, train none")
    parser.add_argument("--images", type=int, default=10_000, help="measure on so many test images, evenly spread")
    options = parser.parse_args()
    torch.set_flush_denormal(True)  # see `pick_device` in utils/training.py
    source = os.environ.get("VAE_DIGITS", "full")
    if not options.evaluate:
        x = training_images(source)
        print(f"{len(x):,} training images", flush=True)
        for recipe in RECIPES:
            save(train(recipe, x), recipe.objective)
            print(f"{CHECKPOINT}: {CHECKPOINT.stat().st_size:,} bytes", flush=True)
        shutil.rmtree(STATES)
    x = load_digits("heldout", source)[0]
    x = x[:: max(len(x) // options.images, 1)][: options.images]
    print(f"nats per image, {len(x):,} test images, binarised at random, ± standard error over images")
    for recipe in RECIPES:
        print(f"{recipe.objective}: {evaluate(recipe.objective, x)}", flush=True)


if __name__ == "__main__":
    main()
