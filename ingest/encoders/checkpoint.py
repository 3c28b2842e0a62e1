"""Encoder checkpoints: folders `encoders/<id>` of the data root, in open_clip's own layout.

A folder holds `open_clip_config.json` and `model.safetensors`, as `open_clip.create_model("local-dir:…")` reads them,
and `encoder.json`, which says where the weights come from. It is written last: a folder that has it is complete.
Weights from elsewhere are copied here, so the encoder that made the vectors stays with them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import orjson
import torch
import torch.nn.functional as F
from fsspec.implementations.local import LocalFileSystem
from open_clip.transform import PreprocessCfg
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from ingest.datasets.integrity import sealed
from ingest.datasets.root import DataRoot
from ingest.encoders.identity import CONFIG_FILE, RECORD_FILE, WEIGHTS_FILE, Precision, encoder_id, is_published
from ingest.encoders.mini_config import PADDING
from ingest.encoders.pixels import PixelGeometry
from ingest.errors import Graph2ImageError, caused_error, first_line

log = logging.getLogger(__name__)

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Encoder:
    """A loaded encoder: an open_clip model's two towers, without gradients, and how their inputs are made.

    In bf16 and fp16 the weights are kept in that type (layer normalizations in fp32), as open_clip does it; unlike
    under autocast, they are not converted for each batch.
    """

    def __init__(
        self,
        model: Any,
        tokenize: Callable[[list[str]], Tensor],
        device: torch.device | str,
        precision: Precision,
    ) -> None:
        config = vars(PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)))
        self._model = model
        self._tokenize = tokenize
        self._device = torch.device(device)
        self._dtype = DTYPES[precision]
        self.precision = precision
        self._geometry = PixelGeometry.from_preprocess_cfg(config)
        mean, std = (torch.tensor(config[key], device=device)[:, None, None] * 255 for key in ("mean", "std"))
        self._mean, self._std = mean, std

    @property
    def smallest_size(self) -> tuple[int, int]:
        """See `PixelGeometry.smallest_size`."""
        return self._geometry.smallest_size

    def prepare(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """`(3, height, width)` pixels of an RGB image, for `encode_images`."""
        return self._geometry.fit(image)

    @torch.inference_mode()
    def encode_images(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        """`(n, dim)` float32 unit vectors of `n` images from `prepare`; on a GPU, they may still be computed."""
        batch = torch.from_numpy(np.stack(pixels))
        if self._device.type == "cuda":
            batch = batch.pin_memory()  # then the copy does not wait for what the GPU is at
        normalized = batch.to(self._device, non_blocking=True).float().sub_(self._mean).div_(self._std)
        return F.normalize(self._model.encode_image(normalized.to(self._dtype)).float(), dim=1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """`(n, dim)` float32 unit vectors of `n` texts, each cut at the model's context length."""
        tokens = self._tokenize(list(texts)).to(self._device, non_blocking=True)
        return F.normalize(self._model.encode_text(tokens).float(), dim=1)


