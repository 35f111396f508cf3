"""What logits say, held to PyTorch's binary cross-entropy and to arithmetic in float64."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import bitladder
from bitladder.errors import DataError
from bitladder.tasks.classes import as_labels, choose, label_loss, number, right, share_loss, shares

ONE = torch.tensor([[-2.0], [3.0], [0.5], [-0.1], [60.0], [-60.0]])
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


def test_the_sign_of_one_logit_is_its_class():
    assert choose(ONE).tolist() == [0, 1, 1, 0, 1, 0]
    assert choose(torch.tensor([[0.0]])).tolist() == [0]  # as argmax of (0, 0)
    assert right(ONE, LABELS) == 4
    assert number(ONE) == 2
    assert choose(-ONE).tolist() != choose(ONE).tolist()


def test_of_several_logits_the_largest_is():
    logits = torch.tensor([[1.0, 2.0, 0.0], [-1.0, -3.0, -2.0]])
    assert choose(logits).tolist() == [1, 0]
    assert number(logits) == 3
    assert right(logits, torch.tensor([1, 2])) == 1


def test_the_loss_of_one_logit_is_the_binary_cross_entropy_and_so_is_its_gradient():
    logits, exact = ONE.clone().requires_grad_(), ONE.double().requires_grad_()
    loss = label_loss(logits, LABELS)
    expected = binary_cross_entropy_with_logits(exact[:, 0], LABELS.double())
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    [found], [slope] = torch.autograd.grad(loss, logits), torch.autograd.grad(expected, exact)
    assert torch.allclose(found.double(), slope, rtol=1e-5, atol=1e-9)


def test_following_one_logit_is_the_binary_cross_entropy_with_its_sigmoid():
    teacher = torch.tensor([[1.0], [-4.0], [0.0], [2.0], [-1.0], [9.0]])
    expected = binary_cross_entropy_with_logits(ONE.double(), torch.sigmoid(teacher.double()))
    assert float(share_loss(ONE, shares(teacher))) == pytest.approx(float(expected), rel=1e-6)
    assert torch.allclose(shares(teacher)[:, 1:], torch.sigmoid(teacher))


def test_several_logits_have_the_cross_entropy_that_they_had():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 5), torch.arange(7) % 5
    assert torch.equal(label_loss(logits, labels), cross_entropy(logits, labels))
    wanted = torch.softmax(torch.randn(7, 5), 1)
    assert torch.equal(share_loss(logits, wanted), cross_entropy(logits, wanted))


@pytest.mark.parametrize(
    "labels",
    [LABELS.float(), LABELS[:, None], LABELS[:, None].float(), LABELS.bool(), LABELS.byte()],
)
def test_binary_labels_come_in_the_forms_that_people_train_with(labels):
    assert torch.equal(as_labels(labels, ONE), LABELS)
    assert right(ONE, labels) == 4


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 0, 1, 2, 0]), "2 is no class; with 2 classes .* from 0 to 1"),
        (torch.tensor([0, -1, 0, 1, 1, 0]), "-1 is no class"),
        (torch.tensor([0, 0.5, 0, 1, 1, 0]), "0.5 is no class"),
        (torch.tensor([0, float("nan"), 0, 1, 1, 0]), "nan is no class"),
        (torch.eye(6)[:, :2], r"\(6, 2\) for 6 images; give one class number an image"),
        (torch.tensor([0, 1]), r"\(2,\) for 6 images"),
        ([0, 1, 0, 1, 1, 0], "list for 6 images"),
    ],
)
def test_labels_that_are_no_classes_are_one_line(labels, message):
    for use in (label_loss, right):
        with pytest.raises(DataError, match=message) as caught:
            use(ONE, labels)
        assert "\n" not in str(caught.value)


def test_nobody_else_decides_what_logits_choose():
    package = Path(bitladder.__file__).parent
    own = re.compile(r"\.argmax\((1|-1|dim=)|\bcross_entropy\(|softmax\(")
    # Rounds a solver's answer, rather than logits.
    known = {"techniques/mixed_precision.py"}
    # Tasks themselves, and a softmax inside of a network and in files.
    attention = ("simulation/plain.py", "simulation/attention.py")
    formats = ("deploy/litert/", "models/onnx_file/")
    others = ("tasks/", "operators/", "targets/integer/", "data/check.py", *attention, *formats)
    deciding = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if own.search(path.read_text())
    }
    deciding = {name for name in deciding if not name.startswith(others)}
    assert deciding == known
