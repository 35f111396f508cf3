"""What a store remembers is what it was told, for exactly what it follows from."""

from bitladder.store import Memory


def test_a_fact_is_remembered_for_what_it_follows_from(tmp_path):
    memory = Memory(tmp_path / "memory")
    assert memory.recall({"a": 1, "b": 2}) is None
    memory.remember({"a": 1, "b": 2}, {"fact": "x"})
    assert Memory(tmp_path / "memory").recall({"b": 2, "a": 1}) == {"fact": "x"}
    assert memory.recall({"a": 1, "b": 3}) is None


def test_a_damaged_fact_is_not_believed(tmp_path):
    memory = Memory(tmp_path)
    memory.remember({"a": 1}, {"fact": "x"})
    [path] = tmp_path.iterdir()
    for content in (path.read_text()[:-3], "5", ""):
        path.write_text(content)
        assert memory.recall({"a": 1}) is None


def test_what_cannot_be_written_is_not_remembered(tmp_path):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file")
    memory.remember({"a": 1}, {"fact": "x"})
    assert memory.recall({"a": 1}) is None
