"""``bitladder run`` as processes of their own, to be killed, with what they import at hand.

Python's fork server imports the libraries once; every process it forks is a whole run.
"""

import copy
import csv
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from bitladder.pipeline.results import TIMES
from small_study import NETWORK, STUDY

EPOCHS, FINETUNE_EPOCHS = 8, 3
_PRELOADED = [
    "bitladder.cli",
    "bitladder.pipeline.stages",
    "bitladder.report",
    "aimet_torch.quantsim",
    "aimet_torch.model_preparer",
]
_PATIENCE = 900  # seconds; other processes may have the cores


def _bitladder(arguments, folder, log):
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["bitladder", *arguments]
    from bitladder.cli import main

    main()


@dataclass
class Run:
    """A run of the small study: its process and where it writes."""

    process: multiprocessing.Process
    log: Path
    output: Path
    store: Path

    @property
    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    @property
    def made(self):
        """Keys of the stages that the store has made, by anyone, in order."""
        journal = self.store / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [yaml.safe_load(line)["key"] for line in lines]

    def until(self, condition):
        """Wait until something is so, or the process has ended."""
        end = time.monotonic() + _PATIENCE
        while not condition() and self.process.is_alive():
            assert time.monotonic() < end, self.text
            time.sleep(0.01)

    def workers(self):
        """Its worker processes."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def end(self):
        """Wait for its end; the exit code."""
        self.process.join(_PATIENCE)
        assert self.process.exitcode is not None, self.text
        return self.process.exitcode

    def kill(self, number=signal.SIGKILL):
        """Send it a signal, SIGKILL by default, and wait for its end; the exit code."""
        os.kill(self.process.pid, number)
        return self.end()

    def results(self):
        """results.csv, rungs.csv and curves.csv without their times."""
        names = ("results.csv", "rungs.csv", "curves.csv")
        return [_without_times(self.output / name) for name in names]

    def logs(self):
        """The folders of its TensorBoard logs, and how many files each has."""
        folder = self.output / "tensorboard"
        files = [path.parent.relative_to(folder) for path in folder.rglob("*tfevents*")]
        return Counter(map(str, files))


class Runs:
    """Starts runs of the small study in a folder."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "small_nets.py").write_text(NETWORK)
        study = copy.deepcopy(STUDY)
        study["train"]["epochs"] = EPOCHS
        study["recipe"][-1]["finetune"]["epochs"] = FINETUNE_EPOCHS
        (folder / "small.yaml").write_text(yaml.safe_dump(study))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)

    def start(self, store, *arguments, output="out"):
        """Start ``bitladder run`` in this process, or as ``arguments`` say."""
        arguments = arguments or ("--in-process",)
        log = self.folder / f"{output}.log"
        log.unlink(missing_ok=True)
        command = ["run", "small.yaml", "--store", str(store), "--output", output, *arguments]
        process = self._context.Process(target=_bitladder, args=(command, self.folder, log))
        process.start()
        return Run(process, log, self.folder / output, store)


def _without_times(path):
    with path.open() as file:
        return [
            {name: value for name, value in row.items() if not name.endswith(("seconds", *TIMES))}
            for row in csv.DictReader(file)
        ]
