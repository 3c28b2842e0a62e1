"""Training samples per second: ours, against loops that run frozen models in the step, and against the bare step.

    .venv/bin/python -m benchmarks.train_step [--unet tiny medium] [--frozen sd15] [--batch-size 2] [--steps 3]

Everything has random weights (no hub is needed) and sizes that are the same for all; images are 256 px. In turn, so
that all meet the same state of the machine:

- `bare step`: forward, backward and AdamW on one batch that is ready on the device. This is the limit.
- `graph2image`: `Trainer.train_step`: gathering the batch from mapped files, noise, dropout, loss weights, clipping,
  EMA and the learning rate included.
- `reference's way`: what the reference implementation does in each step: decode and CLIP-encode the five neighbors'
  images of every sample, decode and VAE-encode its own, encode its text, then the same step.
- `text-only fine-tuning`: as diffusers' example trains: decode, VAE-encode and text-encode in the step; no graph.

Frozen parts: `sd15` has Stable Diffusion 1.5's autoencoder and text encoder and CLIP ViT-L/14, which the paper uses;
`small` is for a quick try.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from benchmarks.harness import describe_machine, print_json, print_table
from model.networks.graph_qformer import GraphQFormer
from model.networks.text_encoders import EncodedTexts, TextEncoders, build_tokenizer
from model.training.arrays import TrainingArrays, open_arrays
from model.training.config import load_train_config
from model.training.trainer import Trainer

SIZE, ITEMS, NEIGHBORS = 256, 64, 5
LEARNING_RATE = 1e-5
UNETS = {"tiny": (64, 128), "medium": (128, 256, 512), "sd15": (320, 640, 1280, 1280)}
#: Measured unless asked for otherwise: the third takes minutes an image on a CPU.
DEFAULT_UNETS = ["tiny", "medium"]
#: Width, layers and heads of the text encoder and of the image encoder, whose input has so many pixels; channels of the
#: autoencoder.
FROZEN: dict[str, dict[str, Any]] = {
    "sd15": {"text": (768, 12, 12), "image": (1024, 24, 16, 224, 14), "vae": (128, 256, 512, 512)},
    "small": {"text": (64, 2, 2), "image": (64, 2, 2, 32, 8), "vae": (16, 32, 32, 32)},
}


@dataclass(frozen=True)
class Frozen:
    """The parts that no step trains."""

    vae: AutoencoderKL
    texts: TextEncoders
    image_encoder: CLIPVisionModelWithProjection
    processor: CLIPImageProcessor

    @torch.no_grad()
    def latents(self, files: Sequence[bytes]) -> Tensor:
        """Of images as files."""
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in files])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.vae.device).float() / 127.5 - 1.0
        sample: Tensor = self.vae.encode(images).latent_dist.sample()
        return sample * self.vae.config.scaling_factor

    @torch.no_grad()
    def embeddings(self, files: Sequence[bytes]) -> Tensor:
        """Of neighbors' images as files."""
        images = [Image.open(io.BytesIO(image)).convert("RGB") for image in files]
        pixels = self.processor(images, return_tensors="pt").pixel_values
        embeds: Tensor = self.image_encoder(pixels.to(self.image_encoder.device)).image_embeds
        return embeds


@dataclass(frozen=True)
class Data:
    """Items with images as files, texts and neighbors."""

    images: list[bytes]
    texts: list[str]
    neighbors: list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", nargs="+", choices=list(UNETS), default=DEFAULT_UNETS)
    parser.add_argument("--frozen", choices=list(FROZEN), default="sd15")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each, after one that is not")
    parser.add_argument("--only", nargs="+", metavar="WHAT", help="some of the contenders, by name")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    frozen, data = make_frozen(options.frozen, options.device), make_data()
    rows, ratios = [], {}
    for unet in options.unet:
        with TemporaryDirectory(prefix="graph2image-benchmark-") as folder:
            arrays = write_arrays(Path(folder), frozen, data)
            speeds = run_in_turn(prepare(unet, frozen, data, arrays, options), options)
        for name, speed in speeds.items():
            rows.append(
                {
                    "UNet": unet,
                    "what": name,
                    "samples/s": speed,
                    "of the bare step": speed / speeds.get("bare step", speed),
                }
            )
        ours = speeds["graph2image"]
        ratios[unet] = {name: round(ours / speed, 2) for name, speed in speeds.items() if name != "graph2image"}
    print_table(rows)
    print_json(
        {
            "benchmark": "train_step",
            "machine": describe_machine(),
            "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
            "threads": torch.get_num_threads(),
            "frozen": options.frozen,
            "batch_size": options.batch_size,
            "rows": rows,
            "ours_by": ratios,
        }
    )


