"""Checkpoints of the InstructG2I reference implementation: read as our pipeline, and written in their layout.

A folder of Stable Diffusion 1.5's parts (`unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`), the CLIP image
encoder of the neighbors (`image_encoder/`), and two pickled state dicts: `image_proj_model/ckpt.pt`, the neighbor
projection, and `gnn/ckpt.pt`, the Graph-QFormer with a CLIP text model's names. The other parts' weights are in
safetensors, or pickled as `.bin`. Pickles are read with `weights_only`: one that holds anything but tensors is refused.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import diffusers
import orjson
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
)

from ingest.errors import Graph2ImageError, first_line
from model.networks.backbones import cross_attention_dim
from model.networks.graph_qformer import GraphQFormer
from model.pipeline import Graph2ImagePipeline
from model.pretrained.weights import Checkpoint
from model.storage import quiet_libraries

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "image_encoder", "image_proj_model", "gnn")
_PROJECTION_FILE, _QFORMER_FILE = "image_proj_model/ckpt.pt", "gnn/ckpt.pt"

#: What `model_index.json` names; the image encoder and the graph's parts lie beside it unnamed.
_INDEXED = {
    "scheduler": "diffusers",
    "text_encoder": "transformers",
    "tokenizer": "transformers",
    "unet": "diffusers",
    "vae": "diffusers",
}

#: Parts of names, theirs and ours.
_RENAMED = (("embeddings.", ""), ("encoder.layers.", "layers."), (".crossattention.", ".cross_attn."))


def load_reference_checkpoint(
    path: str | Path,
    *,
    tokens_per_neighbor: int | None = None,
    cross_attention_freq: int | None = None,
    neighbor_num: int | None = 5,
    torch_dtype: torch.dtype = torch.float32,
) -> Graph2ImagePipeline:
    """Load a checkpoint of the reference implementation.

    Parameters
    ----------
    path
        The checkpoint's folder.
    tokens_per_neighbor, cross_attention_freq
        As it was trained with, which its files do not say in words. None: as the shapes and names of its weights show;
        a value that contradicts them is an error.
    neighbor_num
        How many neighbors the model looks at; more are left out. None: all.
    torch_dtype
        Of the weights.

    Raises
    ------
    Graph2ImageError
        If a part is missing, cannot be read safely, or does not fit the others, or a setting contradicts them.
    """
    if neighbor_num is not None and neighbor_num < 1:
        raise Graph2ImageError(f"neighbor_num is {neighbor_num}, it must be at least 1, or None for all neighbors")
    folder = Path(path)
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    if missing:
        raise Graph2ImageError(
            f"{folder} is no checkpoint of the reference implementation: it has no {', '.join(missing)}",
            "Load a model of graph2image with `Graph2ImagePipeline.from_pretrained`.",
        )
    checkpoint = Checkpoint(str(folder), pickles=True)
    text_encoder = checkpoint.network(CLIPTextModel, "text_encoder", torch_dtype)
    image_encoder = checkpoint.network(CLIPVisionModelWithProjection, "image_encoder", torch_dtype)
    graph_encoder = _load_graph_encoder(folder, text_encoder, tokens_per_neighbor, cross_attention_freq, torch_dtype)
    if (made := image_encoder.config.projection_dim) != graph_encoder.config.neighbor_dim:
        raise Graph2ImageError(
            f"{folder}: the image encoder makes {made} numbers per image, "
            f"the neighbor projection takes {graph_encoder.config.neighbor_dim}"
        )
    pipeline = Graph2ImagePipeline(
        vae=checkpoint.network(AutoencoderKL, "vae", torch_dtype),
        text_encoder=text_encoder,
        tokenizer=checkpoint.tokenizer("tokenizer", text_encoder.config.vocab_size),
        unet=checkpoint.network(UNet2DConditionModel, "unet", torch_dtype),
        scheduler=checkpoint.scheduler(),
        graph_encoder=graph_encoder,
        image_encoder=image_encoder,
        feature_extractor=_image_processor(checkpoint, image_encoder.config.image_size),
        max_neighbors=neighbor_num,
    )
    sizes = {
        "the UNet": cross_attention_dim(pipeline.unet),
        "the text encoder": text_encoder.config.hidden_size,
        "the Graph-QFormer": graph_encoder.token_size,
    }
    if len(set(sizes.values())) > 1:
        words = ", ".join(f"{part} {size}" for part, size in sizes.items())
        raise Graph2ImageError(f"{folder}: the parts' tokens are of different sizes: {words}")
    return pipeline


def save_reference_checkpoint(pipeline: Graph2ImagePipeline, path: str | Path) -> None:
    """Write a pipeline in the reference implementation's layout; the inverse of `load_reference_checkpoint`.

    Raises
    ------
    Graph2ImageError
        If the pipeline has what that implementation does not know.
    """
    _check_expressible(pipeline)
    folder = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in pipeline.graph_encoder.state_dict().items()}
    prefix = "neighbor_projection."
    projection = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    qformer = {_their_name(name): value for name, value in state.items() if not name.startswith(prefix)}
    # Not through a `StableDiffusionPipeline`: it changes the settings of a scheduler that is given to it.
    with quiet_libraries():
        for part in (*_INDEXED, "image_encoder"):
            getattr(pipeline, part).save_pretrained(folder / part)
        if pipeline.feature_extractor is not None:
            pipeline.feature_extractor.save_pretrained(folder / "feature_extractor")
    index = {part: [library, type(getattr(pipeline, part)).__name__] for part, library in _INDEXED.items()}
    absent = {part: [None, None] for part in ("feature_extractor", "image_encoder", "safety_checker")}
    content = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "requires_safety_checker": False,
        **absent,
        **index,
    }
    (folder / "model_index.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    for file, weights in ((_PROJECTION_FILE, projection), (_QFORMER_FILE, qformer)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        torch.save(weights, folder / file)


def _image_processor(checkpoint: Checkpoint, image_size: int) -> CLIPImageProcessor:
    """The checkpoint's own, or else CLIP's at the image encoder's size."""
    if (Path(checkpoint.name) / "feature_extractor").is_dir():
        return checkpoint.load(CLIPImageProcessor, "feature_extractor")
    size = {"height": image_size, "width": image_size}
    return CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=size)


