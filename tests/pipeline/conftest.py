"""One small study, run once in this process: its results serve all tests of the pipeline."""

import pytest

from bitladder.pipeline import RunOptions, run
from bitladder.study import Study
from small_study import NETWORK, STUDY, Recorder


@pytest.fixture(scope="session")
def here(tmp_path_factory):
    """A folder with the user's own networks in it."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "small_nets.py").write_text(NETWORK)
    return folder


@pytest.fixture(scope="session")
def small_run(here):
    """(results, what the observer was told, the store) of a run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        observer = Recorder()
        options = RunOptions(output=here / "out", store=here / "store", in_process=True)
        results = run(Study.model_validate(STUDY), options=options, observer=observer)
        yield results, observer, here / "store"
