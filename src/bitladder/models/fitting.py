"""How tensors of a file fit a network: under which names, what lacks, what is left, a new head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bitladder.errors import ModelError
from bitladder.models.shim import WithShim

PREFIXES = ("module", "model", "_orig_mod", "backbone", "net", "network")
"""That training code puts in front of a network's own names."""
_WRAPPERS = ("module", "_orig_mod")  # of a part of a network, too
_MOST_PREFIXES = 4
_COUNTERS = ("total_ops", "total_params", "n_averaged")  # of profilers and of averaging
_GREY, _COLOUR = 1, 3  # channels
_NAMED = 4  # tensors that a message names
_TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True)
class Renamed:
    """Tensors without some prefixes.

    Attributes:
        tensors: by their new names.
        removed: prefixes that were taken off, the outer first.
        beside: old names of tensors that had not the prefix.
    """

    tensors: Mapping[str, Tensor]
    removed: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def renamed(tensors: Mapping[str, Tensor]) -> Iterator[Renamed]:
    """The tensors as they are named, and in each way in which prefixes can be taken off."""
    seen: set[tuple[str, ...]] = set()
    waiting = [Renamed(tensors)]
    while waiting:
        one = waiting.pop(0)
        if tuple(one.tensors) in seen:
            continue
        seen.add(tuple(one.tensors))
        yield one
        if len(one.removed) < _MOST_PREFIXES:
            waiting += [less for prefix in PREFIXES for less in _inside(one, prefix)]
            waiting += [less for wrapper in _WRAPPERS for less in _unwrapped(one, wrapper)]


def _inside(given: Renamed, prefix: str) -> Iterator[Renamed]:
    """Only what begins with the prefix, without it; nothing where nothing does."""
    begin = f"{prefix}."
    names = [name for name in given.tensors if name.startswith(begin)]
    if names:
        beside = [name for name in given.tensors if not name.startswith(begin)]
        less = {name.removeprefix(begin): given.tensors[name] for name in names}
        yield Renamed(less, (*given.removed, prefix), (*given.beside, *beside))


def _unwrapped(given: Renamed, wrapper: str) -> Iterator[Renamed]:
    """Everything, without the wrapper wherever it stands; nothing where it stands nowhere."""
    parts = {name: name.split(".") for name in given.tensors}
    new = {name: ".".join(part for part in parts[name] if part != wrapper) for name in parts}
    if len(set(new.values())) == len(new) and any(name != new[name] for name in new):
        less = {new[name]: given.tensors[name] for name in new}
        yield Renamed(less, (*given.removed, wrapper), given.beside)


