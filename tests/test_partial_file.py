"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from weightcast.datasets import InputError
from weightcast.datasets.files.partial_file import (
    PartialFile,
    remove_stale,
    whole_file,
    write_bytes,
    write_text,
)


def test_when_a_file_is_written_then_only_it_is_there(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "é\n")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xc3\xa9\n"


def test_when_the_writer_fails_then_the_older_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_bytes(path, b"old")

    def write() -> None:
        with whole_file(path) as partial:
            partial.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/a.txt", "folder", "x" * 300])
def test_when_a_file_cannot_be_written_then_one_line_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot be written: \w") as caught:
        write_text(tmp_path / name, "text")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_when_two_write_one_name_at_a_time_then_each_is_whole_and_the_last_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    first, second = PartialFile(path), PartialFile(path)
    first.put(b"first", 0)
    second.put(b"second!", 0)
    second.finish()
    assert path.read_bytes() == b"second!"
    first.finish()
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_when_another_process_still_writes_then_its_file_is_not_taken_for_a_stale_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    code = (
        "import sys; from pathlib import Path\n"
        "from weightcast.datasets.files.partial_file import PartialFile\n"
        "file = PartialFile(Path(sys.argv[1])); file.put(b'theirs', 0)\n"
        "print(flush=True); sys.stdin.readline(); file.finish()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        write_bytes(path, b"ours")
        remove_stale(tmp_path)
        other.communicate(b"\n")
    assert other.returncode == 0
    assert path.read_bytes() == b"theirs"


def test_when_a_writer_was_killed_then_the_next_one_removes_what_it_left(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"  # no pattern
    code = (
        "import os, sys; from pathlib import Path\n"
        "from weightcast.datasets.files.partial_file import PartialFile\n"
        "PartialFile(Path(sys.argv[1])).put(b'half', 0); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(os.listdir(tmp_path)) == 1
    write_bytes(tmp_path / "b", b"another")
    assert len(os.listdir(tmp_path)) == 2
    write_bytes(path, b"whole")
    assert sorted(os.listdir(tmp_path)) == ["a[1].txt", "b"]
