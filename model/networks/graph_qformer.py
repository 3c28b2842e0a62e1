"""Graph-QFormer (InstructG2I, Jin et al. 2024): a prompt's tokens read its neighbors and become graph tokens.

Each neighbor embedding becomes `tokens_per_neighbor` tokens. A CLIP-text-like transformer then runs over the prompt:
causal self-attention in every layer and, in every `cross_attention_freq`-th one, cross-attention to the neighbor
tokens. Its layers carry a CLIP text model's weights at the start, so the queries mean something from the first step.
The output has one graph token per prompt token; the UNet sees them beside the text tokens.

Beyond the paper, and off unless asked for: neighbors known by their texts too, or by their texts only; neighbors that
weigh more than others; detail of their images beside the embeddings; and, for heterogeneous graphs, an embedding of
the relation that a neighbor was reached by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from transformers import CLIPTextModel
from transformers.activations import ACT2FN

from model.networks.neighbor_detail import detail_shape


class NeighborProjection(nn.Module):
    """Turns one embedding into several tokens: linear map, then layer norm of each token.

    Parameters
    ----------
    neighbor_dim
        Size of a neighbor embedding.
    hidden_size
        Size of a token.
    tokens_per_neighbor
        Tokens made of each embedding.
    standardize
        Whether embeddings are standardized first, by the buffers `mean` and `std`: see `set_statistics`. A vector of
        unit length has so little variance that a new linear map would give its own bias and hardly anything else.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, neighbor_dim: int, hidden_size: int, tokens_per_neighbor: int, *, standardize: bool = False
    ) -> None:
        super().__init__()
        self.standardize = standardize
        if standardize:
            self.register_buffer("mean", torch.zeros(neighbor_dim))
            self.register_buffer("std", torch.ones(neighbor_dim))
        self.proj = nn.Linear(neighbor_dim, tokens_per_neighbor * hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def set_statistics(self, embeddings: Tensor) -> None:
        """Take the mean and the standard deviation of `(n, neighbor_dim)` embeddings as those to standardize by."""
        self.mean.copy_(embeddings.mean(dim=0))
        self.std.copy_(embeddings.std(dim=0).clamp(min=1e-6))

    def forward(self, neighbor_embeds: Tensor) -> Tensor:
        """Map `(batch, neighbors, neighbor_dim)` to `(batch, neighbors, tokens_per_neighbor, hidden_size)`."""
        if self.standardize:
            neighbor_embeds = (neighbor_embeds - self.mean) / self.std
        split = self.proj(neighbor_embeds).unflatten(-1, (-1, self.norm.normalized_shape[0]))
        tokens: Tensor = self.norm(split)
        return tokens


class Attention(nn.Module):
    """Multi-head attention with CLIP's parameter names, so that CLIP's weights load."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(x), self.k_proj(context), self.v_proj(context))
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACT2FN[hidden_act]
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out


class GraphQFormerLayer(nn.Module):
    """A pre-norm CLIP layer, with cross-attention between its self-attention and its MLP if `cross_attention`."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        heads: int,
        hidden_act: str,
        eps: float,
        *,
        cross_attention: bool,
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(hidden_size, eps=eps)
        self.self_attn = Attention(hidden_size, heads)
        self.layer_norm2 = nn.LayerNorm(hidden_size, eps=eps)
        self.mlp = MLP(hidden_size, intermediate_size, hidden_act)
        self.cross_attn = Attention(hidden_size, heads) if cross_attention else None
        self.layer_norm3 = nn.LayerNorm(hidden_size, eps=eps) if cross_attention else None

    def forward(self, x: Tensor, neighbor_tokens: Tensor, mask: Tensor) -> Tensor:
        normed = self.layer_norm1(x)
        x = x + self.self_attn(normed, normed, is_causal=True)
        if self.cross_attn is not None and self.layer_norm3 is not None:
            x = x + self.cross_attn(self.layer_norm3(x), neighbor_tokens, mask)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class GraphQFormer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Encodes a prompt and its item's neighbors into graph tokens.

    Parameters
    ----------
    neighbor_dim
        Size of a neighbor's image embedding; None if the model does not look at images.
    tokens_per_neighbor
        Tokens that each neighbor embedding becomes.
    cross_attention_freq
        Layers 0, `cross_attention_freq`, `2 * cross_attention_freq`, … attend to the neighbor tokens.
    vocab_size, max_position_embeddings, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads
        Sizes of the transformer, as in `transformers.CLIPTextConfig`.
    hidden_act
        Activation of the MLPs, by its `transformers` name.
    layer_norm_eps
        Epsilon of the transformer's layer norms.
    neighbor_text_dim
        Size of a neighbor's text embedding; None, the paper's model, if it does not look at texts.
    relation_types
        Names of relation types, of which a neighbor may have one. Each has an embedding that is added to the
        neighbor's tokens, zero at the start; a neighbor of none of them gets nothing added.
    output_dim
        Size of a graph token; None for `hidden_size`. Another size costs a linear map after the last layer.
    standardize_neighbors
        Whether embeddings are standardized before they are projected; see `NeighborProjection`.
    neighbor_detail
        Kind of a neighbor's detail, see `model.networks.neighbor_detail`; None if the model does not look at any.
    latent_channels
        Channels of the latents that the detail is of.
    """

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        neighbor_dim: int | None = 768,
        tokens_per_neighbor: int = 4,
        cross_attention_freq: int = 2,
        vocab_size: int = 49408,
        max_position_embeddings: int = 77,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        hidden_act: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        neighbor_text_dim: int | None = None,
        relation_types: Sequence[str] = (),
        output_dim: int | None = None,
        standardize_neighbors: bool = False,
        neighbor_detail: str | None = None,
        latent_channels: int = 4,
    ) -> None:
        super().__init__()
        if neighbor_dim is None and neighbor_text_dim is None:
            raise ValueError("neighbor_dim and neighbor_text_dim are both None: neighbors have no embedding at all")
        if min(tokens_per_neighbor, cross_attention_freq) < 1:
            raise ValueError("tokens_per_neighbor and cross_attention_freq must be at least 1")
        self.neighbor_projection, self.neighbor_text_projection = (
            None
            if dim is None
            else NeighborProjection(dim, hidden_size, tokens_per_neighbor, standardize=standardize_neighbors)
            for dim in (neighbor_dim, neighbor_text_dim)
        )
        self.relation_embedding = None
        if relation_types:  # row 0 is "of none of them", and stays zero
            self.relation_embedding = nn.Embedding(len(relation_types) + 1, hidden_size, padding_idx=0)
            nn.init.zeros_(self.relation_embedding.weight)
        self.detail_projection, self.detail_position = None, None
        if neighbor_detail is not None:
            count, size = detail_shape(neighbor_detail, latent_channels)
            self.detail_projection = NeighborProjection(size, hidden_size, 1, standardize=standardize_neighbors)
            self.detail_position = nn.Embedding(count, hidden_size)
            nn.init.normal_(self.detail_position.weight, std=0.02)
        self.token_embedding = nn.Embedding(vocab_size, hidden_size)
        self.position_embedding = nn.Embedding(max_position_embeddings, hidden_size)
        self.layers = nn.ModuleList(
            GraphQFormerLayer(
                hidden_size,
                intermediate_size,
                num_attention_heads,
                hidden_act,
                layer_norm_eps,
                cross_attention=index % cross_attention_freq == 0,
            )
            for index in range(num_hidden_layers)
        )
        self.final_layer_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.output_projection = None if output_dim in (None, hidden_size) else nn.Linear(hidden_size, output_dim)
        self.gradient_checkpointing = False

    @property
    def token_size(self) -> int:
        """Size of a graph token."""
        return int(self.config.output_dim or self.config.hidden_size)

    @property
    def detail_shape(self) -> tuple[int, int] | None:
        """Tokens of a neighbor's detail, and numbers of each; None if the model does not look at any."""
        kind = self.config.neighbor_detail
        return None if kind is None else detail_shape(kind, self.config.latent_channels)

    @classmethod
    def from_text_encoder(
        cls,
        text_encoder: CLIPTextModel,
        neighbor_dim: int | None,
        *,
        num_hidden_layers: int | None = None,
        **options: Any,
    ) -> GraphQFormer:
        """Build one whose embeddings, layers and final norm start as copies of `text_encoder`'s.

        Projections and cross-attention are new. With `num_hidden_layers` only the first layers are taken; the other
        `options` are those of the class that are not sizes of the transformer.

        Raises
        ------
        ValueError
            If `text_encoder` has not that many layers, or layers of another kind than CLIP's.
        """
        config = text_encoder.config
        if (num_hidden_layers or 0) > config.num_hidden_layers:
            raise ValueError(
                f"num_hidden_layers is {num_hidden_layers}, the text encoder has {config.num_hidden_layers}"
            )
        model: GraphQFormer = cls(
            neighbor_dim=neighbor_dim,
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=num_hidden_layers or config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
            **options,
        )
        with torch.no_grad():
            model.token_embedding.weight.copy_(text_encoder.embeddings.token_embedding.weight)
            model.position_embedding.weight.copy_(text_encoder.embeddings.position_embedding.weight)
            model.final_layer_norm.load_state_dict(text_encoder.final_layer_norm.state_dict())
            for layer, source in zip(model.layers, text_encoder.encoder.layers, strict=False):
                missing, unexpected = layer.load_state_dict(source.state_dict(), strict=False)
                if unexpected or any(not name.startswith(("cross_attn.", "layer_norm3.")) for name in missing):
                    raise ValueError(f"not a CLIP text layer: {missing} missing, {unexpected} unknown")
        return model

    def forward(
        self,
        input_ids: Tensor,
        neighbor_embeds: Tensor | None = None,
        neighbor_mask: Tensor | None = None,
        *,
        neighbor_text_embeds: Tensor | None = None,
        neighbor_weights: Tensor | None = None,
        neighbor_types: Tensor | None = None,
        neighbor_detail: Tensor | None = None,
    ) -> Tensor:
        """Encode.

        Parameters
        ----------
        input_ids
            `(batch, length)` int64, the prompt's tokens as the text encoder sees them.
        neighbor_embeds
            `(batch, neighbors, neighbor_dim)`, of the neighbors' images; for a model that looks at them.
        neighbor_mask
            `(batch, neighbors)`, nonzero where there is a neighbor; None means everywhere.
        neighbor_text_embeds
            `(batch, neighbors, neighbor_text_dim)`, of the neighbors' texts; for a model that looks at them.
        neighbor_weights
            `(batch, neighbors)`, not negative: a neighbor's tokens get attention in proportion to its weight; 0 is
            as if it were not there. None means all weigh the same.
        neighbor_types
            `(batch, neighbors)` int64, places in `relation_types` counted from 1; 0 means none of them.
        neighbor_detail
            `(batch, neighbors, *detail_shape)`, of the neighbors' images; for a model that looks at it. Its tokens are
            attended to as those of the embeddings are.

        Returns
        -------
        torch.Tensor
            Graph tokens `(batch, length, output_dim)`. They are zero for a sample without neighbors, which is what
            the model is trained to read as "no graph".

        Raises
        ------
        ValueError
            If the model's kind of embeddings or its detail is missing, or another kind is given.
        """
        tokens = self._neighbor_tokens(neighbor_embeds, neighbor_text_embeds, neighbor_types)
        detail = self._detail_tokens(neighbor_detail, neighbor_types)
        batch, _, neighbors, _, _ = tokens.shape
        if neighbors == 0:
            return tokens.new_zeros(batch, input_ids.shape[1], self.token_size)
        mask = torch.ones(batch, neighbors, dtype=torch.bool, device=tokens.device)
        if neighbor_mask is not None:
            mask = neighbor_mask.bool()
        if neighbor_weights is not None:
            mask = mask & (neighbor_weights > 0)
        present = mask.any(dim=1)
        # A softmax over nothing is undefined: a sample without neighbors attends to all, and is zeroed below.
        attended = mask | ~present[:, None]
        if neighbor_weights is not None:
            logs = neighbor_weights.where(mask, 1.0).log()  # in its own dtype, where a positive weight is not zero
            attended = logs.to(tokens.dtype).masked_fill(~attended, -torch.inf)
        contents, per_neighbor = tokens.shape[1], tokens.shape[3]
        token_mask = attended[:, None, :, None].expand(-1, contents, -1, per_neighbor).flatten(1)[:, None, None, :]

        neighbor_tokens = tokens.flatten(1, 3)
        if detail is not None:
            neighbor_tokens = torch.cat([neighbor_tokens, detail.flatten(1, 2)], dim=1)
            detail_mask = attended.repeat_interleave(detail.shape[2], dim=1)[:, None, None, :]
            token_mask = torch.cat([token_mask, detail_mask], dim=-1)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x: Tensor = self.token_embedding(input_ids) + self.position_embedding(positions)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(layer, x, neighbor_tokens, token_mask)
            else:
                x = layer(x, neighbor_tokens, token_mask)
        x = self.final_layer_norm(x)
        if self.output_projection is not None:
            x = self.output_projection(x)
        return torch.where(present[:, None, None], x, torch.zeros((), dtype=x.dtype, device=x.device))

    def _neighbor_tokens(self, images: Tensor | None, texts: Tensor | None, types: Tensor | None) -> Tensor:
        """Tokens `(batch, contents, neighbors, tokens_per_neighbor, hidden_size)`; contents are images and texts."""
        contents = []
        for name, embeds, projection in (
            ("neighbor_embeds", images, self.neighbor_projection),
            ("neighbor_text_embeds", texts, self.neighbor_text_projection),
        ):
            if (embeds is None) != (projection is None):
                raise ValueError(
                    f"this model takes no {name}"
                    if projection is None
                    else f"this model needs {name}, which are not given"
                )
            if embeds is not None and projection is not None:
                contents.append(projection(embeds))
        tokens = torch.stack(contents, dim=1)
        if types is not None:
            if self.relation_embedding is None:
                raise ValueError("this model takes no neighbor_types: it was made without relation_types")
            tokens = tokens + self.relation_embedding(types)[:, None, :, None, :]
        return tokens

    def _detail_tokens(self, detail: Tensor | None, types: Tensor | None) -> Tensor | None:
        """Tokens `(batch, neighbors, detail tokens, hidden_size)`; None for a model that looks at no detail."""
        if (detail is None) != (self.detail_projection is None):
            raise ValueError(
                "this model needs neighbor_detail, which is not given"
                if detail is None
                else "this model takes no neighbor_detail"
            )
        if detail is None or self.detail_projection is None or self.detail_position is None:
            return None
        tokens: Tensor = self.detail_projection(detail)[..., 0, :] + self.detail_position.weight
        if types is not None and self.relation_embedding is not None:
            tokens = tokens + self.relation_embedding(types)[:, :, None, :]
        return tokens
