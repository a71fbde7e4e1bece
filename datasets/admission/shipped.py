"""The runs that ship with Weightcast, by content: what tells that an installation is whole.

Their files are older than checksums.
"""

from __future__ import annotations

from weightcast.datasets.dataset import SHIPPED
from weightcast.datasets.errors import InputError
from weightcast.datasets.trajectory import Trajectory

#: How a run's bytes were found to be those that were written.
CHECKSUMS, PINNED = "checksums", "shipped"
HOW = (CHECKSUMS, PINNED)

#: Content hashes by data set, in the order of the seeds.
CONTENTS = {
    "digits-mlp-adam": (
        "24cb571405fbd132826205425b1a91aad3c99bfd91083dd323b21bb10432f338",
        "49b825730cecf2ef79c4e35812ab2b22f3b7c1160e530733cb2e30ec76c44acf",
        "29798a114f1b3cba508264e6a0c3c54087e3940b037de3debe221f3ab9705388",
        "ece7481814912e837df5889cb698805e1193c160e809166bace1b9c52a71ec53",
        "37b1e264b35c99b6b958c886b3a0598c4ad7b49a14c12af6a1977eff231a08de",
        "bcf08c23823cbab47eedec202c3b713e5a014a49e74f0a0ffe678aa92ac207bb",
        "82f5d0e5efdb35b52e05c0353c3f17fc5bf5cd290b544cec7c4938ed26dc1ef3",
        "a61517d97c5a43f90aa69b52e6dbce86643956cd077898e6e19a3e13550b133b",
        "4c19b52c02069b127072968f43de596d2f7c8de7558a6689e70525f358c6ffeb",
        "064d2d092f3513da1395bccef40d1413ae5bbea089fd594c728f4c3d32427d70",
        "f4545385d2c5353c7d7d9d3d9f258c6c325d1b99b3e20e42e4decc40d830a18d",
        "bbc88ba825468ba7c622d63d73c081b4d798e580d664baab46a89e5a837ea012",
    ),
    "digits-mlp-sgd": (
        "2f89cf4d8f2637c83693813dee4da2fe524aacc8d33b464c98a93a36ccbb9735",
        "0dff495154f36b4d9e66c69167e612f62b3130d7ae543899718e9fd7e0f9225b",
        "1a5e3b00ba2982cacb89a07ad23246f24cf87714b66c075740ba881c61684bfc",
        "2ffb0f95600f8588a5d3011bb864c75a55bdd40e9a9b5bace031ed4f18e487e6",
        "63971cdebbe6beeeafa52335b5bce437aa6e0c6c9e2782fb96505d97bdfb0690",
        "001acd09eb3cc40cf544ccaec0469e91b2f4414878c32cf6c4aa41a1c32e5dc0",
        "7c93890d29f11ebbb18a8667505e521bc9e096de479ddcb384a1a5f28cb45bb5",
        "d2916b41d4c1a840464bb64a4595dd6cb60fa0a7edbc8976aacc530f6757c926",
        "40f224f00422591602baf4e27007c655cf24c26268a6f21a1931cb9aa0e90b11",
        "eadc28dc7e991b91d390b6a91a2c8984b337df9864d5e8ac7e83ac2c0a429302",
        "e497be338f50028a79b936f282c1c86859a160bf5598368f13ce3e215541bf07",
        "8d1e2b32d926e3307b81dc2d2a395ff24196a63d28479ea39ad05c90c0e03895",
    ),
}


def shipped(run: Trajectory, content: str) -> str:
    """Return `PINNED` for a run with the bytes of one that ships, an empty string for any other.

    Parameters
    ----------
    run : Trajectory
    content : str
        Its content hash.

    Raises
    ------
    InputError
        If it is read from where the shipped runs lie and is none of them.
    """
    contents = dict(enumerate(CONTENTS.get(run.meta.dataset, ())))
    if contents.get(run.meta.seed) == content:
        return PINNED
    if run.file is not None and run.file.is_relative_to(SHIPPED):
        raise InputError(
            f"{run.file} is not the file that ships with Weightcast, it was damaged or changed; "
            "install Weightcast again, and keep runs of your own in a folder of your own (--data)"
        )
    return ""
