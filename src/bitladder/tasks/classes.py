"""What logits say: the class that they choose, the shares of the classes, and the loss of both.

Tasks with classes ask here, nobody else. A network of two classes may have one logit ``z``. It
stands for the two logits ``(0, z)``: their softmax is ``(1 - sigmoid(z), sigmoid(z))``, their
cross-entropy with labels 0 and 1 is the binary cross-entropy, and the larger of them is told by the
sign of ``z``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitladder.errors import DataError


def by_class(logits: Tensor) -> Tensor:
    """Logits (N, classes) with one column a class: ``(0, z)`` of a single ``z``, others as is."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], 1)


def number(logits: Tensor) -> int:
    """How many classes the logits (N, classes) tell apart: two where there is one."""
    return max(2, logits.shape[1])


def choose(logits: Tensor) -> Tensor:
    """The class (N,) of each row of logits (N, classes): its largest, or the sign of the one."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(1)


def shares(logits: Tensor) -> Tensor:
    """The softmax over the classes, (N, classes), two of them where there is one logit."""
    return torch.softmax(by_class(logits), 1)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, classes) with labels (N,), in nats.

    Raises:
        DataError: the labels are not the numbers of classes; see ``as_labels``.
    """
    return cross_entropy(by_class(logits), as_labels(labels, logits))


def share_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, classes) with the ``shares`` of a teacher, in nats."""
    return cross_entropy(by_class(logits), wanted)


def right(logits: Tensor, labels: Tensor) -> int:
    """How many rows of logits (N, classes) choose their label.

    Raises:
        DataError: the labels are not the numbers of classes; see ``as_labels``.
    """
    return int((choose(logits) == as_labels(labels, logits)).sum())


def as_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels as int64 (N,), each the number of a class of the logits (N, classes).

    Binary labels are often floats or a column, as PyTorch's binary cross-entropy wants them; whole
    numbers of any type in the shape (N,) or (N, 1) are taken.

    Raises:
        DataError: they have another shape, or are not whole numbers from 0 to classes - 1.
    """
    rows, classes = len(logits), number(logits)
    if not isinstance(labels, Tensor) or tuple(labels.shape) not in ((rows,), (rows, 1)):
        shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise DataError(
            f"labels: {shape} for {rows} images; give one class number an image, shape ({rows},)"
        )
    numbers = labels.flatten().long()
    whole = bool((numbers == labels.flatten()).all())
    if not whole or bool(((numbers < 0) | (numbers >= classes)).any()):
        odd = labels.flatten()[(numbers != labels.flatten()) | (numbers < 0) | (numbers >= classes)]
        raise DataError(
            f"labels: {odd[0].item():g} is no class; with {classes} classes they are whole "
            f"numbers from 0 to {classes - 1}"
        )
    return numbers
