"""`nino-mlp` numbers the kinds of tensors as its authors' code does."""

import pytest

from weightcast.datasets import TensorInfo
from weightcast.methods.nino_mlp import kind_of


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("fc1.weight", (32, 64), 1),
        ("fc1.bias", (32,), 2),
        ("conv.weight", (8, 1, 3, 3), 3),
        ("norm.weight", (32,), 4),
        ("scale", (), 2),
        ("bert.embeddings.word_embeddings.weight", (100, 8), 5),
        ("transformer.wte.weight", (100, 8), 5),
        ("model.embed_tokens.weight", (100, 8), 5),
        ("distilbert.embeddings.position_embeddings.weight", (50, 8), 6),
        ("transformer.wpe.weight", (50, 8), 6),
        ("bert.embeddings.token_type_embeddings.weight", (2, 8), 2),
        ("bert.encoder.layer.0.attention.self.query.weight", (8, 8), 7),
        ("distilbert.transformer.layer.3.attention.k_lin.weight", (8, 8), 8),
        ("model.layers.0.self_attn.v_proj.weight", (8, 8), 9),
        ("bert.encoder.layer.0.attention.self.query.bias", (8,), 2),
        ("bert.encoder.layer.0.attention.output.dense.weight", (8, 8), 1),
        ("embedding.weight", (100, 8), 1),
    ],
)
def test_when_a_tensor_has_a_role_then_it_has_the_published_number(
    name: str, shape: tuple[int, ...], kind: int
) -> None:
    assert kind_of(TensorInfo(name, shape, "other")) == kind
