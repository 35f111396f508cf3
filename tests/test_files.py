"""A file is the old one or the new one, whole, at every moment."""

import threading

import pytest

from bitladder.errors import ExportError, StoreError
from bitladder.files import write_whole, written_aside


def test_until_the_block_ends_the_old_file_stands(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with written_aside(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def _write_half(path, fault):
    with written_aside(path) as aside:
        aside.write_text("half")
        raise fault


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, fault):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(fault):
        _write_half(path, fault)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_many_writers_of_one_file_leave_one_of_their_files(tmp_path):
    path = tmp_path / "f"
    contents = [str(digit) * 100_000 for digit in range(8)]
    writers = [
        threading.Thread(target=lambda text=text: [write_whole(path, text) for _ in range(20)])
        for text in contents
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or path.read_text() in contents
    for writer in writers:
        writer.join()
    assert path.read_text() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("refusal", [StoreError, ExportError])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, refusal):
    with pytest.raises(refusal, match=r"absent/f: cannot write: No such file or directory; free"):
        write_whole(tmp_path / "absent" / "f", b"", refusal=refusal)


def test_a_text_is_written_as_it_is(tmp_path):
    write_whole(tmp_path / "f", "ä\r\n\n")
    assert (tmp_path / "f").read_bytes() == b"\xc3\xa4\r\n\n"
