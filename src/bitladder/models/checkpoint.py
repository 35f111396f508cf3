"""Weights files of any origin -> the named tensors in them; no code in a file is ever run.

PyTorch's files are read by its ``weights_only`` unpickler. What else they often hold beside
tensors (arguments, configs, numpy scalars, paths) is allowed by its exact name, and what stands
for it here is an empty object of ours: not even those classes are imported or called.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from bitladder.errors import ModelError
from bitladder.outside import LARGEST_WEIGHTS, check_file

KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    *("params", "ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema"),
)
"""Under which the weights usually stand; where several sets fit, the first of these is taken."""


class _Object:
    """Stands for something that is not needed; what it is made of is not kept."""

    def __init__(self, *args: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


class _Mapping:
    """Stands for a mapping; its entries are kept, since tensors may be among them."""

    def __new__(cls, *args: Any) -> Any:
        """An ordered dictionary, to which PyTorch's unpickler adds the entries."""
        return OrderedDict()


_OBJECTS = (
    *("argparse.Namespace", "types.SimpleNamespace", "typing.Any", "uuid.UUID"),
    *("builtins.dict", "builtins.list", "builtins.tuple", "builtins.set", "builtins.frozenset"),
    *("builtins.int", "builtins.float", "builtins.str", "builtins.bool", "builtins.bytes"),
    *("builtins.slice", "builtins.range", "builtins.object", "collections.deque"),
    *("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta"),
    *("datetime.timezone", "decimal.Decimal", "fractions.Fraction"),
    *(
        f"pathlib.{inner}{kind}"
        for inner in ("", "_local.")
        for kind in (
            *("Path", "PosixPath", "WindowsPath"),
            *("PurePath", "PurePosixPath", "PureWindowsPath"),
        )
    ),
    *("numpy.dtype", "numpy.ndarray"),
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *(
        f"omegaconf.nodes.{name}Node"
        for name in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
    ),
    *("mmengine.logging.history_buffer.HistoryBuffer", "torch.torch_version.TorchVersion"),
)
_MAPPINGS = (
    *("collections.defaultdict", "addict.addict.Dict", "easydict.EasyDict", "munch.Munch"),
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "box.box.Box"),
    *("mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict"),
    *("ml_collections.config_dict.config_dict.ConfigDict", "timm.utils.misc.AttrDict"),
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_Object, name) for name in _OBJECTS),
    *((_Mapping, name) for name in _MAPPINGS),
]
_lock = threading.Lock()  # PyTorch has one list of what is allowed in a process


@dataclass(frozen=True)
class TensorSet:
    """Tensors that stand together in a file.

    Attributes:
        key: where in the file, such as ``state_dict``; empty for the file's own top level.
        tensors: by name, on the CPU.
    """

    key: str
    tensors: dict[str, Tensor]


def read_checkpoint(path: Path) -> list[TensorSet]:
    """Every set of named tensors in a file, those under usual keys first.

    What a file is follows from its first bytes and not from its name.

    Raises:
        ModelError: it is missing, of another format, damaged, holds classes that are not allowed,
            or no tensors.
    """
    if path.is_dir():
        raise ModelError(f"weights file {path} is a folder; give the path of a file")
    if not path.exists():
        raise ModelError(f"weights file {path} does not exist")
    check_file(path, largest=LARGEST_WEIGHTS, refusal=ModelError)
    try:
        with path.open("rb") as file:
            begin = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot read: {error.strerror}") from None
    if begin[:4] == b"PK\x03\x04" or begin[:1] == b"\x80":
        content: Any = _read_pytorch(path)
    elif begin[8:9] == b"{" or path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        pointer = begin.startswith(b"version https://git-lfs")
        what = "a Git LFS pointer and not the file: fetch it with git lfs pull"
        other = "neither a safetensors file nor one that torch.save has written"
        raise ModelError(f"weights file {path} is {what if pointer else other}")
    sets = list(_sets(content))
    if not sets:
        raise ModelError(f"{path} holds no tensors by name; save model.state_dict()")
    return sorted(sets, key=lambda one: _place(one.key))


def _sets(content: Any) -> Iterator[TensorSet]:
    """The tensors of every mapping, the outer first, each once: a file may hold itself."""
    seen: set[int] = set()
    waiting = deque([("", content)])
    while waiting:
        key, one = waiting.popleft()
        if not isinstance(one, Mapping) or id(one) in seen:
            continue
        seen.add(id(one))
        named = {name: value for name, value in one.items() if isinstance(name, str)}
        tensors = {
            name: value.detach() for name, value in named.items() if isinstance(value, Tensor)
        }
        if tensors:
            yield TensorSet(key, tensors)
        waiting += ((f"{key}.{name}" if key else name, value) for name, value in named.items())


def _place(key: str) -> tuple[int, int]:
    parts = key.split(".") if key else []
    return sum(KEYS.index(part) if part in KEYS else len(KEYS) for part in parts), len(parts)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from None
    return state


def _read_pytorch(path: Path) -> Any:
    try:
        with _lock, safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unknown = _unknown_classes(path)
            if not unknown:
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types here
        found = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if found is None:
            raise ModelError(
                f"{path} is not a readable PyTorch weights file: {_reason(error)}"
            ) from None
        unknown = [found[1]]
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    raise ModelError(
        f"{path} holds objects that are read only by running code, of {', '.join(unknown[:5])}"
        f"{more}; save the weights alone: torch.save(model.state_dict(), ...)"
    )


def _unknown_classes(path: Path) -> list[str]:
    """Classes and functions in a file that are not allowed; empty where only reading it will tell.

    So it is of PyTorch's format before 1.6, and of TorchScript.
    """
    try:
        return sorted(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # whatever it stumbles over, reading the file says it better
        return []


def _reason(error: Exception) -> str:
    text = str(error)
    if "TorchScript" in text:
        return "it is a TorchScript archive; save model.state_dict()"
    if "Unsupported operand" in text:
        return "it was saved with another pickle protocol than 2; save it again with torch.save"
    found = re.search(r"(?:WeightsUnpickler error|Error): (.+)", text)
    lines = [found[1]] if found else text.strip().splitlines()
    return (lines or [type(error).__name__])[0].strip()
