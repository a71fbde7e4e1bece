"""Runs from where people have them: a model's branches, stages, arrays, NiNo's memory maps."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from weightcast.bench.commands.importing import Asked, import_all
from weightcast.datasets import InputError, open_trajectory
from weightcast.datasets.importing.nino import PUBLISHED, import_nino
from weightcast.datasets.importing.run import import_run


def _weights(value: float) -> dict[str, np.ndarray]:
    return {"a.weight": np.full((2, 3), value, np.float32), "a.bias": np.ones(2, np.float32)}


def _branch(model: Path, branch: str, commit: str, value: float | None) -> None:
    """Lay a branch out as huggingface_hub does: a commit's files are links to blobs."""
    ref = model / "refs" / branch
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    (model / "snapshots").mkdir(exist_ok=True)
    if value is not None:
        blob = model / "blobs" / f"{commit}-weights"
        blob.parent.mkdir(exist_ok=True)
        save_file(_weights(value), blob)
        (model / "snapshots" / commit).mkdir()
        (model / "snapshots" / commit / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")


def _commit(number: int) -> str:
    return f"{number:040x}"


def _model(cache: Path) -> Path:
    model = cache / "models--somebody--tiny-lm"
    for step in (0, 1, 10, 2):
        _branch(model, f"step{step}", _commit(step + 1), float(step))
    _branch(model, "main", _commit(11), None)
    return model


def test_when_a_model_lies_in_the_cache_then_its_branches_are_its_checkpoints(
    tmp_path: Path,
) -> None:
    model = _model(tmp_path)
    _branch(model, "step99", _commit(99), None)
    _branch(model, "refs/pr/3", _commit(3), None)
    made = import_run(model, tmp_path / "run.safetensors")
    assert made.run.steps.tolist() == [0, 1, 2, 10]
    assert made.run.meta.dataset == "tiny-lm"
    run = open_trajectory(tmp_path / "run.safetensors")
    assert [run.snapshot(i)["a.weight"][0, 0] for i in range(4)] == [0, 1, 2, 10]
    assert "passed over step99: its files are not in the cache" in made.notes
    assert "passed over main: no sure step number in its name" in made.notes
    assert any(note.startswith("order: step0 is step 0") for note in made.notes)
    assert not any("pr-3" in note for note in made.notes)


def test_when_a_cached_model_is_described_in_place_then_it_opens(tmp_path: Path) -> None:
    model = _model(tmp_path)
    import_run(model, None)
    assert open_trajectory(model).snapshot(3)["a.weight"][0, 0] == 10


def test_when_the_cache_is_named_wrongly_then_the_model_is_named(tmp_path: Path) -> None:
    model = _model(tmp_path)
    with pytest.raises(InputError, match="is a whole cache; name one model in it: models--some"):
        import_run(tmp_path, tmp_path / "run.safetensors")
    with pytest.raises(InputError, match=r"name the model's folder, .*models--somebody--tiny-lm"):
        import_run(model / "snapshots", tmp_path / "run.safetensors")


@pytest.mark.parametrize(
    ("said", "message"),
    [("../../../etc", "holds no commit, but '../../../etc'"), (_commit(2), "are one commit")],
)
def test_when_a_branch_holds_something_odd_then_it_is_refused(
    said: str, message: str, tmp_path: Path
) -> None:
    model = _model(tmp_path)
    (model / "refs" / "step5").write_text(said)
    with pytest.raises(InputError, match=message):
        import_run(model, tmp_path / "run.safetensors")
    assert not (tmp_path / "run.safetensors").exists()


STAGED = [
    "stage1-step1000-tokens4B",
    "stage1-step2000-tokens9B",
    "stage2-ingredient1-step500-tokens2B",
    "stage2-ingredient1-step1000-tokens5B",
    "stage2-ingredient2-step500-tokens2B",
]


def _staged(folder: Path) -> Path:
    for index, name in enumerate(STAGED):
        (folder / name).mkdir(parents=True)
        save_file(_weights(float(index)), folder / name / "model.safetensors")
    return folder


def test_when_there_are_several_stages_then_they_are_asked_for_with_the_choices(
    tmp_path: Path,
) -> None:
    folder = _staged(tmp_path / "olmo")
    with pytest.raises(InputError) as caught:
        import_run(folder, tmp_path / "run.safetensors")
    assert str(caught.value).endswith(
        "holds several stages of training: stage1 (2 checkpoints), stage2-ingredient1 (2 "
        "checkpoints), stage2-ingredient2 (1 checkpoints); choose one with --stage stage1"
    )
    with pytest.raises(InputError, match="has no stage 2; stages there are stage1, stage2-ing"):
        import_run(folder, tmp_path / "run.safetensors", stage="2")


@pytest.mark.parametrize(
    ("stage", "steps", "first"),
    [("stage1", [1000, 2000], 0.0), ("stage2-ingredient1", [500, 1000], 2.0)],
)
def test_when_a_stage_is_chosen_then_its_checkpoints_alone_are_taken(
    stage: str, steps: list[int], first: float, tmp_path: Path
) -> None:
    run = import_run(_staged(tmp_path / "olmo"), tmp_path / "run.safetensors", stage=stage).run
    assert run.steps.tolist() == steps
    assert run.snapshot(0)["a.weight"][0, 0] == first


def _walk(count: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "net.0.weight": random.standard_normal((count, 3, 2)),
        "net.0.bias": random.standard_normal((count, 3)).astype(np.float16),
        "net.1.running_mean": random.standard_normal((count, 3)).astype(np.float32),
        "net.1.num_batches_tracked": np.arange(count),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_when_one_npz_holds_a_run_then_its_leading_axis_is_time(save: Any, tmp_path: Path) -> None:
    arrays = _walk()
    losses = np.linspace(1, 0, 5)
    save(tmp_path / "run.npz", steps=[0, 3, 4, 8, 20], train_loss=losses, **arrays)
    made = import_run(tmp_path / "run.npz", tmp_path / "run.safetensors", seed=4)
    run = open_trajectory(tmp_path / "run.safetensors")
    assert run.steps.tolist() == [0, 3, 4, 8, 20]
    assert (run.meta.dataset, run.meta.seed) == ("run", 4)
    assert run.meta.train_loss == tuple(losses)
    assert [info.name for info in run.tensors] == ["net.0.weight", "net.0.bias"]
    for snapshot in range(5):
        for info in run.tensors:
            expected = arrays[info.name][snapshot].astype(np.float32)
            assert np.array_equal(run.snapshot(snapshot)[info.name], expected)
        state = run.state(snapshot)
        assert np.array_equal(state["net.1.running_mean"], arrays["net.1.running_mean"][snapshot])
        assert state["net.1.num_batches_tracked"] == snapshot
    assert any("net.1.running_mean" in note for note in made.notes)


def test_when_no_array_says_the_steps_then_that_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "run.npz", w=np.ones((3, 2)))
    made = import_run(tmp_path / "run.npz", tmp_path / "run.safetensors")
    assert made.run.steps.tolist() == [0, 1, 2]
    assert made.notes[0].startswith("steps are snapshots, 0 to 2: no array 'steps' says")


@pytest.mark.parametrize("order", ["C", "F"])
def test_when_each_step_is_an_npz_then_the_folder_is_one_of_checkpoints(
    order: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    values = {}
    for step in (0, 10, 200):
        values[step] = np.random.default_rng(step).standard_normal((4, 3)).astype(np.float32)
        np.savez(folder / f"step_{step}.npz", w=np.asarray(values[step], order=order))
    run = import_run(folder, tmp_path / "run.safetensors").run
    assert run.steps.tolist() == [0, 10, 200]
    import_run(folder, None)
    for opened in (run, open_trajectory(folder)):
        for index, step in enumerate(values):
            assert np.array_equal(opened.snapshot(index)["w"], values[step])


def _npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def _npy(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array(held, array, allow_pickle=True)
    return held.getvalue()


class _Evil:
    """Writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.file.write_text, ("x",))


def test_when_an_npz_holds_objects_then_nothing_is_unpickled(tmp_path: Path) -> None:
    evil = _Evil(tmp_path / "was-unpickled")
    path = _npz(tmp_path / "run.npz", w=_npy(np.array([evil, evil], dtype=object)))
    with pytest.raises(InputError, match="holds pickled objects, which are never loaded"):
        import_run(path, tmp_path / "run.safetensors")
    assert not evil.file.exists()
    np.load(path, allow_pickle=True)["w"]  # which would have written it
    assert evil.file.exists()


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
ODD_NPZ = {
    "takes .* bytes by its shape": {"w": _npy(np.ones((3, 2)))[:-8]},
    "takes 4,000,000,000,": {
        "w": b"\x93NUMPY\x01\x00" + len(HUGE).to_bytes(2, "little") + HUGE + b"\0" * 24
    },
    "is not a .npz file": {"w": b"\x93NUMPY\x01\x00\x04\x00abcd"},
    "is of type": {"w": _npy(np.array(["a", "b"]))},
    "all need the same leading axis": {"w": _npy(np.ones((3, 2))), "v": _npy(np.ones((4, 2)))},
    "two or more": {"w": _npy(np.ones((1, 2)))},
    "has NaN or infinity at step 1": {"w": _npy(np.array([[1.0], [np.nan], [2.0]]))},
    "must increase": {"w": _npy(np.ones((3, 2))), "steps": _npy(np.array([1, 1, 2]))},
    "steps are whole numbers": {"w": _npy(np.ones((3, 2))), "steps": _npy(np.ones(3))},
    "one number for each of 3": {"w": _npy(np.ones((3, 2))), "train_loss": _npy(np.ones((3, 1)))},
    "holds no floating-point arrays": {"w": _npy(np.ones((3, 2), np.int64))},
    "holds no arrays": {},
}


@pytest.mark.parametrize("said", ODD_NPZ)
def test_when_an_npz_is_odd_then_one_line_says_what_is_wrong(said: str, tmp_path: Path) -> None:
    path = _npz(tmp_path / "run.npz", **ODD_NPZ[said])
    with pytest.raises(InputError, match=said) as caught:
        import_run(path, tmp_path / "run.safetensors")
    assert "run.npz" in str(caught.value)
    assert not (tmp_path / "run.safetensors").exists()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_when_bytes_of_an_npz_are_others_then_it_is_refused_or_read_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("npz")
    whole = _npz(folder / "run.npz", w=_npy(np.ones((3, 4))), v=_npy(np.zeros((3, 2))))
    content = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    whole.write_bytes(content)
    try:
        run = import_run(whole, folder / "out.safetensors").run
    except InputError:
        return
    assert run.n_snapshots == 3
    assert all(np.isfinite(values).all() for values in run.snapshot(2).values())


# --- NiNo's memory maps -------------------------------------------------------------------------


def _map(folder: Path, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float16)
    values.tofile(folder / f"{name}.dat")
    return values


def test_when_the_published_sets_are_looked_up_then_parameters_are_as_many_as_published() -> None:
    totals = {name: sum(map(math.prod, s.shapes.values())) for name, s in PUBLISHED.items()}
    assert totals == {
        "fm-16": 14_378, "c10-16": 14_666, "lm1b-3-24": 1_252_464, "lm1b-2-32": 1_666_464
    }  # fmt: skip


def test_when_a_memory_map_is_imported_then_every_number_is_where_it_was(tmp_path: Path) -> None:
    values = _map(tmp_path, "mine", (3, 7, 10))
    metrics = np.random.default_rng(2).random((3, 7, 4)).astype(np.float16)
    metrics.tofile(tmp_path / "mine_metrics.dat")
    torch.save({"b": torch.ones(2, 4), "a": torch.ones(2)}, tmp_path / "like.pt")
    asked = Asked(
        tmp_path / "mine.dat", tmp_path / "out", layout="nino-mmap", runs="0,2", every=3,
        shape="3x7x10", like=tmp_path / "like.pt", optimizer="adam",
    )  # fmt: skip
    made = import_all(asked)
    assert [one.path.name for one in made] == ["0.safetensors", "2.safetensors"]
    run = open_trajectory(tmp_path / "out" / "2.safetensors")
    assert (run.meta.dataset, run.meta.seed, run.meta.optimizer) == ("mine", 2, "adam")
    assert run.steps.tolist() == [0, 3, 6]
    for index, state in enumerate((0, 3, 6)):
        snapshot = run.snapshot(index)
        assert np.array_equal(snapshot["b"].ravel(), values[2, state, :8].astype(np.float32))
        assert np.array_equal(snapshot["a"], values[2, state, 8:].astype(np.float32))
        assert run.meta.test_loss[index] == float(metrics[2, state, 0])
        assert run.meta.test_accuracy[index] == float(metrics[2, state, 1])
        assert run.meta.train_loss[index] == float(metrics[2, state, 2])
        assert run.meta.train_accuracy[index] == float(metrics[2, state, 3])
    assert any("float16" in note for note in made[0].notes)


def test_when_a_published_set_is_named_then_nothing_else_need_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = PUBLISHED["fm-16"].__class__(2, 5, 4, PUBLISHED["fm-16"].shapes)
    monkeypatch.setitem(PUBLISHED, "fm-16", small)
    values = _map(tmp_path, "fm-16", (2, 5, 14_378))
    made = import_nino(tmp_path / "fm-16.dat", tmp_path / "out")
    assert len(made) == 2
    run = made[1].run
    assert run.steps.tolist() == [0, 4, 8, 12, 16]
    assert run.meta.optimizer == "adam"
    assert [info.name for info in run.tensors][:2] == ["fc.0.weight", "fc.0.bias"]
    assert run.tensors[0].kind == "conv"
    last = values[1, 4, -10:].astype(np.float32)
    assert np.array_equal(run.snapshot(4)["fc.8.bias"], last)
    assert "no losses: there is no fm-16_metrics.dat beside it" in made[0].notes


def test_when_a_set_lies_in_two_parts_then_runs_of_the_second_have_their_own_seeds_and_losses(
    tmp_path: Path,
) -> None:
    _map(tmp_path, "lm_p2", (2, 3, 4))
    losses = np.arange(12, dtype=np.float16).reshape(4, 3, 1)
    losses.tofile(tmp_path / "lm_metrics.dat")
    made = import_nino(tmp_path / "lm_p2.dat", tmp_path / "out", shape="2x3x4")
    assert [one.run.meta.seed for one in made] == [2, 3]
    assert made[1].run.meta.dataset == "lm"
    assert made[1].run.meta.train_loss == (9.0, 10.0, 11.0)
    assert made[1].run.meta.test_loss == ()


def test_when_a_run_has_infinity_then_the_others_are_imported_and_it_is_named(
    tmp_path: Path,
) -> None:
    values = _map(tmp_path, "mine", (3, 4, 5))
    values[1, 2, 3] = np.inf
    values.tofile(tmp_path / "mine.dat")
    made = import_nino(tmp_path / "mine.dat", tmp_path / "out", shape="3x4x5")
    assert [one.run.meta.seed for one in made] == [0, 2]
    assert any(
        note == "left out: run 1 has NaN or infinity in parameters at state 2"
        for note in made[0].notes
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0.safetensors", "2.safetensors"
    ]  # fmt: skip


ODD_MAPS: dict[str, dict[str, Any]] = {
    "does not follow from its name": {},
    "has 120 bytes, but 3 runs × 4 states × 6 parameters of float16 take 144": {"shape": "3x4x6"},
    "is not of the form RUNSxSTATESxPARAMETERS": {"shape": "3x4"},
    "has runs 0 to 2, and no run 7": {"shape": "3x4x5", "runs": "7"},
    "--every 4 leaves one of 4 states": {"shape": "3x4x5", "every": 4},
    "is one file, and 3 runs": {"shape": "3x4x5", "out": Path("one.safetensors")},
    "give --out FOLDER": {"shape": "3x4x5", "out": None},
    "--seed is not of --format nino-mmap": {"shape": "3x4x5", "seed": 3},
    "unknown format 'nino'": {"shape": "3x4x5", "layout": "nino"},
    "--shape is of --format nino-mmap": {"shape": "3x4x5", "layout": None},
    "add --format nino-mmap": {"layout": None},
}


@pytest.mark.parametrize("said", ODD_MAPS)
def test_when_a_memory_map_is_asked_for_wrongly_then_one_line_says_what_to_do(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _map(tmp_path, "mine", (3, 4, 5))
    options = {"out": tmp_path / "out", "layout": "nino-mmap"} | ODD_MAPS[said]
    with pytest.raises(InputError) as caught:
        import_all(Asked(tmp_path / "mine.dat", **options))
    assert said in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_when_the_losses_beside_are_of_another_size_then_they_are_refused(tmp_path: Path) -> None:
    _map(tmp_path, "mine", (3, 4, 5))
    np.zeros(35, np.float16).tofile(tmp_path / "mine_metrics.dat")
    with pytest.raises(InputError, match="are not 1 or 4 float16 numbers for each of 4 states"):
        import_nino(tmp_path / "mine.dat", tmp_path / "out", shape="3x4x5")


def test_when_the_network_named_is_another_then_both_counts_are_told(tmp_path: Path) -> None:
    _map(tmp_path, "mine", (3, 4, 5))
    torch.save({"w": torch.ones(2, 3)}, tmp_path / "like.pt")
    with pytest.raises(InputError, match=r"has 6 parameters, and a state of mine.dat 5"):
        import_nino(
            tmp_path / "mine.dat", tmp_path / "out", shape="3x4x5", like=tmp_path / "like.pt"
        )
