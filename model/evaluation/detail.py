"""What an autoencoder keeps of images: the energy of each band of detail."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.networks.latents import to_pixels

#: Bands of spatial frequency in cycles per image: from, to.
BANDS = ((1, 8), (8, 16), (16, 32))


def energy_kept(images: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> list[float]:
    """Energy of `decoded` in each of `BANDS`, as a share of that of `images`; above 1 it is noise.

    Both are `(n, size, size, 3)` uint8.
    """
    shares = _band_energies(decoded) / _band_energies(images)
    kept: list[float] = shares.tolist()
    return kept


def _band_energies(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    spectrum = np.abs(np.fft.fft2(to_pixels(images).numpy())) ** 2
    cycles = np.fft.fftfreq(images.shape[1]) * images.shape[1]
    radius = np.hypot(cycles[:, None], cycles[None, :])
    return np.array([spectrum[..., (radius >= low) & (radius < high)].sum() for low, high in BANDS])


def psnr(images: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, of all images together."""
    error = np.square(decoded.astype(np.float64) - images).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-12)))
