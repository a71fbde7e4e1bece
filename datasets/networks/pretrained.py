"""Pretrained language models: found by name, loaded as classifiers of token sequences.

A model is named as ``transformers``' ``from_pretrained`` takes it, by its name on the hub or by a
folder, or by the name of one that ``weightcast fetch`` gets. What is loaded is an ordinary
``transformers`` model: its parameters keep the names that everybody knows them by.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weightcast.datasets.errors import InputError
from weightcast.datasets.fetching.fetch import fetched_files
from weightcast.datasets.fetching.materials import MATERIALS

#: A model's folder may hold Python code, which is not run: nobody is asked, either.
_NO_CODE = {"trust_remote_code": False}


def locate(pretrained: str) -> str:
    """Return what ``from_pretrained`` is to be given: a folder, or a name on the hub.

    Raises
    ------
    InputError
        If the model has yet to be fetched, naming the command, or if a folder is not there.
    """
    if pretrained in MATERIALS:
        if all(part.name != "config.json" for part in MATERIALS[pretrained].parts):
            raise InputError(f"'{pretrained}' is data, not a pretrained model")
        return str(fetched_files(pretrained)["config.json"].parent)
    path = Path(pretrained).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or pretrained.startswith((".", "~")) or pretrained.count("/") > 1:
        raise InputError(f"{pretrained} is not a folder with a pretrained model")
    return pretrained


def load_tokenizer(pretrained: str) -> Any:
    """Load a model's tokenizer.

    Raises
    ------
    InputError
        If `locate` does, ``transformers`` is not installed, or it finds no tokenizer.
    """
    with _loading(pretrained) as transformers:
        return transformers.AutoTokenizer.from_pretrained(locate(pretrained), **_NO_CODE)


def sequence_classifier(
    pretrained: str,
    classes: int = 2,
    *,
    widened: bool = False,
    trained_layers: int | None = None,
) -> nn.Module:
    """Load a pretrained encoder with a new head that classifies sequences of tokens.

    Called with tokens (N, length), it returns logits (N, classes).

    Parameters
    ----------
    pretrained : str
        A name on the hub, a folder, or what ``weightcast fetch`` calls it.
    classes : int
    widened : bool
        Double the width as `weightcast.datasets.networks.widening` does: the pretrained model must
        be a BERT, and a DistilBERT of twice its width comes out.
    trained_layers : int, optional
        Train the last so many layers and the head only, as in SubTuning (Kaplun et al. 2023, arXiv
        2302.06354); all by default.

    Raises
    ------
    InputError
        If the model cannot be loaded, or does not have so many layers.
    """
    with _loading(pretrained) as transformers:
        if widened:
            from weightcast.datasets.networks.widening import widen

            bert = transformers.AutoModel.from_pretrained(locate(pretrained), **_NO_CODE)
            model: Any = widen(bert, classes)
        else:
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                locate(pretrained), num_labels=classes, **_NO_CODE
            )
    if model.config.pad_token_id is None:
        raise InputError(f"{pretrained} has no padding token; name another model")
    if trained_layers is not None:
        _freeze_all_but(model, trained_layers)
    # Hooks, not a module around it: the parameters keep their names, and a forecast can be loaded
    # into the same class of model without Weightcast.
    model.register_forward_pre_hook(_mask_padding, with_kwargs=True)
    model.register_forward_hook(_only_logits)
    network: nn.Module = model
    return network


def count_trained(pretrained: str, **options: Any) -> int:
    """Count the parameters that `sequence_classifier` would train, without loading any.

    Raises
    ------
    InputError
        If the model is not there or does not have so many layers.
    """
    with _loading(pretrained) as transformers, torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(locate(pretrained), **_NO_CODE)
        model = transformers.AutoModelForSequenceClassification.from_config(config, **_NO_CODE)
    if (layers := options.get("trained_layers")) is not None:
        _freeze_all_but(model, layers)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def describe_start(network: Any, options: dict[str, Any]) -> str:
    """Say what a fine-tune really starts from, with a hash of the pretrained weights.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        Before its first step.
    options : dict
        What `sequence_classifier` was called with.

    """
    base = getattr(network, network.base_model_prefix)
    digest = hashlib.sha256()
    for name, value in base.state_dict().items():
        digest.update(f"\0{name}\0".encode())
        digest.update(value.contiguous().cpu().numpy().data)
    count = sum(parameter.numel() for parameter in network.parameters())
    named = str(options["pretrained"])
    known = MATERIALS.get(named)
    named = known.package.partition("==")[0] if known else Path(named).name or named
    width = "width-doubled " if options.get("widened") else ""
    return (
        f"{width}{named}, {type(network).__name__} of {count:,} parameters, "
        f"SHA-256 {digest.hexdigest()}"
    )


def _mask_padding(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (tokens,) = args
    # Without numbers, as when FLOPs are counted, nothing can be told to be padding.
    mask = None if tokens.is_meta else (tokens != module.config.pad_token_id).long()
    return (), {"input_ids": tokens, "attention_mask": mask, **kwargs}


def _only_logits(module: nn.Module, args: tuple[Any, ...], output: Any) -> torch.Tensor:
    logits: torch.Tensor = output.logits
    return logits


def _freeze_all_but(model: Any, layers: int) -> None:
    """Leave the last layers and what is not part of the encoder to be trained."""
    encoder = getattr(model, model.base_model_prefix)
    stack = max(
        (module for module in encoder.modules() if isinstance(module, nn.ModuleList)), key=len
    )
    if not 0 <= layers <= len(stack):
        raise InputError(f"{layers} layers cannot be trained: the model has {len(stack)}")
    encoder.requires_grad_(False)
    stack[len(stack) - layers :].requires_grad_(True)
    # A pooler stands between the last layer and the head and is part of neither.
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler.requires_grad_(True)


@contextmanager
def _loading(pretrained: str) -> Iterator[Any]:
    """Import ``transformers`` without its chatter, and turn its errors into clear ones."""
    # Tokenizers would otherwise warn whenever a worker process is forked later.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise InputError(
            "language models need the package transformers; install it with: "
            "pip install 'weightcast[language]'"
        ) from None
    said = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield transformers
    except InputError:
        raise  # a ValueError too, and clear already
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{pretrained} cannot be loaded: {reason[:300]}") from None
    finally:
        transformers.logging.set_verbosity(said)
        if bars:
            transformers.logging.enable_progress_bar()
