"""What an autoencoder keeps of images: the energy of each band of detail, colors, and the squared error.

    .venv/bin/python -m benchmarks.autoencoder ROOT [FOLDER ...] [--images 200] [--size 64] [--sheet sheet.png]

`ROOT` is a data root; each `FOLDER` an autoencoder as `autoencoder.path` takes it. Without one, those of the data
root are measured. The images are held-out ones. `--sheet` draws some of them: as they are, then
through each autoencoder. A share of energy above 1 is noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from benchmarks.copycheck import sample
from benchmarks.harness import describe_machine, print_table
from ingest.datasets.root import DataRoot
from ingest.images.loading import load_squares
from model.evaluation.detail import BANDS, energy_kept, psnr
from model.evaluation.palette import palette_distance
from model.evaluation.references import decoded
from model.training.autoencoder import load_autoencoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--sheet")
    options = parser.parse_args()

    data = DataRoot(options.root)
    hashes = sample(data, "test", options.images, np.random.default_rng(0))
    truths = load_squares(data, hashes, options.size)
    autoencoders: dict[str, ModelMixin] = {folder: load_autoencoder(Path(folder)) for folder in options.folders}
    if not autoencoders:
        names = sorted(path.split("/")[-2] for path in data.fs.glob(data.path("autoencoders", "*", "config.json")))
        autoencoders = {name: load_autoencoder(Path(data.path("autoencoders", name))) for name in names}
    rows, drawn = [], [truths]
    for name, vae in autoencoders.items():
        passed = decoded(vae, truths)
        drawn.append(passed)
        palette = float(np.mean([palette_distance(*pair) for pair in zip(truths, passed, strict=True)]))
        kept = {
            f"energy kept at {low}-{high}": share
            for (low, high), share in zip(BANDS, energy_kept(truths, passed), strict=True)
        }
        rows.append({"autoencoder": name, **kept, "palette distance": palette, "PSNR (dB)": psnr(truths, passed)})
    print(describe_machine())
    print(f"{len(truths)} held-out images of {options.size} px")
    print_table(rows)
    if options.sheet:
        shown = np.linspace(0, len(truths) - 1, 12).astype(int)
        sheet = np.concatenate([np.concatenate(list(images[shown]), axis=1) for images in drawn])
        Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), Image.Resampling.NEAREST).save(
            options.sheet
        )


if __name__ == "__main__":
    main()
