"""Graph tokens without a Graph-QFormer: the neighbors' projected tokens themselves, for ablations; or none at all."""

from __future__ import annotations

from typing import TypeAlias

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from model.networks.graph_qformer import GraphQFormer, NeighborProjection


class NeighborTokens(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Projects each neighbor's embeddings to tokens, which are the graph tokens; the prompt has no part in it.

    Parameters
    ----------
    max_neighbors
        Neighbors that there are tokens for; with 0 there are no graph tokens, as for a text-only model.
    neighbor_dim, neighbor_text_dim
        Size of a neighbor's image and text embedding; None for what is not looked at.
    tokens_per_neighbor
        Tokens that each embedding becomes.
    token_size
        Size of a graph token.
    standardize_neighbors
        Whether embeddings are standardized before they are projected; see `NeighborProjection`.
    relation_types
        None: of relations it knows nothing. It is there as every graph encoder has it.
    """

    absent: Tensor

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        max_neighbors: int,
        neighbor_dim: int | None = None,
        neighbor_text_dim: int | None = None,
        tokens_per_neighbor: int = 4,
        token_size: int = 768,
        standardize_neighbors: bool = False,
        relation_types: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        if relation_types:
            raise ValueError("neighbors' tokens know no relation types")
        if (neighbor_dim is None and neighbor_text_dim is None) != (max_neighbors == 0):
            raise ValueError(f"{max_neighbors} neighbors with embeddings of sizes {neighbor_dim}, {neighbor_text_dim}")
        self.neighbor_projection, self.neighbor_text_projection = (
            None
            if dim is None
            else NeighborProjection(dim, token_size, tokens_per_neighbor, standardize=standardize_neighbors)
            for dim in (neighbor_dim, neighbor_text_dim)
        )
        #: A token of a neighbor that is not there. It makes a model without neighbors a module with a device, too.
        self.register_buffer("absent", torch.zeros(token_size))

    @property
    def token_size(self) -> int:
        """Size of a graph token."""
        return int(self.config.token_size)

    @property
    def token_count(self) -> int:
        """Graph tokens of an item, whatever the number of its neighbors."""
        contents = [self.neighbor_projection, self.neighbor_text_projection]
        tokens = self.config.max_neighbors * self.config.tokens_per_neighbor
        return int(tokens * sum(projection is not None for projection in contents))

    def forward(
        self,
        input_ids: Tensor,
        neighbor_embeds: Tensor | None = None,
        neighbor_mask: Tensor | None = None,
        neighbor_text_embeds: Tensor | None = None,
    ) -> Tensor:
        """Encode; the arguments are those of `GraphQFormer.forward`.

        Returns
        -------
        torch.Tensor
            Graph tokens `(batch, token_count, token_size)`, zero where there is no neighbor.

        Raises
        ------
        ValueError
            If an embedding that is looked at is missing, or there are more than `max_neighbors`.
        """
        most, contents = self.config.max_neighbors, []
        for name, embeds, projection in (
            ("neighbor_embeds", neighbor_embeds, self.neighbor_projection),
            ("neighbor_text_embeds", neighbor_text_embeds, self.neighbor_text_projection),
        ):
            if projection is None:
                continue
            if embeds is None or embeds.shape[1] > most:
                raise ValueError(f"this model needs {name} of at most {most} neighbors")
            tokens = projection(embeds)
            if neighbor_mask is not None:
                tokens = torch.where(neighbor_mask.bool()[:, :, None, None], tokens, self.absent)
            missing = most - tokens.shape[1]
            padding = self.absent.expand(len(tokens), missing, tokens.shape[2], -1)
            contents.append(torch.cat([tokens, padding], dim=1).flatten(1, 2))
        if not contents:
            return self.absent.new_zeros(len(input_ids), 0, self.token_size)
        return torch.cat(contents, dim=1)


GraphEncoder: TypeAlias = GraphQFormer | NeighborTokens


def graph_token_count(encoder: GraphEncoder, prompt_length: int) -> int:
    """Graph tokens of an item whose prompt has so many tokens."""
    return encoder.token_count if isinstance(encoder, NeighborTokens) else prompt_length
