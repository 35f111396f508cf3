"""The Hexagon HTP emulator of onnxruntime-qnn, in a process of its own.

A crash, a line on the standard output or memory of the emulator stays there. Nothing falls back
to the CPU: an artifact that the HTP cannot run whole is refused.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.errors import TargetError, unknown
from bitladder.target_specs.htp import TARGET
from bitladder.targets.memory_watch import MemoryWatch
from bitladder.targets.qdq_graph import output_steps

_SCRIPT = Path(__file__).with_name("htp_process.py")
_MISSING = (
    "the HTP emulator is not installed: pip install 'bitladder[qnn]' "
    "(Linux x86-64 or aarch64, or Windows; Python 3.11 to 3.14)"
)
# Finalizing takes long on degenerate weights at the default level; outputs do not depend on it.
_FINALIZATION = {"htp_graph_finalization_optimization_mode": "1"}
HTP_LIBRARY = "libQnnHtp.so"
_NOISE = "# LIBNATIVE:"  # what the emulator writes whenever it starts
# How the provider's log names what it does not take.
_FAILED = re.compile(r"failed for node `(?P<node>[^`]+)` of type `(?P<kind>[^`]+)` with error code "
                     r"(?P<code>\d+)")  # fmt: skip
_UNSUPPORTED = re.compile(r"Unsupported nodes in QNN EP: (.*)")
_NODE = re.compile(r"\{ name: (?P<name>[^,]+), type: (?P<kind>\w+) \}")
_ADDED = re.compile(r"_token_\d+$")  # behind a node's own name
_TOLD = 5  # nodes in a message
# ResNet18 takes 0.3 GiB; one small network with a large matrix product took 19.
_MEMORY_LIMIT = 6 * 2**30


def require_qnn() -> None:
    """See that onnxruntime-qnn is installed.

    Raises:
        TargetError: it is not.
    """
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        raise TargetError(_MISSING)


def htp_options(version: str | None) -> dict[str, str]:
    """The provider's options for an HTP version, such as ``v75``, or for its default.

    Raises:
        TargetError: the version is unknown; the emulator would silently take its default.
    """
    if version is None:
        return dict(_FINALIZATION)
    if version not in TARGET.versions:
        raise TargetError(unknown("HTP version", version, TARGET.versions))
    return {**_FINALIZATION, "htp_arch": version.removeprefix("v")}


@dataclass(frozen=True)
class QnnInput:
    """An input of a session.

    Attributes:
        name: in the graph.
        shape: sizes, or names of those that are free.
        type: ONNX Runtime's name, such as ``tensor(float)``.
    """

    name: str
    shape: tuple[int | str, ...]
    type: str


class QnnProcess:
    """An ONNX file in a session of the QNN provider, in its own process.

    Args:
        artifact: an ONNX file.
        backend: library of the provider, without path.
        provider: the provider's options.
        session: the session's config entries.

    Attributes:
        inputs: of the graph.
        outputs: names of the graph's outputs.

    Raises:
        TargetError: onnxruntime-qnn is not installed, or refuses the artifact.
    """

    def __init__(
        self,
        artifact: Path,
        *,
        backend: str,
        provider: dict[str, str],
        session: dict[str, str] | None = None,
    ) -> None:
        require_qnn()
        self.artifact = artifact
        options = {
            "artifact": str(artifact),
            "backend": backend,
            "provider": provider,
            "session": session or {},
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._watch = MemoryWatch(self._process, _MEMORY_LIMIT)
        described = self._answer()
        self.inputs = tuple(
            QnnInput(given["name"], tuple(given["shape"]), given["type"])
            for given in described["inputs"]
        )
        self.outputs: tuple[str, ...] = tuple(described["outputs"])

    def run(self, *values: NDArray[Any], each: bool = False) -> list[NDArray[Any]]:
        """Every output of the graph.

        Args:
            values: an array an input, in their order.
            each: run a batch (first axis) one by one.

        Raises:
            TargetError: the session fails, or there are more or fewer arrays than inputs.
        """
        if len(values) != len(self.inputs):
            raise TargetError(
                f"{self.artifact}: takes {len(self.inputs)} inputs, not {len(values)}"
            )
        self._send(json.dumps({"each": each}).encode())
        for array in values:
            memory = io.BytesIO()
            np.save(memory, array, allow_pickle=False)
            self._send(memory.getvalue())
        self._answer()
        frames = (io.BytesIO(self._receive()) for _ in self.outputs)
        return [np.load(frame, allow_pickle=False) for frame in frames]

    def close(self) -> None:
        """End the process."""
        self._watch.stop()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _send(self, frame: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(len(frame).to_bytes(8, "little") + frame)
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None

    def _receive(self) -> bytes:
        assert self._process.stdout is not None
        head = self._process.stdout.read(8)
        size = int.from_bytes(head, "little")
        frame = self._process.stdout.read(size)
        if len(head) < 8 or len(frame) < size:
            raise self._died()
        return frame

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._receive())
        if "error" in answer:
            said = refused_nodes(self._printed())
            self.close()
            raise TargetError(f"{self.artifact}: the HTP refuses it: {said or answer['error']}")
        return answer

    def _printed(self) -> str:
        """What the process wrote on its standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _died(self) -> TargetError:
        """Why the process is gone, from the last line it wrote."""
        code = self._process.wait()
        lines = self._printed().strip().splitlines()
        self.close()
        if self._watch.exceeded:
            limit = f"{_MEMORY_LIMIT / 2**30:.3g} GiB"
            return TargetError(f"{self.artifact}: the HTP emulator takes more than {limit} for it")
        last = next((line for line in reversed(lines) if not line.startswith(_NOISE)), "no message")
        return TargetError(f"{self.artifact}: the HTP emulator ended with code {code}: {last}")