@dataclass
class Fit:
    """How tensors fit a network.

    Attributes:
        model: the network.
        given: the tensors.
        key: where in the file they stand.
        outer: what stands before the network's names in the one that was asked for.
        new_head: whether a last layer may stay as it is, see ``load_weights``.
        needed: the network's own tensors.
        taken: those of the file that will be copied.
        missing: names that the file lacks.
        unexpected: names that the network lacks.
        shapes: names whose shapes differ.
        heads: layers that stay as they are.
        stem: what was done to the first convolution, whose images have other channels; or empty.
        left: tensors of the file that nobody asked for.
    """

    model: nn.Module
    given: Renamed
    key: str = ""
    outer: str = ""
    new_head: bool = False
    needed: dict[str, Tensor] = field(init=False)
    taken: dict[str, Tensor] = field(init=False)
    missing: list[str] = field(init=False)
    unexpected: list[str] = field(init=False)
    shapes: list[str] = field(init=False)
    heads: list[str] = field(init=False)
    stem: str = field(init=False, default="")
    left: list[str] = field(init=False)

    def __post_init__(self) -> None:
        given = self.given.tensors
        own = {k: v for k, v in self.model.state_dict().items() if isinstance(v, Tensor)}
        self.needed = own
        self.taken = {name: given[name] for name in own if name in given}
        tied = {_memory(own[name]) for name in self.taken}
        self.missing = [
            name
            for name, value in own.items()
            if name not in given
            and _memory(value) not in tied
            and _leaf(name) != "num_batches_tracked"  # files of PyTorch before 0.4.1 have none
        ]
        self.unexpected = [
            name for name in given if name not in own and _leaf(name) not in _COUNTERS
        ]
        self.shapes = [name for name in self.taken if self.taken[name].shape != own[name].shape]
        self.left = [name for name in self.given.beside if _leaf(name) not in _COUNTERS]
        if self.new_head and self.other_channels:
            self._convert_stem()
        self.heads = self._new_heads() if self.new_head else []
        if self.heads:
            if self.missing:  # whatever the file has in its place
                self.left, self.unexpected = [*self.left, *self.unexpected], []
            self.taken = {k: v for k, v in self.taken.items() if _layer(k) not in self.heads}
            self.missing, self.shapes = [], []

    @property
    def other_classes(self) -> bool:
        """Whether the only shapes that differ are of layers with another number of outputs."""
        fewer = 0 < len(self.shapes) < len(self.taken)
        return fewer and all(map(self._only_outputs_differ, self.shapes))

    def _only_outputs_differ(self, name: str) -> bool:
        """Of a layer within the network the inputs of the next one would differ, too."""
        wanted, found = list(self.needed[name].shape), list(self.given.tensors[name].shape)
        turned = isinstance(self.model.get_submodule(_layer(name)), _TRANSPOSED)
        outputs = 1 if turned and len(wanted) > 1 else 0
        if len(wanted) != len(found) or not wanted:
            return False
        del wanted[outputs], found[outputs]
        return wanted == found

    @property
    def other_channels(self) -> bool:
        """Whether the first convolution takes grey images and that of the file takes colour ones,
        or the reverse."""
        name = f"{first_convolution(self.model)}.weight"
        if name not in self.shapes:
            return False
        wanted, found = list(self.needed[name].shape), list(self.given.tensors[name].shape)
        if len(wanted) != len(found) or {wanted.pop(1), found.pop(1)} != {_GREY, _COLOUR}:
            return False
        return wanted == found

    def _convert_stem(self) -> None:
        """Let the first convolution give for a grey image what it gave for it in three channels."""
        name = f"{first_convolution(self.model)}.weight"
        weight = self.given.tensors[name]
        if weight.shape[1] == _COLOUR:
            self.taken[name] = weight.sum(1, keepdim=True)
            self.stem = f"{self.outer}{name} of colour images, summed over its channels for grey"
        else:
            self.taken[name] = weight.expand(-1, _COLOUR, *weight.shape[2:]) / _COLOUR
            self.stem = f"{self.outer}{name} of grey images, a third for each of three channels"
        self.shapes.remove(name)

    def _new_heads(self) -> list[str]:
        """Layers of other classes, and the last layer where the file has none."""
        lacking = {_layer(name) for name in self.missing}
        if (self.shapes and not self.other_classes) or lacking - {last_layer(self.model)}:
            return []
        heads = list(dict.fromkeys([*map(_layer, self.shapes), *lacking]))
        return heads if {_layer(name) for name in self.taken} - set(heads) else []

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.unexpected or self.shapes)

    def rank(self) -> tuple[int, int, int, int]:
        """The better, the less: what lacks, what is too much or left, how much was renamed."""
        lacking = len(self.missing) + len(self.shapes)
        much = len(self.unexpected) if self.taken else -len(self.given.tensors)
        changed = len(self.left) + len(self.heads) + bool(self.stem)
        return lacking, much, changed, len(self.given.removed)

    def check(self, where: str) -> None:
        """See that it fits.

        Raises:
            ModelError: it does not; all that is wrong, in one line.
        """
        given, needed = self.given.tensors, self.needed
        parts = []
        if self.missing:
            parts.append(f"it has no {_some(self.missing, needed)} that the model needs")
        if self.unexpected:
            parts.append(f"it has {_some(self.unexpected, given)} that the model lacks")
        if self.shapes:
            each = [
                f"{name!r} has shape {_shape(given[name])}, the model needs {_shape(needed[name])}"
                for name in self.shapes
            ]
            parts.append(_listed(each))
        if not parts:
            return
        advice = "check the model and its number of classes"
        if not self.taken:
            advice = "none of its tensors has a name of the model's: it is of another network"
        elif self.other_channels and not self.missing and not self.unexpected:
            advice = (
                "its first convolution takes other channels; to convert it and go on training: "
                "'train: {from: weights}' in a study, new_head=True in Python"
            )
        elif self.other_classes and not self.missing and not self.unexpected:
            advice = (
                "it is of other classes; to train a new last layer: 'train: {from: weights}' in a "
                "study, new_head=True in Python"
            )
        found = f"{where}, under {self.key!r}" if self.key else where
        raise ModelError(f"{found}: {'; '.join(parts)}; {advice}")

    def check_values(self, where: str) -> None:
        """See that what is taken are weights.

        Raises:
            ModelError: a tensor is not finite, of another kind of number than the network's, or
                has no plain values.
        """
        for name, tensor in self.taken.items():
            floats = self.needed[name].is_floating_point()
            dtype = str(tensor.dtype).removeprefix("torch.")
            if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
                raise ModelError(
                    f"{where}: {name!r} has no plain values: it is quantized, sparse or empty; "
                    "give the weights of the float network"
                )
            if tensor.is_floating_point() != floats or tensor.is_complex():
                what = "floats" if floats else "integers"
                raise ModelError(
                    f"{where}: {name!r} is of {dtype} where the model has {what}; give the weights "
                    "of the float network"
                )
            wrong = int((~torch.isfinite(tensor.float())).sum()) if floats else 0
            if wrong:
                raise ModelError(
                    f"{where}: {wrong} of the {tensor.numel()} values of {name!r} are not finite; "
                    "take a checkpoint of before the training failed"
                )

    def load(self) -> None:
        """Copy the tensors."""
        self.model.load_state_dict({**self.model.state_dict(), **self.taken}, strict=False)

    def told(self, others: Iterable[str]) -> str:
        """What is taken and what is not, in one line.

        Args:
            others: keys whose tensors would fit as well.
        """
        said = f"{len(self.taken)} tensors"
        said += f" under {self.key!r}" if self.key else ""
        if self.given.removed:
            said += f", without the prefix '{'.'.join(self.given.removed)}.'"
        parts = [said]
        if self.heads:
            new = ", ".join(self.outer + head for head in self.heads)
            parts.append(f"a new last layer: {new}")
        if self.stem:
            parts.append(f"converted: {self.stem}")
        if self.outer:
            parts.append(f"for the network within '{self.outer}'")
        if self.left:
            parts.append(f"left out: {_some(self.left)}")
        types = {
            str(tensor.dtype).removeprefix("torch.")
            for name, tensor in self.taken.items()
            if tensor.dtype != self.needed[name].dtype
        }
        if types:
            parts.append(f"converted from {', '.join(sorted(types))}")
        keys = [repr(key) if key else "no key" for key in dict.fromkeys(others)]
        if keys:
            parts.append(f"as well would fit those under {_listed(keys)}")
        return "; ".join(parts)


def networks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The network, and those that it only wraps, each with what stands before its names."""
    outer, inner = "", model
    while True:
        yield outer, inner
        names = list(inner.state_dict())
        found = ["model"] if isinstance(inner, WithShim) else []
        for child, _ in inner.named_children() if names else ():
            if all(name.startswith(f"{child}.") for name in names):
                found.append(child)
        if not found:
            return
        outer, inner = f"{outer}{found[0]}.", inner.get_submodule(found[0])


def last_layer(model: nn.Module) -> str:
    """The name of the linear layer or convolution that is defined last; empty without any."""
    layers = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return layers[-1] if layers else ""


def first_convolution(model: nn.Module) -> str:
    """The name of the ungrouped convolution of images that is defined first; empty without any."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name if module.groups == 1 else ""
    return ""


def _some(names: Sequence[str], values: Mapping[str, Tensor] | None = None) -> str:
    if values is None:
        return _listed([repr(name) for name in names])
    return _listed([f"{name!r} {_shape(values[name])}" for name in names])


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _memory(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride())
