"""Which images look as if nothing like them were labeled: the autoencoder and the discriminator of VAAL and TA-VAAL.

Sinha, Ebrahimi and Darrell 2019, section 3. Theirs encodes images by a convolutional network of its own, which takes a
hundred times as long as the rest of a round; here a small one encodes the features of the main model, so that the cost
does not grow with the images' size. TA-VAAL (Kim et al. 2021) gives decoder and discriminator a rank of each image
besides, by the loss that a module of the main model predicts.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import seeded
from model.querying.outputs import FloatArray, IntArray

LATENT, WIDTH = 32, 128
STEPS, MINIBATCH, LEARNING_RATE = 400, 128, 1e-3
ADVERSARY_WEIGHT = 1.0  # of fooling the discriminator, against reconstructing the features (section 4: lambda)
OUTLIER = 10.0  # deviations from the mean beyond which a feature is cut
KL_WEIGHT = 1e-2  # against the mean error of a feature
CHUNK = 8192  # features that the discriminator is asked about at once


def labeled_probability(
    embeddings: FloatArray,
    labeled: IntArray,
    *,
    seed: int,
    device: torch.device,
    ranks: FloatArray | None = None,
) -> FloatArray:
    """Return the probability that each image is among the labeled, as a discriminator sees its latent code, (N,).

    embeddings: (N, D). labeled: (m,) pool indices. ranks: (N,) in [0, 1], of TA-VAAL; None for VAAL. Where everything
    is labeled, or nothing, there is nothing to tell apart, and all are as likely.
    """
    unlabeled = np.setdiff1d(np.arange(len(embeddings)), labeled)
    if not len(labeled) or not len(unlabeled):
        return np.full(len(embeddings), 0.5, np.float32)
    scale = _Scale(embeddings, ranks)
    networks = seeded(lambda: _Networks(embeddings.shape[1], 0 if ranks is None else 1), seed).to(device)
    autoencoder, discriminator = networks.autoencoder, networks.discriminator
    generator = torch.Generator().manual_seed(seed)
    optimizers = [torch.optim.Adam(module.parameters(), LEARNING_RATE) for module in (autoencoder, discriminator)]
    for _ in range(STEPS):
        known, unknown = (_minibatch(rows, scale, generator, device) for rows in (labeled, unlabeled))
        _step(optimizers[0], autoencoder_loss(autoencoder, discriminator, torch.cat([known, unknown]), generator))
        _step(optimizers[1], discriminator_loss(autoencoder, discriminator, known, unknown))
    return _predict(autoencoder, discriminator, scale, device)


class _Autoencoder(nn.Module):
    """A variational autoencoder of features. Its input has ``ranks`` columns more, which the encoder does not see."""

    def __init__(self, width: int, ranks: int = 0) -> None:
        super().__init__()
        self.width = width
        self.encoder = nn.Sequential(nn.Linear(width, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT + ranks, WIDTH), nn.ReLU(), nn.Linear(WIDTH, width))

    def distribution(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and logarithm of the variance of the code, (B, LATENT) each, and the ranks, (B, 0 or 1)."""
        mean, log_variance = self.encoder(features[:, : self.width]).chunk(2, dim=1)
        return mean, log_variance, features[:, self.width :]

    def code(self, features: Tensor) -> Tensor:
        """Return the mean of the code with the ranks behind it, (B, D) -> (B, LATENT) or (B, LATENT + 1)."""
        mean, _, ranks = self.distribution(features)
        return torch.cat([mean, ranks], dim=1)


class _Discriminator(nn.Sequential):
    """From a code, with a rank or without, to the logit of its image being labeled, (B, LATENT or more) -> (B, 1)."""

    def __init__(self, ranks: int = 0) -> None:
        super().__init__(
            nn.Linear(LATENT + ranks, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )


class _Networks(nn.Module):
    """Both, so that one seed draws their weights."""

    def __init__(self, width: int, ranks: int = 0) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = _Autoencoder(width, ranks), _Discriminator(ranks)


def autoencoder_loss(
    autoencoder: _Autoencoder, discriminator: _Discriminator, features: Tensor, generator: torch.Generator
) -> Tensor:
    """Return reconstruction, divergence, and how badly all codes pass for labeled ones (Eq. 1, 2 and 4)."""
    mean, log_variance, ranks = autoencoder.distribution(features)
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    reconstructed = autoencoder.decoder(torch.cat([mean + (log_variance / 2).exp() * noise, ranks], dim=1))
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()
    fooled = functional.softplus(-discriminator(torch.cat([mean, ranks], dim=1))).mean()
    total: Tensor = (
        functional.mse_loss(reconstructed, features[:, : autoencoder.width])
        + KL_WEIGHT * divergence
        + ADVERSARY_WEIGHT * fooled
    )
    return total


def discriminator_loss(
    autoencoder: _Autoencoder, discriminator: _Discriminator, known: Tensor, unknown: Tensor
) -> Tensor:
    """Return the cross-entropy of the discriminator (Eq. 3)."""
    with torch.no_grad():
        codes = [autoencoder.code(part) for part in (known, unknown)]
    labeled, unlabeled = (cast(Tensor, discriminator(code)) for code in codes)
    return functional.softplus(-labeled).mean() + functional.softplus(unlabeled).mean()


class _Scale:
    """The features of the pool, scaled by mean and deviation of a sample, with the ranks as a last column."""

    def __init__(self, embeddings: FloatArray, ranks: FloatArray | None = None) -> None:
        part = np.asarray(embeddings[:: max(len(embeddings) // CHUNK, 1)], np.float32)
        spread = part.std(axis=0)
        # A feature that is dead in the sample may be alive elsewhere: its scale is that of the others.
        self._mean, self._deviation = part.mean(axis=0), np.maximum(spread, max(0.1 * float(spread.mean()), 1e-6))
        self._embeddings, self._ranks = embeddings, ranks

    def __len__(self) -> int:
        return len(self._embeddings)

    def __call__(self, rows: IntArray | slice) -> Tensor:
        scaled = (np.asarray(self._embeddings[rows], np.float32) - self._mean) / self._deviation
        scaled = np.clip(scaled, -OUTLIER, OUTLIER)
        if self._ranks is not None:
            scaled = np.hstack([scaled, np.asarray(self._ranks[rows], np.float32)[:, None]])
        return torch.from_numpy(scaled)


def _minibatch(rows: IntArray, scale: _Scale, generator: torch.Generator, device: torch.device) -> Tensor:
    drawn = torch.randint(len(rows), (MINIBATCH,), generator=generator).numpy()
    return scale(rows[drawn]).to(device)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def _predict(
    autoencoder: _Autoencoder, discriminator: _Discriminator, scale: _Scale, device: torch.device
) -> FloatArray:
    probability = np.empty(len(scale), np.float32)
    for start in range(0, len(scale), CHUNK):
        codes = autoencoder.code(scale(slice(start, start + CHUNK)).to(device))
        probability[start : start + CHUNK] = discriminator(codes).squeeze(1).sigmoid().cpu().numpy()
    return probability
