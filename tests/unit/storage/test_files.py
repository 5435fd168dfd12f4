"""Files that are complete or absent, and the JSON files of a run."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from kgtool.errors import ConfigError, KGToolError, RunError
from kgtool.storage.files import (
    alone_in,
    atomic_folder,
    atomic_write,
    read_json,
    remove_leftovers,
    write_json,
)


def only(folder: Path, *names: str) -> bool:
    """Whether the folder has exactly these files, including hidden ones."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(path) as file:
        file.write("é\n日\n")
    assert path.read_bytes() == "é\n日\n".encode()
    assert only(path.parent, "a.txt")


def test_bytes_and_a_path_as_text(tmp_path):
    with atomic_write(str(tmp_path / "a.bin"), "wb") as file:
        file.write(b"\0\r\n\xff")
    assert (tmp_path / "a.bin").read_bytes() == b"\0\r\n\xff"


def test_the_old_file_stands_until_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [True, False])
def test_an_error_in_the_block_leaves_the_file_as_it_was(tmp_path, error, before):
    path = tmp_path / "a.txt"
    if before:
        path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert only(tmp_path, *(["a.txt"] if before else []))
    assert not before or path.read_text() == "old"


def test_a_write_that_hits_a_limit_leaves_the_file_as_it_was(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.txt"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(KGToolError) as caught, atomic_write(path) as file:
            file.writelines(["x" * 10_000] * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"cannot write {path}: {os.strerror(errno.EFBIG)}. ")
    assert caught.value.exit_code == 1
    assert path.read_text() == "old"
    assert only(tmp_path, "a.txt")


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_full_disk_at_the_end_leaves_the_file_as_it_was(tmp_path, monkeypatch, owner, name):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "internal name")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(KGToolError) as caught, atomic_write(path) as file:
        file.write("new")
    assert str(caught.value).startswith(f"cannot write {path}: No space left on device. ")
    assert path.read_text() == "old"
    assert only(tmp_path, "a.txt")


def test_the_data_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    fsync, replace, calls = os.fsync, Path.replace, []

    def spy_fsync(descriptor):
        found = os.fstat(descriptor)
        folder = stat.S_ISDIR(found.st_mode)
        calls.append(("fsync", tmp_path if folder else found.st_size))
        fsync(descriptor)

    def spy_replace(path, target):
        calls.append(("replace", path.stat().st_size))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("four")
    assert calls == [("fsync", 4), ("replace", 4), ("fsync", tmp_path)]


def test_the_file_before_is_kept(tmp_path):
    path, before = tmp_path / "a.txt", tmp_path / "b.txt"
    for text in "1", "2", "3":
        with atomic_write(path, before=before) as file:
            file.write(text)
    assert (path.read_text(), before.read_text()) == ("3", "2")
    assert only(tmp_path, "a.txt", "b.txt")


