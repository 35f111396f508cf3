"""The codes of errors: one a kind, explained in docs/errors.md, and told with the message."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bitladder import errors
from bitladder.cli import app, main
from bitladder.errors import BitladderError

PAGE = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, BitladderError)
]


def test_every_kind_has_a_code_of_its_own_and_the_page_explains_each_and_no_other():
    assert all("code" in vars(kind) for kind in KINDS)
    explained = re.findall(r"^## (BL\d{3})\n\n`(\w+)`\.", PAGE, re.MULTILINE)
    assert explained == [(kind.code, kind.__name__) for kind in KINDS]
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_the_codes_of_the_page_exist():
    assert set(re.findall(r"BL\d{3}", PAGE)) == {kind.code for kind in KINDS}


def test_the_example_of_the_page_is_what_the_program_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("datasets: mnist\nmodels: resnet18\n\nprecision: 8\n")
    raised = CliRunner().invoke(app, ["plan", "study.yaml"]).exception
    assert f"`error {raised.told}`" in PAGE
    monkeypatch.setattr("sys.argv", ["bitladder", "plan", "study.yaml"])
    monkeypatch.setattr("bitladder.interruption.watch", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert f"`{capsys.readouterr().err.strip()}`" in PAGE
