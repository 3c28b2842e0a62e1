"""Graph-QFormer (InstructG2I, Jin et al. 2024): a prompt's tokens read its neighbors and become graph tokens.

Each neighbor embedding becomes `tokens_per_neighbor` tokens. A CLIP-text-like transformer then runs over the prompt:
causal self-attention in every layer and, in every `cross_attention_freq`-th one, cross-attention to the neighbor
tokens. Its layers carry a CLIP text model's weights at the start, so the queries mean something from the first step.
The output has one graph token per prompt token; the UNet sees them beside the text tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from transformers import CLIPTextModel
from transformers.activations import ACT2FN


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
    """

    def __init__(self, neighbor_dim: int, hidden_size: int, tokens_per_neighbor: int) -> None:
        super().__init__()
        self.proj = nn.Linear(neighbor_dim, tokens_per_neighbor * hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, neighbor_embeds: Tensor) -> Tensor:
        """Map `(batch, neighbors, neighbor_dim)` to `(batch, neighbors * tokens_per_neighbor, hidden_size)`."""
        tokens: Tensor = self.proj(neighbor_embeds)
        batch, neighbors, _ = tokens.shape
        tokens = self.norm(tokens.view(batch, neighbors, -1, self.norm.normalized_shape[0]))
        return tokens.flatten(1, 2)


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
        Size of a neighbor embedding.
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
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        neighbor_dim: int = 768,
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
    ) -> None:
        super().__init__()
        self.neighbor_projection = NeighborProjection(neighbor_dim, hidden_size, tokens_per_neighbor)
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

    @classmethod
    def from_text_encoder(
        cls,
        text_encoder: CLIPTextModel,
        neighbor_dim: int,
        tokens_per_neighbor: int = 4,
        cross_attention_freq: int = 2,
        num_hidden_layers: int | None = None,
    ) -> GraphQFormer:
        """Build one whose embeddings, layers and final norm start as copies of `text_encoder`'s.

        Neighbor projection and cross-attention are new. With `num_hidden_layers` only the first layers are taken.
        """
        config = text_encoder.config
        model: GraphQFormer = cls(
            neighbor_dim=neighbor_dim,
            tokens_per_neighbor=tokens_per_neighbor,
            cross_attention_freq=cross_attention_freq,
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=num_hidden_layers or config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
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

    def forward(self, input_ids: Tensor, neighbor_embeds: Tensor, neighbor_mask: Tensor | None = None) -> Tensor:
        """Encode.

        Parameters
        ----------
        input_ids
            `(batch, length)` int64, the prompt's tokens as the text encoder sees them.
        neighbor_embeds
            `(batch, neighbors, neighbor_dim)`.
        neighbor_mask
            `(batch, neighbors)`, nonzero where there is a neighbor; None means everywhere.

        Returns
        -------
        torch.Tensor
            Graph tokens `(batch, length, hidden_size)`. They are zero for a sample without neighbors, which is what
            the model is trained to read as "no graph".
        """
        batch, neighbors, _ = neighbor_embeds.shape
        if neighbors == 0:
            return neighbor_embeds.new_zeros(batch, input_ids.shape[1], self.config.hidden_size)
        if neighbor_mask is None:
            neighbor_mask = torch.ones(batch, neighbors, dtype=torch.bool, device=neighbor_embeds.device)
        neighbor_mask = neighbor_mask.bool()
        present = neighbor_mask.any(dim=1)
        # A softmax over nothing is undefined: a sample without neighbors attends to all, and is zeroed below.
        attended = neighbor_mask | ~present[:, None]
        token_mask = attended.repeat_interleave(self.config.tokens_per_neighbor, dim=1)[:, None, None, :]

        neighbor_tokens = self.neighbor_projection(neighbor_embeds)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x: Tensor = self.token_embedding(input_ids) + self.position_embedding(positions)
        for layer in self.layers:
            x = layer(x, neighbor_tokens, token_mask)
        return torch.where(
            present[:, None, None], self.final_layer_norm(x), torch.zeros((), dtype=x.dtype, device=x.device)
        )
