"""Batch-norm statistics of one's own data, under the weights that a network has now.

Statistics belong to the weights under which they were computed. Those of a forecast are the means
over some of the training data, as is usual for averaged weights (Izmailov et al. 2018, arXiv
1803.05407); `torch.optim.swa_utils.update_bn` does the same for batches that are no mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from weightcast.datasets import InputError
from weightcast.datasets.evaluator import batch_norms
from weightcast.datasets.recording.observed import bare


def has_statistics(model: nn.Module) -> bool:
    """Say whether a network has batch norms that keep statistics."""
    return bool(batch_norms(bare(model)))


def re_estimate(model: nn.Module, batches: Iterable[Any]) -> int:
    """Give every batch norm the mean statistics of some batches; return how many there were.

    Parameters
    ----------
    model : Module
        Which is called with each batch.
    batches : iterable
        Of inputs, of tuples or lists that begin with the inputs, or of mappings of keyword
        arguments. A data loader will do.

    Raises
    ------
    InputError
        If there is no batch.
    """
    network = bare(model)
    norms = batch_norms(network)
    device = next(network.parameters()).device
    momenta, modes = [norm.momentum for norm in norms], [(m, m.training) for m in network.modules()]
    count = 0
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        with torch.no_grad():
            for batch in batches:
                _call(network, batch, device)
                count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    if not count:
        raise InputError(
            "batches gives no batch to estimate batch-norm statistics on; a generator gives its "
            "batches once: give a list of them, or a data loader"
        )
    return count


def _call(network: nn.Module, batch: Any, device: torch.device) -> None:
    if isinstance(batch, Mapping):
        network(**{key: _moved(value, device) for key, value in batch.items()})
    elif isinstance(batch, tuple | list):
        network(_moved(batch[0], device))
    else:
        network(_moved(batch, device))


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