def refused_nodes(printed: str) -> str:
    """The nodes that the provider does not take and why, in words, from what it printed.

    Args:
        printed: its log, in which it names them in sentences of its own.

    Returns:
        Nothing where it names none.
    """
    reasons = {
        one["node"]: f"{one['kind']}, error {one['code']}" for one in _FAILED.finditer(printed)
    }
    refused = [
        f"{one['kind']} '{_ADDED.sub('', one['name'])}'"
        + (f" ({reasons[one['name']]} of QNN)" if one["name"] in reasons else "")
        for whole in _UNSUPPORTED.findall(printed)
        for one in _NODE.finditer(whole)
    ]
    listed = list(dict.fromkeys(refused))
    more = f" and {len(listed) - _TOLD} more" if len(listed) > _TOLD else ""
    return f"it does not take {', '.join(listed[:_TOLD])}{more}" if listed else ""


def open_session(artifact: Path, *, threads: int, version: str | None) -> HtpSession:
    """See ``TargetSpec.open``; the emulator takes the threads that it likes."""
    return HtpSession(artifact, version)


class HtpSession:
    """See ``Session``; batches run image by image, as on a device.

    Args:
        artifact: an ONNX file.
        version: of the HTP, such as ``v75``, by default the emulator's own.

    Raises:
        TargetError: onnxruntime-qnn is not installed, or refuses the artifact.
    """

    def __init__(self, artifact: Path, version: str | None = None) -> None:
        self.steps: Mapping[str, float] = output_steps(artifact)
        self.fallbacks: tuple[str, ...] = ()
        self._process = QnnProcess(artifact, backend=HTP_LIBRARY, provider=htp_options(version))

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name."""
        made = self._process.run(*inputs, each=True)
        floats = (
            values.astype(np.float32) if values.dtype.kind == "f" else values for values in made
        )
        return dict(zip(self._process.outputs, floats, strict=True))

    def close(self) -> None:
        """End the process."""
        self._process.close()
