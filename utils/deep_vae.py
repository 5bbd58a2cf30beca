"""The network of Burda, Grosse & Salakhutdinov (2016), and the trained weights that travel with the course."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

CHECKPOINT = Path(__file__).with_name("deep_vae.npz")


class DeepVAE(nn.Module):
    """Variational autoencoder 784-200-200-50 with tanh, for images x (batch, 784)."""

    def __init__(self, latent_dim: int = 50, hidden_dim: int = 200) -> None:
        super().__init__()
        self.encoder = _network(784, hidden_dim, 2 * latent_dim)
        self.decoder = _network(latent_dim, hidden_dim, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`mu` and `logvar`, each (batch, latent_dim)."""
        return self.encoder(x).chunk(2, dim=-1)

    def decode(self, z: Tensor) -> Tensor:
        """Logits (..., 784) of codes (..., latent_dim)."""
        return self.decoder(z)


def load_deep_vae(objective: Literal["elbo", "iwae"]) -> DeepVAE:
    """The network as `make train` trained it, by the ELBO or by the importance-weighted bound, without gradients."""
    model = DeepVAE()
    with np.load(CHECKPOINT) as file:
        weights = {name: torch.from_numpy(file[f"{objective}.{name}"]).float() for name in model.state_dict()}
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def _network(n_in: int, hidden_dim: int, n_out: int) -> nn.Sequential:
    layers = [nn.Linear(n_in, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, hidden_dim), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(hidden_dim, n_out))