def publish_encoder(
    data: DataRoot, encoder: str, model: nn.Module, config: dict[str, Any], record: dict[str, Any]
) -> None:
    """Write `encoders/<encoder>`.

    Parameters
    ----------
    config
        `{"model_cfg": …, "preprocess_cfg": …}` as in open_clip's `open_clip_config.json`.
    record
        What `encoder.json` says about the weights' origin.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    files = {
        CONFIG_FILE: orjson.dumps(config, option=orjson.OPT_INDENT_2),
        WEIGHTS_FILE: save(weights),
        RECORD_FILE: sealed({"encoder": encoder, **record}),
    }
    data.write_folder(f"encoders/{encoder}", files, marker=RECORD_FILE)


def load_encoder(
    data: DataRoot, encoder: str, device: torch.device | str = "cpu", precision: Precision = "fp32"
) -> Encoder:
    """Load the published checkpoint `encoders/<encoder>`.

    Raises
    ------
    Graph2ImageError
        If there is none, a file of it is damaged, or its files do not fit each other.
    """
    if not is_published(data, encoder):
        raise Graph2ImageError(f"there is no encoder {encoder!r} under {data.url}", "Run `graph2image embed` first.")
    data.check_folder(f"encoders/{encoder}")
    folder = data.path("encoders", encoder)
    if isinstance(data.fs, LocalFileSystem):
        return _load_folder(Path(folder), device, precision)
    with TemporaryDirectory() as temporary:
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            (Path(temporary) / file).write_bytes(data.read_bytes(f"encoders/{encoder}/{file}"))
        return _load_folder(Path(temporary), device, precision)


def import_encoder(data: DataRoot, name: str, *, pad: bool = False) -> str:
    """Bring an open_clip checkpoint into the data root, unless it is there; returns its encoder id.

    Parameters
    ----------
    name
        A local folder with `open_clip_config.json` and weights, or `<model>/<pretrained tag>` as open_clip lists them
        (fetched from the hub, such as `ViT-B-32/laion2b_s34b_b79k`).
    pad
        Whether it is to see whole images, padded with white, instead of their middle.

    Raises
    ------
    Graph2ImageError
        If it is neither, cannot be fetched or loaded, or its tokenizer is not CLIP's.
    """
    encoder = encoder_id(name, pad=pad)
    if is_published(data, encoder):
        return encoder
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        model = _create_model(folder, "cpu", "fp32")
        model_config = json.loads((folder / CONFIG_FILE).read_bytes())["model_cfg"]
        _publish_copy(data, encoder, model, model_config, str(folder.resolve()), pad)
        return encoder
    model_name, _, tag = name.rpartition("/")
    if (model_name, tag) not in open_clip.list_pretrained():
        raise Graph2ImageError(
            f"unknown encoder {name!r}",
            f'Use "mini", MODEL/PRETRAINED as open_clip lists them, or a folder with {CONFIG_FILE} and weights.',
        )
    log.info("Fetching %s", name)
    try:
        model = open_clip.create_model(model_name, pretrained=tag)
    except Exception as error:  # whatever a hub client raises without a network
        raise caused_error(
            f"cannot fetch the encoder {name}: {first_line(error)}",
            error,
            "It comes from a model hub; without one, use the encoder `mini` or a local checkpoint folder.",
        ) from error
    _publish_copy(data, encoder, model, open_clip.get_model_config(model_name), name, pad)
    return encoder


def _publish_copy(
    data: DataRoot, encoder: str, model: nn.Module, model_config: dict[str, Any], origin: str, pad: bool
) -> None:
    if "hf_tokenizer_name" in model_config.get("text_cfg", {}):
        raise Graph2ImageError(
            f"{origin} has a tokenizer of its own, which a checkpoint folder does not hold",
            "Use a model with CLIP's tokenizer, such as ViT-B-32/laion2b_s34b_b79k.",
        )
    preprocess_cfg = _preprocessing(open_clip.get_model_preprocess_cfg(model), pad)
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess_cfg}
    publish_encoder(data, encoder, model, config, {"origin": origin})


def _preprocessing(config: Mapping[str, Any], pad: bool) -> dict[str, Any]:
    """open_clip's `preprocess_cfg`, of an encoder that sees whole images if `pad`."""
    return {**config, **({"resize_mode": "longest", "fill_color": PADDING} if pad else {})}


def _load_folder(folder: Path, device: torch.device | str, precision: Precision) -> Encoder:
    model = _create_model(folder, device, precision)
    return Encoder(model, open_clip.get_tokenizer(f"local-dir:{folder}"), device, precision)


def _create_model(folder: Path, device: torch.device | str, precision: Precision) -> Any:
    """An open_clip model in evaluation mode."""
    try:
        # Pickled weights, if a foreign folder has only those, are read with `weights_only`.
        model = open_clip.create_model(
            f"local-dir:{folder}", precision=precision, device=device, require_pretrained=True
        )
    except Exception as error:  # wrong JSON, wrong shapes, unsafe pickles: one exception type each
        raise Graph2ImageError(f"cannot load the encoder in {folder}: {first_line(error)}") from error
    return model.eval().requires_grad_(False)
