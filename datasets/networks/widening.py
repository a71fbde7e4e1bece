"""Function-preserving widening: a BERT of half DistilBERT's width becomes a DistilBERT.

Every hidden unit is doubled, so the two copies carry the same value, and whatever reads a doubled
unit splits its weight between the copies (Net2Net: Chen, Goodfellow & Shlens 2016, arXiv
1511.05641). The hidden states are therefore those of the small model, each twice; a real pretrained
model of DistilBERT's size comes out where DistilBERT's own weights cannot be had. It is not
DistilBERT's.

With res, ffn and head the maps from a new unit to its original (res and ffn by i mod width, head by
repeating each head's units), a linear layer becomes W' = W[out][:, in] · S and b' = b[out], S being
the shares. A layer norm keeps its function, as the mean and variance over doubled units are the
same. Heads are twice as wide, so a query times a key sums twice as much, but is divided by √2 only:
queries and keys are scaled by 2^(-1/4) each. Token types are folded into the positions, since
DistilBERT has none.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from weightcast.datasets.errors import InputError

#: The shares of two copies are a and 1 − a, a drawn from this far around a half: equal shares would
#: leave the copies equal for ever.
_SPREAD = 0.25
#: The shares are part of what is pretrained, the same for every run.
_SEED = 1511_05641


def widen(bert: Any, classes: int) -> nn.Module:
    """Return a ``DistilBertForSequenceClassification`` that computes what ``bert`` does.

    Parameters
    ----------
    bert : transformers.BertModel
    classes : int
        Of the head, which is new and random.

    Raises
    ------
    InputError
        If the model is not a BERT.
    """
    transformers: Any = importlib.import_module("transformers")
    config = bert.config
    if config.model_type != "bert":
        raise InputError(f"only a BERT can be widened, not a {config.model_type}")
    wide = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            dim=2 * config.hidden_size,
            hidden_dim=2 * config.intermediate_size,
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
            activation=config.hidden_act,
            pad_token_id=config.pad_token_id,
            num_labels=classes,
        )
    )
    wide.distilbert.load_state_dict(_widened(bert.state_dict(), config), strict=True)
    network: nn.Module = wide.eval()
    return network


_LINEAR = {
    "attention.self.query": ("attention.q_lin", "head", "res"),
    "attention.self.key": ("attention.k_lin", "head", "res"),
    "attention.self.value": ("attention.v_lin", "head", "res"),
    "attention.output.dense": ("attention.out_lin", "res", "head"),
    "intermediate.dense": ("ffn.lin1", "ffn", "res"),
    "output.dense": ("ffn.lin2", "res", "ffn"),
}
_NORMS = {"attention.output.LayerNorm": "sa_layer_norm", "output.LayerNorm": "output_layer_norm"}


def _widened(state: Mapping[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    width, heads = config.hidden_size, config.num_attention_heads
    units = torch.arange(width).view(heads, width // heads)
    maps = {
        "res": torch.arange(2 * width) % width,
        "ffn": torch.arange(2 * config.intermediate_size) % config.intermediate_size,
        "head": torch.cat([units, units], dim=1).flatten(),
    }
    random = torch.Generator().manual_seed(_SEED)
    wide: dict[str, torch.Tensor] = {}
    res = maps["res"]
    old, new = "embeddings.", "embeddings."
    positions = (
        state[f"{old}position_embeddings.weight"] + state[f"{old}token_type_embeddings.weight"][0]
    )
    wide[f"{new}word_embeddings.weight"] = state[f"{old}word_embeddings.weight"][:, res]
    wide[f"{new}position_embeddings.weight"] = positions[:, res]
    for part in ("weight", "bias"):
        wide[f"{new}LayerNorm.{part}"] = state[f"{old}LayerNorm.{part}"][res]
    for layer in range(config.num_hidden_layers):
        old, new = f"encoder.layer.{layer}.", f"transformer.layer.{layer}."
        for source, (target, out, into) in _LINEAR.items():
            scale = 2**-0.25 if target.endswith(("q_lin", "k_lin")) else 1.0
            weight = state[f"{old}{source}.weight"][maps[out]][:, maps[into]]
            shares = _shares(maps[into], len(weight), random)
            wide[f"{new}{target}.weight"] = scale * shares * weight
            wide[f"{new}{target}.bias"] = scale * state[f"{old}{source}.bias"][maps[out]]
        for source, target in _NORMS.items():
            for part in ("weight", "bias"):
                wide[f"{new}{target}.{part}"] = state[f"{old}{source}.{part}"][res]
    return wide


def _shares(into: torch.Tensor, rows: int, random: torch.Generator) -> torch.Tensor:
    """Draw what each copy of an input contributes, (rows, inputs); the two of a pair sum to 1."""
    count = len(into) // 2
    first = 0.5 + _SPREAD * (2 * torch.rand(rows, count, generator=random) - 1)
    # The stable order puts each original's two copies next to one another.
    order = torch.sort(into, stable=True).indices.view(count, 2)
    shares = torch.empty(rows, len(into))
    shares[:, order[:, 0]], shares[:, order[:, 1]] = first, 1 - first
    return shares
