"""Items of a user's Dataset, read as batches: each seeded by itself and checked, one error a line.

Processes that read are started once and kept for all passes.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bitladder.data import check
from bitladder.errors import DataError
from bitladder.structures import Inputs
from bitladder.tasks import Task
from bitladder.user_code import one_line

_Batch = list[tuple[int, int]]


def item_seed(seed: int | None, epoch: int, row: int) -> int:
    """The seed of what is random in an item; without a seed it is the same in every pass."""
    mixed = ((seed or 0) * 1_000_003 + (0 if seed is None else epoch)) * 1_000_003 + row
    return mixed % 2**32


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what is random in the user's code, and leave it as it was afterwards."""
    before = random_states()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def random_states() -> tuple[Tensor, Any, Any]:
    """The states of torch's, numpy's and Python's random numbers."""
    numpy_state = np.random.get_state()
    return torch.default_generator.get_state(), numpy_state, random.getstate()


Item = tuple[Tensor | Inputs, Any]
"""A float32 image, or a tuple of one tensor an input, and its target."""


class Items(Dataset[Item | str]):
    """Items by (index, seed), checked; an error is returned as its line."""

    def __init__(self, dataset: Any, where: str, task: Task) -> None:
        self.dataset, self.where, self.task = dataset, where, task

    def __getitem__(self, wanted: tuple[int, int]) -> Item | str:
        index, seed = wanted
        with seeded(seed):
            return self.read(index)

    def read(self, index: int) -> Item | str:
        """An item, or what is wrong with it."""
        where = f"{self.where}, item {index}"
        try:
            value = self.dataset[index]
        except Exception as error:  # the user's code can raise anything
            return f"{where}: {one_line(error)}"
        try:
            return check.item(value, where, self.task)
        except DataError as error:
            return str(error)


class Reader:
    """Reads batches of a Dataset, by processes where that is allowed."""

    def __init__(self, dataset: Any, workers: int, where: str, task: Task) -> None:
        self.items, self.where, self.task = Items(dataset, where, task), where, task
        self.workers = workers if workers and _may_have_children(self.items) else 0
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._busy = False

    def read(self, batches: list[_Batch]) -> Iterator[Item]:
        """Images (B, C, H, W), or a tuple of one tensor an input, and the targets of these items.

        Raises:
            DataError: an item is not what it should be.
        """
        if not self.workers or self._busy:  # one pass at a time has the processes
            for wanted in batches:
                yield _found(self._collate([self.items[one] for one in wanted]))
            return
        self._busy = True
        try:
            self._plan.batches = batches
            if self._loader is None:
                self._loader = DataLoader(
                    self.items,
                    batch_sampler=self._plan,
                    num_workers=self.workers,
                    collate_fn=self._collate,
                    persistent_workers=True,
                )
            with _told(self.where):
                found = iter(self._loader)
            for _ in batches:
                with _told(self.where):
                    batch = next(found)
                yield _found(batch)
        finally:
            self._busy = False

    def _collate(self, items: list[Item | str]) -> Item | str:
        inputs, targets = [], []
        for item in items:
            if isinstance(item, str):
                return item
            inputs.append(item[0])
            targets.append(item[1])
        if isinstance(inputs[0], Tensor):
            return torch.stack(inputs), self.task.batch(targets)  # type: ignore[arg-type]
        return tuple(map(torch.stack, zip(*inputs, strict=True))), self.task.batch(targets)


class _Plan:
    """The batches of the next pass."""

    def __init__(self) -> None:
        self.batches: list[_Batch] = []

    def __iter__(self) -> Iterator[_Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # a process was killed or cannot start
        raise DataError(f"{where}: {one_line(error)}; set data.workers=0") from error


def _found(batch: Item | str) -> Item:
    if isinstance(batch, str):
        raise DataError(batch)
    return batch


def _may_have_children(items: Items) -> bool:
    """Whether processes may read: not from a daemonic one, nor what cannot be sent to them."""
    if multiprocessing.current_process().daemon:
        return False
    if multiprocessing.get_start_method() != "fork":
        with suppress(Exception):
            pickle.dumps(items)
            return True
        return False
    return True