def make_frozen(size: str, device: str) -> Frozen:
    """Frozen parts with random weights."""
    torch.manual_seed(0)
    (width, layers, heads), (image_width, image_layers, image_heads, pixels, patch) = (
        FROZEN[size]["text"],
        FROZEN[size]["image"],
    )
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )
    image_encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=image_width,
            intermediate_size=4 * image_width,
            num_hidden_layers=image_layers,
            num_attention_heads=image_heads,
            image_size=pixels,
            patch_size=patch,
            projection_dim=width,
        )
    )
    channels = FROZEN[size]["vae"]
    vae = AutoencoderKL(
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=min(32, channels[0]),
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
    )
    for part in (encoder, image_encoder, vae):
        part.requires_grad_(False).eval().to(device)
    processor = CLIPImageProcessor(size={"shortest_edge": pixels}, crop_size={"height": pixels, "width": pixels})
    return Frozen(vae, TextEncoders(encoder, build_tokenizer(77)), image_encoder, processor)


def make_data() -> Data:
    """JPEGs with shapes at every scale, and random neighbors."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(ITEMS):
        pixels = np.zeros((SIZE, SIZE, 3))
        for detail in (4, 16, 64, 256):
            coarse = Image.fromarray(rng.integers(0, 256, (detail, detail, 3), np.uint8))
            pixels += np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) / detail
        stream = io.BytesIO()
        Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        images.append(stream.getvalue())
    neighbors = [rng.choice(ITEMS, NEIGHBORS, replace=False).tolist() for _ in range(ITEMS)]
    return Data(images, [f"an image of things, number {index}" for index in range(ITEMS)], neighbors)


def write_arrays(folder: Path, frozen: Frozen, data: Data) -> TrainingArrays:
    """Training arrays in files; what the frozen parts made of the data is random numbers of the right shapes here."""
    rng = np.random.default_rng(1)
    width, side = frozen.texts.hidden_size, SIZE // 8
    encoded = frozen.texts.encode(["", *data.texts[:7]])
    values: dict[str, Any] = {
        "item_ids": np.array([f"i:{index}".encode() for index in range(ITEMS)]),
        "latents": rng.standard_normal((ITEMS, 4, side, side)).astype(np.float16),
        "latent_index": np.arange(ITEMS, dtype=np.int32),
        "text_index": (np.arange(ITEMS, dtype=np.int32) % 7) + 1,
        "input_ids": encoded.input_ids.cpu().numpy().astype(np.int32),
        "text_hidden": encoded.hidden.cpu().numpy().astype(np.float16),
        "text_summary": encoded.summary.cpu().numpy(),
        "neighbor_counts": np.full(ITEMS, NEIGHBORS, np.int16),
        "neighbor_index": np.array(data.neighbors, np.int32),
        "embeddings": rng.standard_normal((ITEMS + 1, width)).astype(np.float32),
    }
    (folder / "arrays").mkdir()
    for name, value in values.items():
        np.save(folder / "arrays" / f"{name}.npy", value)
    arrays = open_arrays(folder / "arrays", folder / "arrays")
    if arrays is None:
        raise RuntimeError("the arrays were just written")
    return arrays


def make_trainable(unet: str, frozen: Frozen, device: str) -> tuple[UNet2DConditionModel, GraphQFormer]:
    """The same start for every contender."""
    torch.manual_seed(0)
    channels = UNETS[unet]
    count = len(channels)
    network = UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=channels,
        layers_per_block=2 if unet == "sd15" else 1,
        down_block_types=(*("CrossAttnDownBlock2D",) * (count - 1), "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (count - 1)),
        attention_head_dim=8,
        cross_attention_dim=frozen.texts.hidden_size,
    )
    dim = frozen.image_encoder.config.projection_dim
    graph_encoder = GraphQFormer.from_text_encoder(frozen.texts.encoder, dim).to(device)
    graph_encoder.token_embedding.requires_grad_(False)  # as `networks.choose_trainable` has it
    return network.to(device), graph_encoder


class Loop:
    """Network and Graph-QFormer with a training step as it is written by hand; every loop starts with equal weights."""

    def __init__(self, unet: str, frozen: Frozen, device: str, *, graph: bool = True) -> None:
        self.network, self.graph_encoder = make_trainable(unet, frozen, device)
        trained = [self.network, self.graph_encoder] if graph else [self.network]
        self.weights = [weight for model in trained for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=LEARNING_RATE, fused=True)
        self.scheduler = make_scheduler()

    def step(self, latents: Tensor, text: EncodedTexts, embeds: Tensor | None) -> None:
        """Learn from latents, texts and, unless it is text only, neighbors' embeddings `(batch, neighbors, dim)`."""
        noise = torch.randn_like(latents)
        timesteps = torch.randint(self.scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        tokens = text.hidden
        if embeds is not None:
            tokens = torch.cat([tokens, self.graph_encoder(text.input_ids, embeds)], dim=1)
        loss = F.mse_loss(self.network(noisy, timesteps, encoder_hidden_states=tokens).sample, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def prepare(
    unet: str, frozen: Frozen, data: Data, arrays: TrainingArrays, options: argparse.Namespace
) -> dict[str, Callable[[], Callable[[int], None]]]:
    """Makers of the contenders, which are functions of the step's number."""
    device, count = options.device, options.batch_size

    def items(step: int) -> list[int]:
        return [(step * count + place) % ITEMS for place in range(count)]

    def images(indices: Sequence[int]) -> list[bytes]:
        return [data.images[index] for index in indices]

    def texts(step: int) -> EncodedTexts:
        return frozen.texts.encode([data.texts[item] for item in items(step)])

    def bare() -> Callable[[int], None]:
        loop = Loop(unet, frozen, device)
        loop.network.to(memory_format=torch.channels_last)
        latents = torch.randn(count, 4, SIZE // 8, SIZE // 8, device=device).to(memory_format=torch.channels_last)
        embeds = torch.randn(count, NEIGHBORS, frozen.image_encoder.config.projection_dim, device=device)
        text = texts(0)
        return lambda _: loop.step(latents, text, embeds)

    def ours() -> Callable[[int], None]:
        config = load_train_config("sd15").optimization.model_copy(
            update={
                "steps": 1_000,
                "batch_size": count,
                "gradient_accumulation": 1,
                "precision": "fp32",
                "ema_decay": 0.999,
            }
        )
        trainer = Trainer(*make_trainable(unet, frozen, device), make_scheduler(), config, seed=0)
        return lambda _: trainer.train_step(arrays)

    def reference() -> Callable[[int], None]:
        loop = Loop(unet, frozen, device)

        def step(number: int) -> None:
            neighbors = [neighbor for item in items(number) for neighbor in data.neighbors[item]]
            embeds = frozen.embeddings(images(neighbors)).unflatten(0, (count, NEIGHBORS))
            loop.step(frozen.latents(images(items(number))), texts(number), embeds)

        return step

    def text_only() -> Callable[[int], None]:
        loop = Loop(unet, frozen, device, graph=False)
        return lambda number: loop.step(frozen.latents(images(items(number))), texts(number), None)

    return {"bare step": bare, "graph2image": ours, "reference's way": reference, "text-only fine-tuning": text_only}


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.5's noise schedule."""
    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)


def run_in_turn(
    makers: dict[str, Callable[[], Callable[[int], None]]], options: argparse.Namespace
) -> dict[str, float]:
    """Samples per second of each, by its fastest step after one that is not counted."""
    contenders = {name: make() for name, make in makers.items() if name in (options.only or makers)}
    fastest = dict.fromkeys(contenders, float("inf"))
    for step in range(options.steps + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender(step)
            if options.device == "cuda":
                torch.cuda.synchronize()
            if step:
                fastest[name] = min(fastest[name], time.perf_counter() - started)
    return {name: options.batch_size / seconds for name, seconds in fastest.items()}


if __name__ == "__main__":
    main()