def test_what_is_cut_short_moves_nothing(tmp_path):
    path, before = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("2")
    before.write_text("1")

    def write_half() -> None:
        with atomic_write(path, before=before) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (path.read_text(), before.read_text()) == ("2", "1")


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    long = "x" * 200
    zeros = "0" * 16
    theirs = [
        ".a.txt.tmp", "a.txt", f".b.txt.{zeros}.tmp", f"a.txt.{zeros}.tmp", f".a.txt.0{zeros}.tmp",
        f".a.txt.{zeros}.tmp.gz", f".a.txt.{'g' * 16}.tmp",
    ]  # fmt: skip
    for name in (*theirs, f".a.txt.{'a1' * 8}.tmp", f".{long[:40]}.{'0' * 16}.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, ("a.txt", long))
    assert only(tmp_path, *theirs)


def test_a_leftover_is_what_a_killed_process_leaves(tmp_path):
    path = tmp_path / ("x" * 99)
    child = os.fork()
    if not child:
        with atomic_write(path) as file:
            file.write("half")
            file.flush()
            os._exit(0)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "half"
    remove_leftovers(tmp_path, [path.name])
    assert only(tmp_path)


def test_a_folder_is_held_once(tmp_path):
    def again() -> None:
        with alone_in(tmp_path):
            pytest.fail("the block must not run")

    wanted = r"another process is training .*\. Remedy: "
    with alone_in(tmp_path), pytest.raises(RunError, match=wanted):
        again()
    with alone_in(tmp_path):
        assert only(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_read_only_folder(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(KGToolError, match=r"a\.txt: Permission denied\."):
            write_json(tmp_path / "a.txt", 1)
    finally:
        tmp_path.chmod(0o755)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert only(tmp_path, "a.txt")


@pytest.mark.parametrize("name", ["file/a.txt", "file/folder/a.txt"])
def test_a_file_where_a_folder_should_be(tmp_path, name):
    (tmp_path / "file").write_text("old")
    with (
        pytest.raises(KGToolError, match=r"a\.txt: a part of .* is a file, not a folder\."),
        atomic_write(tmp_path / name),
    ):
        pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(KGToolError, match=r"it is a folder\."), atomic_write(tmp_path):
        pytest.fail("the block must not run")


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KGToolError, match="not a regular file"), atomic_write(tmp_path / "pipe"):
        pytest.fail("the block must not run")
    assert (tmp_path / "pipe").is_fifo()


def test_a_name_too_long_for_the_disk(tmp_path):
    with (
        pytest.raises(KGToolError, match="File name too long"),
        atomic_write(tmp_path / ("x" * 256)),
    ):
        pytest.fail("the block must not run")


def test_the_longest_name_that_the_disk_takes(tmp_path):
    path = tmp_path / ("é" * 127)
    with atomic_write(path) as file:
        file.write("x")
    assert path.read_text() == "x"


def test_a_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "elsewhere" / "a.txt"
    link.symlink_to(target)
    for text in ("first", "second"):
        with atomic_write(link) as file:
            file.write(text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert only(target.parent, "a.txt")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_are_those_of_a_new_file(tmp_path, umask, mode):
    previous = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a.txt") as file:
            file.write("x")
    finally:
        os.umask(previous)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_errors_of_the_block_about_other_files_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "missing").read_bytes()
    assert only(tmp_path)


def test_two_writers_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write("first")
        second.write("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert only(tmp_path, "a.txt")


def test_unknown_mode(tmp_path):
    with pytest.raises(ValueError, match="no mode 'a'"), atomic_write(tmp_path / "a", "a"):  # type: ignore[call-overload]
        pytest.fail("the block must not run")


def test_json_reads_back_in_order(tmp_path):
    path = tmp_path / "a.json"
    data = {"z": [1, 2.5, None], "a": {"label": "日本 é", "ok": True}}
    write_json(path, data)
    assert read_json(path) == data
    assert list(read_json(path)) == ["z", "a"]
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(data, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("data", "error"), [(float("nan"), ValueError), (float("inf"), ValueError), ({1j}, TypeError)]
)
def test_data_that_json_cannot_hold_leaves_the_file_as_it_was(tmp_path, data, error):
    write_json(tmp_path / "a.json", "old")
    with pytest.raises(error):
        write_json(tmp_path / "a.json", {"loss": data})
    assert read_json(tmp_path / "a.json") == "old"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 1),
        (b'{\n  "a": 1,\n  "b": ', 3),
        (b'{\n  "a": 1\n  "b": 2\n}\n', 3),
        (b'{}\n{"more": 1}\n', 2),
        (b'{\n "a": "\xff"\n}', 2),
        (b"[" * 100_000, 1),
    ],
)
def test_damaged_json_names_file_line_and_remedy(tmp_path, data, line):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(RunError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}, line {line}: damaged JSON (")
    assert "Remedy: restore" in str(caught.value)


def test_json_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_missing_json(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*a\.json: No such file"):
        read_json(tmp_path / "a.json")


def test_a_folder_is_there_when_it_is_whole(tmp_path):
    place = tmp_path / "a" / "kg"
    with atomic_folder(place) as folder:
        (folder / "x").write_text("1")
        assert not place.exists()
    assert (place / "x").read_text() == "1"
    assert [path.name for path in place.parent.iterdir()] == ["kg"]


def test_a_folder_that_is_cut_short_is_not_there(tmp_path):
    def begin() -> None:
        with atomic_folder(tmp_path / "kg") as folder:
            (folder / "x").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_only_an_empty_place(tmp_path):
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "x").touch()
    assert (tmp_path / "empty" / "x").exists()
    (tmp_path / "file").touch()
    for name in ("empty", "file"):
        taken = pytest.raises(ConfigError, match=f"{name} exists already. Remedy")
        with taken, atomic_folder(tmp_path / name):
            raise AssertionError("the block ran")
    unfit = pytest.raises(KGToolError, match=r"cannot write .*file/kg: a part of")
    with unfit, atomic_folder(tmp_path / "file" / "kg"):
        raise AssertionError("the block ran")
    assert (tmp_path / "empty" / "x").exists()
