"""Sentences of film reviews, rated by people: what the language networks are fine-tuned on."""

from __future__ import annotations

import numpy as np
import torch

from weightcast.datasets.errors import InputError
from weightcast.datasets.examples.examples import Examples
from weightcast.datasets.fetching.fetch import fetched_files
from weightcast.datasets.networks.pretrained import load_tokenizer

#: Ratings run from -4 to 4; nearer to 0 than this, people do not agree.
LEAST_RATING = 0.3
#: Rows that go through a network at once in measuring: a batch's memory, not more.
_AT_ONCE = 16


def movie_reviews(tokenizer: str, length: int = 32) -> Examples:
    """10,311 sentences from film reviews, positive or negative, as tokens.

    Sentences and their mean rating over 20 people are from Hutto and Gilbert's VADER (ICWSM 2014),
    after Pang and Lee (2005). In a fixed random order, every tenth sentence is for testing.

    Parameters
    ----------
    tokenizer : str
        Whose tokens: what `weightcast.datasets.networks.pretrained.load_tokenizer` takes.
    length : int
        Tokens; longer sentences are cut, shorter ones padded.

    Raises
    ------
    InputError
        If sentences or tokenizer have yet to be fetched, or the tokenizer cannot pad.
    """
    path = fetched_files("movie-reviews")["movieReviewSnippets_GroundTruth.txt"]
    sentences, labels = read_sentences(path.read_text(encoding="latin-1"))
    order = np.random.default_rng(20140601).permutation(len(sentences))
    encode = load_tokenizer(tokenizer)
    if encode.pad_token_id is None:
        raise InputError(f"the tokenizer of {tokenizer} has no padding token; name another model")
    tokens = encode(
        [sentences[i] for i in order],
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )["input_ids"]
    y = torch.tensor([labels[i] for i in order], dtype=torch.int64)
    test = torch.arange(len(y)) % 10 == 9
    return Examples(
        tokens[~test],
        y[~test],
        tokens[test],
        y[test],
        "film-review sentences (Hutto & Gilbert 2014)",
        "MIT",
        at_once=_AT_ONCE,
    )


def read_sentences(text: str) -> tuple[list[str], list[int]]:
    r"""Read lines of id, mean rating and sentence; return sentences and labels, 1 for positive.

    Examples
    --------
    >>> read_sentences("1\t2.3\tA joy.\n2\t-0.1\tMeh.\n3\t-1.5\tA bore.")
    (['A joy.', 'A bore.'], [1, 0])
    """
    sentences, labels = [], []
    for line in text.splitlines():
        _, rating, sentence = line.split("\t", 2)
        if abs(float(rating)) > LEAST_RATING:
            sentences.append(sentence)
            labels.append(int(float(rating) > 0))
    return sentences, labels