def _load_graph_encoder(
    folder: Path,
    text_encoder: CLIPTextModel,
    tokens_per_neighbor: int | None,
    cross_attention_freq: int | None,
    torch_dtype: torch.dtype,
) -> GraphQFormer:
    projection = _read_state(folder / _PROJECTION_FILE)
    qformer = {_our_name(name): value for name, value in _read_state(folder / _QFORMER_FILE).items()}
    qformer.pop("position_ids", None)  # a constant that older versions of transformers saved
    state = {**qformer, **{f"neighbor_projection.{name}": value for name, value in projection.items()}}
    try:
        model: GraphQFormer = GraphQFormer(
            neighbor_dim=state["neighbor_projection.proj.weight"].shape[1],
            tokens_per_neighbor=_tokens_per_neighbor(folder, state, tokens_per_neighbor),
            cross_attention_freq=_cross_attention_freq(folder, state, cross_attention_freq),
            vocab_size=state["token_embedding.weight"].shape[0],
            max_position_embeddings=state["position_embedding.weight"].shape[0],
            hidden_size=state["token_embedding.weight"].shape[1],
            intermediate_size=state["layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=len(_layers(state)),
            # What the shapes do not show: the Graph-QFormer is a copy of the text encoder.
            num_attention_heads=text_encoder.config.num_attention_heads,
            hidden_act=text_encoder.config.hidden_act,
            layer_norm_eps=text_encoder.config.layer_norm_eps,
        )
        model.load_state_dict({name: value.to(torch_dtype) for name, value in state.items()}, assign=True)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        reason = f"there is no weight {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise Graph2ImageError(f"{folder}: these are not the weights of a Graph-QFormer: {reason}") from error
    model.eval()
    return model


def _read_state(file: Path) -> dict[str, Tensor]:
    """A state dict, without the prefix that distributed training adds to its names."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise Graph2ImageError(f"there is no file {file}") from error
    except pickle.UnpicklingError as error:
        raise Graph2ImageError(
            f"{file} is refused: it does not hold weights alone, and loading more could run a program",
            "Save its state dict alone, with torch.save.",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise Graph2ImageError(f"cannot read {file}: {first_line(error)}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise Graph2ImageError(f"{file} is no state dict: names and tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _our_name(name: str) -> str:
    name = name.removeprefix("text_model.")
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def _their_name(name: str) -> str:
    if name.startswith(("token_embedding.", "position_embedding.")):
        return f"text_model.embeddings.{name}"
    if name.startswith("layers."):
        return f"text_model.encoder.{name}".replace(".cross_attn.", ".crossattention.")
    return f"text_model.{name}"


def _layers(state: dict[str, Tensor], part: str = "self_attn") -> list[int]:
    """Numbers of the layers that have `part`."""
    found = (re.match(rf"layers\.(\d+)\.{part}\.q_proj\.weight$", name) for name in state)
    return sorted(int(match[1]) for match in found if match)


def _tokens_per_neighbor(folder: Path, state: dict[str, Tensor], expected: int | None) -> int:
    width, size = state["neighbor_projection.proj.weight"].shape[0], state["neighbor_projection.norm.weight"].shape[0]
    found = int(width // size)
    if expected not in (None, found):
        raise Graph2ImageError(f"{folder}: tokens_per_neighbor is {expected}, the checkpoint's weights make {found}")
    return found


def _cross_attention_freq(folder: Path, state: dict[str, Tensor], expected: int | None) -> int:
    layers, crossed = _layers(state), _layers(state, "cross_attn")
    frequency = expected
    if frequency is None:
        frequency = crossed[1] if len(crossed) > 1 else len(layers)
    if frequency < 1 or crossed != layers[::frequency]:
        raise Graph2ImageError(
            f"{folder}: cross_attention_freq is {frequency}, "
            f"but of {len(layers)} layers those with cross-attention are {crossed}"
        )
    return frequency


def _check_expressible(pipeline: Graph2ImagePipeline) -> None:
    graph = pipeline.graph_encoder.config
    foreign = {
        "a second text encoder": pipeline.text_encoder_2 is not None,
        f"an autoencoder of type {type(pipeline.vae).__name__}": not isinstance(pipeline.vae, AutoencoderKL),
        f"a network of type {type(pipeline.unet).__name__}": not isinstance(pipeline.unet, UNet2DConditionModel),
        "an image encoder that is not a CLIPVisionModelWithProjection": not isinstance(
            pipeline.image_encoder, CLIPVisionModelWithProjection
        ),
        "neighbors by their texts": graph.neighbor_text_dim is not None,
        "relation types": bool(graph.relation_types),
        "graph tokens of another size than the text encoder's": pipeline.graph_encoder.output_projection is not None,
        "fewer layers in the Graph-QFormer than in the text encoder": graph.num_hidden_layers
        != pipeline.text_encoder.config.num_hidden_layers,
    }
    if found := [what for what, has in foreign.items() if has]:
        raise Graph2ImageError(
            f"the reference implementation's layout cannot hold {', '.join(found)}",
            "Save the model with `save_pretrained`.",
        )
