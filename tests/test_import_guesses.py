"""What is not sure is not guessed: steps out of names, the network out of what a file holds."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from weightcast.bench.commands.record import parse_seeds
from weightcast.datasets import InputError, open_trajectory
from weightcast.datasets.importing.discovery import find_checkpoints
from weightcast.datasets.importing.run import import_run
from weightcast.datasets.importing.step_names import step_in

ONE = {"w": torch.ones(2, 3)}


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "step", "unit"),
    [
        ("step1000", 1000, "step"),
        ("step_20k", 20_000, "step"),
        ("Steps-3M", 3_000_000, "step"),
        ("ckpt2B", 2_000_000_000, "step"),
        ("step1000-tokens4B", 1000, "step"),
        ("stage1-step1000-tokens3B", 1000, "step"),
        ("checkpoint-500", 500, "step"),
        ("ckpt_000", 0, "step"),
        ("global_step_7", 7, "step"),
        ("global_step1200", 1200, "step"),
        ("iter_0000100", 100, "step"),
        ("epoch=3", 3, "epoch"),
        ("epoch=3-step=1200", 1200, "step"),
        ("epoch=3-val_loss=0.52", 3, "epoch"),
        ("checkpoint_epoch_5", 5, "epoch"),
        ("warmup_steps=500-step=100", 100, "step"),
        ("2024-01-05-step100", 100, "step"),
        ("resnet18-step=9", 9, "step"),
        ("step100-unsharded", 100, "step"),
        ("model-40", 40, "step"),
        ("0040", 40, "step"),
    ],
)
def test_when_a_name_surely_has_a_step_then_it_counts(name: str, step: int, unit: str) -> None:
    found = step_in(name)
    assert found is not None
    assert (found.step, found.unit) == (step, unit)


@pytest.mark.parametrize(
    "name",
    [
        "model-3f2a91", "deadbeef12", "abc123", "resnet18", "v2", "model.40",  # parts of words
        "model_0.25", "step_0.5", "step_1.5k", "epoch_5.5", "net-1.2.3",  # decimals
        "run-20240105", "checkpoint-20240105", "model-1700000000", "2024-01-05",  # moments
        "step_20_000", "model_10_20", "step_-5", "step1e5", "step20kb", "step100-step200",
        "max_steps=5", "timestep100", "best_acc_93", "val-loss-1", "seed_3", "model-fold-2", "best",
    ],
)  # fmt: skip
def test_when_a_number_is_not_surely_a_step_then_none_is_read(name: str) -> None:
    assert step_in(name) is None


def test_when_suffixes_are_mixed_then_the_order_is_by_number_and_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("step_20k.pt", "step_500.PT", "step_1M.pth.tar"):
        torch.save(ONE, folder / name)
    made = import_run(folder, tmp_path / "run.safetensors")
    assert made.run.steps.tolist() == [500, 20_000, 1_000_000]
    assert (
        "order: step_500.PT is step 500, step_20k.pt is step 20,000, "
        "step_1M.pth.tar is step 1,000,000"
    ) in made.notes


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ["stage1-step1.pt", "stage2-step2.pt", "stage1-step3.pt"],
            r"several stages of training: stage1 \(2 checkpoints\), stage2 \(1 ch.*--stage stage1",
        ),
        (["stage1-step1.pt", "step2.pt", "step3.pt"], "stage1 .* and 2 of no stage; choose one"),
        (["epoch0-step10.pt", "epoch1-step5.pt"], "differ in more than their step"),
        (["seed1-step10.pt", "seed2-step20.pt"], "differ in more than their step"),
        (["step_10.pt", "best_step_12.pt"], "step_10.pt and best_step_12.pt differ in more"),
        (["step100-a8f3.pt", "step200-b7ab.pt"], "differ in more than their step"),
        (["model-3f2a91.pt", "model-123456.pt", "model-654321.pt"], "is not sure beside"),
        (
            ["model-3f2a91.pt", "model-77ab12.pt"],
            "passed over model-3f2a91.pt, model-77ab12.pt: no",
        ),
        (["run-20240105.pt", "run-20240106.pt"], "holds 0 checkpoints .*run-20240105.pt"),
        (["epoch_1.pt", "step_5.pt"], "count different things"),
        ([f"step_{10**25}.pt", "step_1.pt"], "no run has so many steps"),
        (["step_" + "9" * 5000 + ".pt"], "cannot be read|no run has so many"),
        (
            ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"],
            "are of the shards of one checkpoint",
        ),
        (["pytorch_model-00001-of-00002.bin"], "is of the shards of one checkpoint"),
    ],
)
def test_when_names_do_not_settle_the_order_then_they_are_refused_with_the_names(
    tmp_path: Path, names: list[str], says: str
) -> None:
    try:
        _touch(tmp_path, *names)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match=says) as caught:
        find_checkpoints(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_when_files_are_passed_over_then_each_is_named_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for step in (1, 2, 3):
        inner = folder / f"checkpoint-{step}"
        inner.mkdir(parents=True)
        torch.save(ONE, inner / ("optimizer.pt" if step == 2 else "pytorch_model.bin"))
    _touch(folder, "step_3.h5", "optimizer.pt", "last.ckpt", "notes.txt")
    notes = import_run(folder, tmp_path / "run.safetensors").notes
    assert any(note.startswith("passed over checkpoint-2: no model in it") for note in notes)
    assert "passed over step_3.h5: files that end in .h5 are not read" in notes
    assert "passed over optimizer.pt: not weights, by its name" in notes
    assert "passed over last.ckpt: no sure step number in its name" in notes
    assert not any("notes.txt" in note for note in notes)


T = torch.tensor(0.3)


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ({"epoch": 1, "params": ONE, "loss": T}, "not sure: params"),
        ({"generator": ONE, "discriminator": ONE, "best_acc": T}, "not sure: generator, discrim"),
        ({"model": {"encoder": ONE, "temperature": T}}, r"not sure: model\.encoder"),
        ({"model": ONE, "net": {"w": torch.zeros(2)}}, "not sure: model, net"),
        ({"epoch": 3, "class_weights": torch.ones(3)}, "it holds epoch: int, class_weights: Tens"),
        ({"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, "it holds optimizer: dict"),
        ({0: torch.ones(2)}, "it holds 0: Tensor"),
        ([torch.ones(2)], "it holds a list"),
        (torch.ones(2), "it holds a Tensor"),
        ({}, "it holds nothing"),
        ({"loss": T}, "holds no floating-point parameters"),
        ({"w": torch.ones(2, device="meta")}, "tensor w has no numbers: it is on meta"),
        ({"w": torch.zeros(1).expand(2**20, 2**20)}, "but the file has 4 bytes of it"),
        ({"w": torch.ones(2), "module.w": T, "_orig_mod.w": T}, "two tensors have one name"),
    ],
)
def test_when_it_is_not_sure_what_the_network_is_then_the_file_is_refused_with_the_choices(
    tmp_path: Path, saved: Any, says: str
) -> None:
    for step in (1, 2):
        torch.save(saved, tmp_path / f"step_{step}.pt")
    with pytest.raises(InputError, match=says) as caught:
        import_run(tmp_path, None)
    assert len(str(caught.value).splitlines()) == 1


TWO = {"generator": ONE, "discriminator": {"v": torch.zeros(3)}, "model": {"net.1": {"u": T}}}


@pytest.mark.parametrize(
    ("key", "name"), [("generator", "w"), ("discriminator", "v"), ("model.net.1", "u")]
)
@pytest.mark.parametrize("in_place", [True, False])
def test_when_a_key_is_given_then_its_state_dict_is_the_network(
    tmp_path: Path, key: str, name: str, in_place: bool
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (1, 2):
        torch.save(TWO, folder / f"step_{step}.pt")
    made = import_run(folder, None if in_place else tmp_path / "run.safetensors", key=key)
    for run in (made.run, open_trajectory(folder if in_place else made.path)):
        again = pickle.loads(pickle.dumps(run))
        assert [tensor.name for tensor in again.tensors] == [name]
        place = TWO["model"]["net.1"] if name == "u" else TWO[key]
        np.testing.assert_array_equal(again.snapshot(1)[name], place[name].numpy())


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("critic", "no state dict at critic, but at: generator, discriminator, model.net.1"),
        ("model", "no state dict at model, but at"),
        ("generator.w", "no state dict at generator.w, but at"),
    ],
)
def test_when_a_key_leads_to_no_state_dict_then_those_that_are_there_are_named(
    tmp_path: Path, key: str, says: str
) -> None:
    for step in (1, 2):
        torch.save(TWO, tmp_path / f"step_{step}.pt")
    with pytest.raises(InputError, match=says):
        import_run(tmp_path, None, key=key)
    for step in (1, 2):
        save_file({"w": torch.ones(2)}, tmp_path / f"step_{step}.safetensors")
    for step in (1, 2):
        (tmp_path / f"step_{step}.pt").unlink()
    with pytest.raises(InputError, match="no keys; leave --key out"):
        import_run(tmp_path, None, key=key)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": {"state_dict": state}, "optimizer": {"state": {0: dict(ONE)}}},
        lambda state: {"state_dict": state, "model": "resnet18", "loss": T},
        lambda state: {"model": state, "net": state},
        lambda state: {**state, "layer._extra_state": None},
        lambda state: {**state, "best_acc": T},
    ],
)
def test_when_the_network_is_under_usual_names_then_it_is_found_there(
    tmp_path: Path, wrap: Any
) -> None:
    for step in (1, 2):
        torch.save(wrap({"w": torch.full((2, 3), float(step))}), tmp_path / f"step_{step}.pt")
    run = import_run(tmp_path, None).run
    assert [t.name for t in run.tensors] == ["w"]
    np.testing.assert_array_equal(run.snapshot(1)["w"], np.full((2, 3), 2.0))


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_when_wrappers_have_put_prefixes_then_names_are_the_networks_own_and_it_is_told(
    tmp_path: Path, ending: str
) -> None:
    prefixes = ["module._orig_mod.", "_orig_mod.module.", "module.", "_orig_mod.", ""]
    for step, prefix in enumerate(prefixes):
        state = {f"{prefix}{i}.weight": torch.full((2, 2), 10.0 * step + i) for i in range(2)}
        if ending == ".pt":
            torch.save(state, tmp_path / f"step_{step}.pt")
        else:
            save_file(state, tmp_path / f"step_{step}.safetensors")
    made = import_run(tmp_path, None)
    assert [t.name for t in made.run.tensors] == ["0.weight", "1.weight"]
    for step in range(len(prefixes)):
        np.testing.assert_array_equal(
            made.run.snapshot(step)["1.weight"], np.full((2, 2), 10.0 * step + 1)
        )
    assert "names are the network's own, without _orig_mod. and module." in made.notes


@pytest.mark.parametrize(
    "text", ["0-999999999999", "0-99999,5-200000", "9" * 5000, "-1", "3-1", "1.5", "", "٣"]
)
def test_when_seeds_are_too_many_or_none_then_they_are_refused_at_once(text: str) -> None:
    with pytest.raises(InputError, match="seeds"):
        parse_seeds(text)


def _rewrite(path: Path, old: bytes, new: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace bytes in an archive's pickle, as torch would write it, checksums and all."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data.replace(old, new) if name.endswith(".pkl") else data)


FOUR, TERA = b"K\x04", b"\x8a\x06" + (2**40).to_bytes(6, "little")


@pytest.mark.parametrize(
    ("old", "new", "compression", "says"),
    [
        # The numbers of a storage and of a tensor, in the pickle: more than the record has.
        (FOUR, b"K\x40", zipfile.ZIP_STORED, "claims more or other bytes than its record has"),
        (FOUR, TERA, zipfile.ZIP_STORED, "truncated or not a file of torch.save"),
        (b"", b"", zipfile.ZIP_DEFLATED, "is compressed"),
    ],
)
def test_when_an_archive_claims_what_it_does_not_hold_then_it_is_refused(
    tmp_path: Path, old: bytes, new: bytes, compression: int, says: str
) -> None:
    for step in (1, 2):
        path = tmp_path / f"step_{step}.pt"
        torch.save({"w": torch.arange(4.0), "v": torch.ones(100)}, path)
        _rewrite(path, old or b"\x00no", new, compression)
    with pytest.raises(InputError, match=says):
        import_run(tmp_path, None)


def test_when_a_number_in_an_archive_is_flipped_then_its_checksum_tells(tmp_path: Path) -> None:
    for step in (1, 2):
        torch.save({"w": torch.full((9,), 1.5)}, tmp_path / f"step_{step}.pt")
    path = tmp_path / "step_2.pt"
    data = path.read_bytes()
    number = np.full(9, 1.5, "<f4").tobytes()
    assert data.count(number) == 1
    path.write_bytes(data.replace(number, np.full(9, 1.25, "<f4").tobytes()))
    with pytest.raises(InputError, match="does not agree with its checksum"):
        import_run(tmp_path, None)
