"""Run one stage: check what it was given, call its function, write its record."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

from bitladder.pipeline.given import check, check_loaded
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.stage_records import write_record
from bitladder.pipeline.stages.common import Workspace


def perform(stage: Stage, space: Workspace) -> None:
    """Run one stage and write its files and its record."""
    started = time.perf_counter()
    # Of an attempt that was broken off; training that goes on from it writes its curves again.
    shutil.rmtree(space.logs(stage), ignore_errors=True)
    sources = check(stage.given)
    record = stage.kind.load()(stage, space)
    check_loaded(sources)
    seconds = round(time.perf_counter() - started, 3)
    write_record(space.output, replace(record, seconds=seconds))
