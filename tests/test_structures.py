"""Whatever a network returns becomes named tensors, in its order."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch

from bitladder import structures

A, B, C = (torch.full((4, 2), float(value)) for value in range(3))
Pair = namedtuple("Pair", ["mean", "spread"])


@dataclass
class Heads:
    boxes: torch.Tensor
    scores: list


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (A, ["output"]),
        ((A, B), ["output_0", "output_1"]),
        ([A], ["output_0"]),
        ({"logits": A, "aux": B}, ["logits", "aux"]),
        (OrderedDict(out=A, aux=None), ["out"]),
        (Heads(A, [B, C]), ["boxes", "scores_0", "scores_1"]),
        (Pair(A, B), ["mean", "spread"]),
        ((A, {"box": B, 3: C}), ["output_0", "output_1_box", "output_1_3"]),
        ({"a_0": A, "a": [B]}, ["a_0", "a_0_2"]),
        ((A, 5, None, "text"), ["output_0"]),
    ],
)
def test_every_tensor_has_a_name_of_its_own(returned, names):
    found = structures.named(returned)
    assert list(found) == names
    assert all(any(value is one for one in (A, B, C)) for value in found.values())


def test_inputs_are_cut_joined_and_counted_alike():
    inputs = (torch.rand(5, 3, 8, 8), torch.rand(5, 7))
    assert structures.count(inputs) == 5
    assert structures.shapes(inputs) == ((3, 8, 8), (7,))
    batches = list(structures.split(inputs, 2))
    assert [structures.count(batch) for batch in batches] == [2, 2, 1]
    again = structures.joined(batches)
    assert all(torch.equal(one, other) for one, other in zip(inputs, again, strict=True))
    assert structures.count(structures.first(inputs, 3)) == 3
    assert structures.shapes(inputs[0]) == ((3, 8, 8),)
