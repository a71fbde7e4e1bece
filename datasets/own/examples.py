"""Examples of one's own: rows by their numbers, and a loss that is the plugin's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from weightcast.datasets.errors import InputError
from weightcast.datasets.examples.examples import Examples
from weightcast.datasets.own.network import BATCH_SIZE, OwnNetwork, gives, has_data, usual_loss
from weightcast.datasets.own.rows import Rows, hash_of, read_rows, same_random_numbers

#: Numbers of input, and examples, that go through a network at once while it is measured.
_NUMBERS, _EXAMPLES = 2**17, 1024


@dataclass(frozen=True)
class OwnExamples(Examples):
    """Examples whose inputs are numbers of rows; ``loss`` looks the rows up.

    Attributes
    ----------
    name : str
        The data set's.
    own : OwnNetwork
    train, test : Rows or None
        Without training data the loss is of the model alone, and there is one example: all of it.
    """

    name: str = field(kw_only=True)
    own: OwnNetwork = field(kw_only=True)
    train: Rows | None = field(kw_only=True)
    test: Rows | None = field(kw_only=True)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over all tensors, their types and shapes."""
        return hash_of(self.train, self.test)

    def loss(self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss_on(network, self._rows(x), x)

    def loss_on(self, network: torch.nn.Module, rows: Rows | None, x: torch.Tensor) -> torch.Tensor:
        """Return the mean loss on rows of the training or of the test data."""
        with users_code(self.name, "loss()"):
            # Of the model alone, where there are no data.
            found = self.own.loss(network, *([] if rows is None else [rows.at(x)]))
        return _scalar(found, f"data set {self.name}: loss()")

    def measured(
        self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[float, float | None]:
        rows = self._rows(x)
        if rows is not None and not gives(self.own, "loss") and not gives(self.own, "accuracy"):
            inputs, targets = rows.at(x)
            outputs = network(inputs)
            accuracy = None
            if not targets.is_floating_point():
                accuracy = float((outputs.argmax(dim=-1) == targets).float().mean())
            return float(usual_loss(outputs, targets)), accuracy
        loss = float(self.loss_on(network, rows, x))
        if rows is None or not gives(self.own, "accuracy"):
            return loss, None
        with users_code(self.name, "accuracy()"):
            return loss, float(self.own.accuracy(network, rows.at(x)))

    def _rows(self, x: torch.Tensor) -> Rows | None:
        """Return the rows that some numbers are of: those of the test data come after the others.

        Nothing ever asks for both at once.
        """
        return self.train if int(x.flatten()[0]) < len(self.train_y) else self._test_rows

    @cached_property
    def _test_rows(self) -> Rows | None:
        return None if self.test is None else _Shifted.of(self.test, len(self.train_y))


@dataclass(frozen=True)
class _Shifted(Rows):
    """Rows whose numbers begin after those of others."""

    first: int = 0

    @classmethod
    def of(cls, rows: Rows, first: int) -> _Shifted:
        return cls(rows.batch, rows.count, rows.loader_batch, first)

    def at(self, rows: torch.Tensor) -> Any:
        return super().at(rows - self.first)


def load_own(own: OwnNetwork, name: str) -> OwnExamples:
    """Read the data of one's own, and see that the loss can be called with them.

    Raises
    ------
    InputError
        If they are not what `OwnNetwork` asks for.
    """
    train = _read(own.train, name, "train()") if has_data(own) else None
    test = _read(own.test, name, "test()") if train is not None and gives(own, "test") else None
    _check_signature(own, name, train is not None)
    if (
        train is not None
        and own.batch_size is None
        and train.loader_batch not in (None, BATCH_SIZE)
    ):
        raise InputError(
            f"data set {name}: its DataLoader hands over {train.loader_batch} examples at once; "
            f"say by how many networks are trained, e.g. batch_size = {train.loader_batch}"
        )
    count, more = (1, 0) if train is None else (train.count, 0 if test is None else test.count)
    at_once = None
    if train is not None:
        at_once = own.batch_size or BATCH_SIZE
        if not gives(own, "loss"):  # the usual ones are means of single examples' losses
            at_once = max(at_once, min(_EXAMPLES, _NUMBERS // train.widest))
    return OwnExamples(
        train_x=torch.arange(count),
        train_y=torch.zeros(count, dtype=torch.int64),
        test_x=torch.arange(count, count + more),
        test_y=torch.zeros(more, dtype=torch.int64),
        source=own.source,
        licence=own.licence,
        at_once=at_once,
        name=name,
        own=own,
        train=train,
        test=test,
    )


@contextmanager
def users_code(name: str, what: str) -> Iterator[None]:
    """Say in one line what failed in a class that a plugin gives.

    Raises
    ------
    InputError
        Naming the data set, the method and what it raised.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(
            f"data set {name}: {what} fails: {type(error).__name__}: {said}"
        ) from error


def _read(give: Callable[[], Any], name: str, what: str) -> Rows | None:
    with same_random_numbers(), users_code(name, what):
        data = give()
        return None if data is None else read_rows(data, f"data set {name}: {what}")


def _check_signature(own: OwnNetwork, name: str, of_batches: bool) -> None:
    arguments = (None, None) if of_batches else (None,)
    try:
        inspect.signature(own.loss).bind(*arguments)
    except TypeError:
        form = "loss(self, model, batch)" if of_batches else "loss(self, model)"
        why = "has train()" if of_batches else "has no train()"
        raise InputError(
            f"data set {name} {why}, so its loss must be {form}; it is "
            f"loss{inspect.signature(type(own).loss)}"
        ) from None


def _scalar(found: Any, what: str) -> torch.Tensor:
    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise InputError(f"{what} returned {shape}; return a tensor of one number")
    return found.reshape(())
