"""Durable files: the old one or the new one, never a part of one."""

from pathlib import Path

import pytest

from training.durable import replace_file, write_file


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    replace_file(path, lambda draft: draft.write_bytes(path.read_bytes() + b" and new"))
    assert path.read_bytes() == b"old and new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def fail(draft: Path) -> None:
        draft.write_bytes(b"ne")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file", []
    monkeypatch.setattr("training.durable.sync", lambda p: synced.append((p.name, path.exists())))
    write_file(path, b"new")
    assert synced == [(".file.draft", False), (tmp_path.name, True)]
