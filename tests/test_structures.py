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


@pytest.mark.parametrize(
    ("shape", "most", "count"),
    [((1, 32, 32), 250, 250), ((3, 224, 224), 250, 27), ((3, 640, 640), 250, 3),
     ((3, 4096, 4096), 250, 1), ((3, 224, 224), 8, 8)],
)  # fmt: skip
def test_batches_of_large_images_are_small(shape, most, count):
    assert structures.fitting(torch.empty(300, *shape, device="meta"), most) == count


def test_a_network_never_sees_more_large_images_at_a_time():
    from bitladder.simulation import outputs

    seen = []

    class Noted(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x[:, :1, :1, :1]

    images = torch.rand(1, 3, 640, 640).expand(8, 3, 640, 640)
    [made] = outputs(Noted(), images).values()
    assert seen == [3, 3, 2]
    assert len(made) == 8
