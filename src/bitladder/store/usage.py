"""Which studies use which outputs of a store, so that the rest can be told apart and removed."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bitladder.errors import StoreError
from bitladder.files import written_aside
from bitladder.store.outputs import Store


@dataclass(frozen=True)
class Registration:
    """A run of a study on a store.

    Attributes:
        study: name of the study.
        output: absolute path of its results.
        host: name of the machine the run was started on.
        stages: what a person calls each stage, by key.
    """

    study: str
    output: str
    host: str
    stages: Mapping[str, str]

    @property
    def stands(self) -> bool:
        """Whether the results are still there; those on another machine are taken to be."""
        return self.host != platform.node() or Path(self.output).is_dir()


@dataclass(frozen=True)
class Garbage:
    """What no study uses.

    Attributes:
        path: the folder.
        label: what a person calls it.
        bytes: its size.
    """

    path: Path
    label: str
    bytes: int


@contextmanager
def registering(
    store: Store, study: str, output: Path, stages: Mapping[str, str]
) -> Iterator[Path]:
    """Have a store know what a run uses: while it lasts, and as long as its results are there.

    It takes the place of earlier runs with the same folder of results that have ended.

    Args:
        store: the store.
        study: name of the study.
        output: folder of the results.
        stages: what a person calls each stage, by key.

    Yields:
        The file of the registration, which every process that sees the store sees.

    Raises:
        StoreError: the store cannot be written.
    """
    own = Registration(study, str(output.resolve()), platform.node(), dict(stages))
    path = store.root / "studies" / f"{study}-{os.getpid()}-{secrets.token_hex(4)}.json"
    with ExitStack() as stack:
        try:
            with _turn(store):
                stack.enter_context(FileLock(_lock(path)))
                _write(path, own)
                for other in _files(store):
                    earlier = _read(other)
                    if other != path and earlier and earlier.output == own.output:
                        _remove_ended(other)
        except OSError as error:
            raise StoreError(f"{path}: cannot write: {error.strerror or error}") from error
        yield path


def registered(store: Store) -> list[Registration]:
    """The runs whose outputs are in use, by name of the study."""
    found = [registration for path in _files(store) if (registration := _read(path))]
    return [registration for registration in found if registration.stands]


def collect(store: Store, *, dry_run: bool = False) -> list[Garbage]:
    """Remove what no registered run uses: outputs, checkpoints and half-written folders.

    What a process works with at this moment is left alone, and no run begins meanwhile.

    Args:
        store: the store.
        dry_run: remove nothing.

    Returns:
        What was (or would be) removed.

    Raises:
        StoreError: no run was ever registered, or something cannot be removed.
    """
    removed = []
    with _turn(store):
        if not _files(store):
            raise StoreError(
                f"{store.root}: no run was ever registered here, so nothing tells what is in use; "
                "run the studies that matter once, or delete the folder yourself"
            )
        used = {key for registration in registered(store) for key in registration.stages}
        labels = {made.key: made.label for made in store.journal.read()}
        for path in sorted([*store.stages.iterdir(), *store.partial.iterdir()]):
            garbage = _garbage(store, path, used, labels)
            if garbage is not None:
                removed.append(garbage)
        if not dry_run:
            for garbage in removed:
                _remove(store, garbage.path)
            for path in _files(store):
                registration = _read(path)
                if registration is None or not registration.stands:
                    _remove_ended(path)
    return removed


def size(path: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _garbage(store: Store, path: Path, used: set[str], labels: Mapping[str, str]) -> Garbage | None:
    key, _, part = path.name.partition(".")
    if part != "" and part != "checkpoint":  # half-written: it is named by the key's beginning
        locks = list((store.root / "locks").glob(f"{key}*.lock"))
        if any(store.is_locked(lock.stem) for lock in locks):
            return None
        return Garbage(path, f"half-written {key}", size(path))
    if key in used or store.is_locked(key):
        return None
    label = labels.get(key, key[:16])
    return Garbage(path, f"checkpoint of {label}" if part else label, size(path))


def _remove(store: Store, path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot remove: {error.strerror}") from error
    if path.parent == store.stages:
        store.lock(path.name).unlink(missing_ok=True)


def _turn(store: Store) -> FileLock:
    """Runs begin and garbage is collected one after the other."""
    return FileLock(store.root / "locks" / "studies.lock")


def _files(store: Store) -> list[Path]:
    return sorted((store.root / "studies").glob("*.json"))


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _write(path: Path, registration: Registration) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(asdict(registration)), encoding="utf-8")


def _read(path: Path) -> Registration | None:
    try:
        return Registration(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _remove_ended(path: Path) -> None:
    """Forget a run, unless it is still going on."""
    with suppress(Timeout), FileLock(_lock(path), timeout=0):
        path.unlink(missing_ok=True)
        _lock(path).unlink(missing_ok=True)
