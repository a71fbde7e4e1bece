"""What methods that train a network share: the training rows, the training loop and the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.device import torch_device
from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory

CHECK_EVERY = 50  # updates between looks at the validation loss
WARM_UP = 100  # updates until the rate is the full one
MEMORY = 100  # updates that the mean of the weights goes back, about
WORTH = 0.01  # the relative improvement that is waited for
#: Rows that a network sees at once when it forecasts: more fall out of a CPU's cache, and of fewer
#: a GPU would be handed little, often.
_SLICE = {"cpu": 512, "cuda": 2**16}

_copies: WeakKeyDictionary[torch.nn.Module, torch.nn.Module] = WeakKeyDictionary()


def check_budget(method: Any) -> None:
    """See that the parameters of a method's training make sense.

    Raises
    ------
    InputError
        Naming the first that does not.
    """
    least = {"updates": 1, "patience": 1, "batch_size": 1, "rows": 4}
    for name, value in method.get_params().items():
        if name == "learning_rate" and not value > 0:
            raise InputError(f"learning_rate is {value}; it must be above 0")
        if name in least and (int(value) != value or value < least[name]):
            raise InputError(f"{name} is {value}; it must be a whole number from {least[name]} on")


def on_device(network: torch.nn.Module, name: str) -> torch.nn.Module:
    """Return a network on a device: itself on the CPU, elsewhere a copy kept for the next call.

    A fitted method holds its networks on the CPU alone, so pickles open on machines without a GPU.
    """
    device = torch_device(name)
    if device.type == "cpu":
        return network
    if network not in _copies:
        _copies[network] = copy.deepcopy(network).to(device)
    return _copies[network]


def run_network(network: torch.nn.Module, name: str, width: int, *inputs: NDArray[Any]) -> Floats:
    """Return what a network makes of rows, in slices that bound the memory in between.

    Parameters
    ----------
    network : torch.nn.Module
    name : str
        The device to run on.
    width : int
        Numbers that come out for each row.
    *inputs : ndarray, each (c, ...)
        float32 values, or integers for embeddings.

    Returns
    -------
    ndarray, shape (c, width)
    """
    import torch

    network, device = on_device(network, name), torch_device(name)
    made = np.empty((len(inputs[0]), width), np.float32)
    with torch.no_grad():
        at_once = _SLICE[device.type]
        for start in range(0, len(made), at_once):
            rows = slice(start, start + at_once)
            given = (torch.from_numpy(np.ascontiguousarray(i[rows])).to(device) for i in inputs)
            made[rows] = network(*given).cpu().numpy()
    return made


@dataclass(frozen=True)
class Rows:
    """Coordinates drawn at random from whole runs.

    Attributes
    ----------
    values : ndarray, shape (r, T)
        All snapshots of the task, w_0 to its last horizon.
    source : ndarray of int, shape (r, 2)
        Each row's run and tensor, as indices.
    """

    values: Floats
    source: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)


def draw_rows(
    runs: Sequence[Trajectory],
    task: ForecastTask,
    count: int,
    random: np.random.Generator,
    group_of: Callable[[TensorInfo], str] = lambda tensor: "",
) -> dict[str, Rows]:
    """Draw up to ``count`` coordinates of each group, whatever the block size or the runs' order.

    Parameters
    ----------
    runs : sequence of Trajectory
    task : ForecastTask
    count : int
    random : Generator
    group_of : callable
        The group of a tensor; all are in one by default.

    Returns
    -------
    dict of str to Rows
        Groups that have coordinates.
    """
    places: dict[tuple[int, str], int] = {}
    totals: dict[str, int] = {}
    order = sorted(enumerate(runs), key=lambda pair: pair[1].meta.seed)
    for r, run in order:
        for info in run.tensors:
            group = group_of(info)
            places[r, info.name] = totals.setdefault(group, 0)
            totals[group] += info.size
    # Without a permutation of all coordinates, which of large networks would take gigabytes.
    chosen = {
        group: np.sort(random.choice(size, min(count, size), replace=False, shuffle=False))
        for group, size in sorted(totals.items())
    }
    values: dict[str, list[Floats]] = {group: [] for group in chosen}
    sources: dict[str, list[NDArray[np.int64]]] = {group: [] for group in chosen}
    for r, run in order:
        index = {info.name: i for i, info in enumerate(run.tensors)}
        for pair in task.pairs(run):
            group = group_of(pair.tensor)
            first = places[r, pair.tensor.name] + pair.start
            low, high = np.searchsorted(chosen[group], [first, first + len(pair.context)])
            if high > low:
                rows = chosen[group][low:high] - first
                values[group].append(np.concatenate([pair.context[rows], pair.target[rows]], 1))
                sources[group].append(np.full((high - low, 2), (r, index[pair.tensor.name])))
    return {
        group: Rows(np.concatenate(found), np.concatenate(sources[group]))
        for group, found in values.items()
        if found
    }


@dataclass(frozen=True)
class Trained:
    """How a network's training went.

    Attributes
    ----------
    loss : float
        The best validation loss.
    update : int
        The update that it was found after.
    updates : int
        Updates that were made.
    stopped : bool
        Whether it ended because nothing improved any more, and not at the most updates allowed.
    """

    loss: float
    update: int
    updates: int
    stopped: bool

    def told(self) -> dict[str, Any]:
        """Return this as diagnostics."""
        return {
            "validation_loss": self.loss,
            "updates": self.update,
            "updates_made": self.updates,
            "stopped_improving": self.stopped,
        }


def train_network(
    network: torch.nn.Module,
    batch_loss: Callable[[NDArray[np.int64]], torch.Tensor],
    count: int,
    check_loss: Callable[[torch.nn.Module], torch.Tensor],
    random: np.random.Generator,
    *,
    learning_rate: float,
    updates: int,
    patience: int,
    batch_size: int,
) -> Trained:
    """Train with Adam until the validation loss improves no more, and keep the best mean weights.

    The rate rises over the first `WARM_UP` updates and then stays; what is looked at, and kept, is
    a moving mean of the weights over the last `MEMORY` updates or so. The mean is about as good as
    weights at the end of a falling rate, and needs no guess of how many updates there will be.

    Training ends once ``patience`` checks, one every `CHECK_EVERY` updates, have not together
    improved the best validation loss by `WORTH` of it.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in place.
    batch_loss : callable
        The network's loss on some of the training rows.
    count : int
        How many training rows there are.
    check_loss : callable
        A network's loss on validation rows.
    random : Generator
        Shuffles the rows.
    learning_rate, updates, patience, batch_size
        As in `weightcast.methods.learned.LearnedForecaster`.
    """
    import torch

    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARM_UP, total_iters=WARM_UP)
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_move)
    batches = _batches(count, min(batch_size, -(-count // 4)), random)
    best, best_update, state = np.inf, 0, _state(network)
    waited_for, waited, update = np.inf, 0, 0
    while update < updates and waited < patience:
        update += 1
        optimizer.zero_grad()
        batch_loss(next(batches)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        warm_up.step()
        mean.update_parameters(network)
        if update % CHECK_EVERY and update != updates:
            continue
        with torch.no_grad():
            loss = float(check_loss(mean.module))
        if loss < best:
            best, best_update, state = loss, update, _state(mean.module)
        waited += 1
        if loss < waited_for * (1 - WORTH):
            waited_for, waited = loss, 0
    network.load_state_dict(state)
    network.eval()
    return Trained(best, best_update, update, waited >= patience)


def _move(means: Any, weights: Any, taken: torch.Tensor | int) -> None:
    """Move means towards weights; early on, when there are few, by more."""
    share = max(1 / MEMORY, 8 / (int(taken) + 8))
    for mean, weight in zip(means, weights, strict=True):
        mean.lerp_(weight, share)


def _state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def _batches(count: int, size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Shuffle the rows anew every epoch, for ever; batches are as equal as they can be."""
    while True:
        yield from np.array_split(random.permutation(count), -(-count // size))
