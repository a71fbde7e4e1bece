"""What a training run needs to go on after it was killed, saved beside its recording now and then.

It has the weights, what the optimizer keeps, the state of the random numbers, and how much of the
recording belongs to it. The order of the batches follows from recipe, seed and step. A run that
goes on from it is, on the same machine and with the same libraries, the one that was not
interrupted, to the last bit.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weightcast.datasets.errors import InputError
from weightcast.datasets.evaluator import network_state
from weightcast.datasets.files.partial_file import whole_file
from weightcast.datasets.files.stacked import metadata_to_json
from weightcast.datasets.recorded.leftovers import state_name
from weightcast.datasets.trajectory import Metadata

#: Seconds of training between two savings at least.
LEAST_SECONDS = 2.0
#: The share of time that saving may take.
SHARE = 0.02

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    step : int
    checksums : dict of str to str
        Of what is recorded up to it.
    history : dict of str to list of float
        What was measured at each snapshot.
    seconds : float
        Spent training.
    """

    step: int
    checksums: dict[str, str]
    history: dict[str, list[float]]
    seconds: float


class TrainingState:
    """The saved state of one run.

    Parameters
    ----------
    path : Path
        The trajectory that the run will be.
    meta : Metadata
        What is known of the run before it is trained: what was left of another is not gone on with.
    network : Module
    optimizer : Optimizer
    """

    def __init__(
        self, path: Path, meta: Metadata, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.path = state_name(path)
        self._run = json.dumps({"run": metadata_to_json(meta), "where": _where()}, sort_keys=True)
        self._network, self._optimizer = network, optimizer
        self._content: dict[str, Any] = {}
        self._cost, self._saved = 0.0, time.perf_counter()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        passed = time.perf_counter() - self._saved
        return passed >= max(LEAST_SECONDS, self._cost / SHARE)

    def save(self, progress: Progress, begun: float) -> None:
        """Save the run as it is now, whole or not at all.

        Parameters
        ----------
        progress : Progress
        begun : float
            When saving began, by ``time.perf_counter``: all of it counts as its cost.

        Raises
        ------
        InputError
            If it cannot be written; what was saved before stays.
        """
        content = {
            "run": self._run,
            "progress": asdict(progress),
            "weights": self._tensors(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self._on_gpu:
            content["random on the GPU"] = torch.cuda.get_rng_state()
        with whole_file(self.path) as partial:
            torch.save(content, partial)
        self._saved = time.perf_counter()
        self._cost = self._saved - begun

    def read(self) -> Progress | None:
        """Return how far the run was that was saved; None where none was.

        What was saved of another run, with other libraries or on another machine, is passed over.
        """
        if not self.path.exists():
            return None
        try:
            self._content = torch.load(self.path, weights_only=True, map_location="cpu")
            if self._content["run"] != self._run:
                raise InputError("it is of another recipe, machine or version")
            return Progress(**self._content["progress"])
        except Exception as error:  # damaged files make parsers raise anything
            self.pass_over(" ".join(str(error).split())[:200])
            return None

    def pass_over(self, why: str) -> None:
        """Say why what was saved is of no use."""
        self._content = {}
        _log.warning("%s is not gone on with, the run begins anew: %s", self.path, why)

    def restore(self) -> None:
        """Set network, optimizer and random numbers to what was read."""
        content, self._content = self._content, {}
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(content["weights"][name])
        self._optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["random"])
        if self._on_gpu:
            torch.cuda.set_rng_state(content["random on the GPU"])

    def remove(self) -> None:
        """Remove what was saved."""
        self.path.unlink(missing_ok=True)

    @property
    def _on_gpu(self) -> bool:
        return any(tensor.is_cuda for tensor in self._tensors().values())

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return all that training changes; what is frozen the recipe rebuilds."""
        trained = {
            name: parameter.detach()
            for name, parameter in self._network.named_parameters()
            if parameter.requires_grad
        }
        return {**trained, **network_state(self._network)}


def _where() -> dict[str, str]:
    """Name what the last bit depends on beside the recipe."""
    return {
        "weightcast": version("weightcast"),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }
