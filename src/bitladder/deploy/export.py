"""Write a simulated network as float ONNX with its encodings, and as QDQ ONNX of any precision."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from bitladder.deploy.encodings import Encoding, parse_encodings
from bitladder.deploy.graph import TRACED_BATCH, clean, initializers
from bitladder.deploy.qdq import integer_biases, quantize_graph
from bitladder.errors import ExportError, unknown
from bitladder.options import WeightType
from bitladder.simulation import SimulatedModel

INPUT, OUTPUT = "image", "logits"
INTEGER_BIASES = "integer_biases"
"""Name of the rung that ``Traced.quantize_biases`` makes."""
_OPSET = 17
_VERSION = "2.0.0"  # of the encodings that files are made of


class Traced:
    """A simulated network as an ONNX graph: traced once, for all files that are made of it.

    Args:
        simulated: a calibrated network at any precision from 2 to 16 bit; what changes in it
            after this is not in the files.

    Raises:
        ExportError: PyTorch or AIMET cannot export this network.
    """

    def __init__(self, simulated: SimulatedModel) -> None:
        self.simulated = simulated
        self._graph, self._encodings = _trace(simulated, _VERSION)

    @torch.no_grad()
    def quantize_biases(self) -> str:
        """Round biases to the integers that kernels add to their sums: int32 at s_in * s_w.

        Until then the simulation adds float biases, as AIMET does, and at 4 bit a step of
        s_in * s_w is large enough for other classes (Jacob 2018, 2.4, has the grid). What is
        exported holds these integers whether or not the simulation does.

        Biases of layers that are not wholly on integers, and those that layers with different
        grids share, stay float.

        Returns:
            How many biases lie on such a grid now, in words.
        """
        parameters = self._parameters()
        found = integer_biases(self._graph, self._grids)
        known = found.keys() & parameters.keys()
        for name in known:
            parameters[name].copy_(torch.from_numpy(found[name]))
        _put(self._graph, {name: found[name] for name in known})
        return f"{len(known)} biases are int32"

    def write_float(self, path: Path, encodings: Path, *, version: str = _VERSION) -> None:
        """Write the network without its quantizers as ONNX, and their encodings as AIMET's JSON.

        Args:
            path: the ONNX file; its input ``image`` is (N, C, H, W) float32 for any N, its output
                ``logits`` (N, classes).
            encodings: the JSON file; its names are those of the ONNX file's tensors.
            version: of the JSON, ``1.0.0`` or ``2.0.0``.

        Raises:
            ExportError: a file cannot be written.
        """
        text = self._encodings if version == _VERSION else _trace(self.simulated, version)[1]
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        # AIMET writes quantized values; whoever reads this file quantizes them itself.
        parameters = self._parameters()
        names = parameters.keys() & initializers(model.graph).keys()
        _put(model, {name: parameters[name].detach().cpu().numpy() for name in names})
        _write(path, model.SerializeToString())
        _write(encodings, text.encode())

    def write_qdq(
        self,
        path: Path,
        *,
        target: str = "onnxruntime",
        int4: bool | None = None,
        weights: WeightType = "int8",
    ) -> None:
        """Write the network as QDQ ONNX that a runtime executes on integers.

        Args:
            path: the ONNX file.
            target: whose form narrow integers take, ``onnxruntime`` or ``htp``; where none are
                narrower than their integer type, both are the same.
            int4: store 4-bit weights with a scale a channel as int4 (opset 21) in place of int8;
                by default for ``htp``, which computes with them.
            weights: integer type of weights of up to 8 bit, see ``quantize_graph``; files for
                ``htp`` always hold int8.

        Raises:
            ExportError: the type of weights is unknown or not of the target, the network has an
                encoding that no integer holds, or the file cannot be written.
        """
        _check_weights(weights, target)
        model = quantize_graph(
            self._graph,
            self._grids,
            int4=target == "htp" if int4 is None else int4,
            one_sign=target == "htp",
            weights="int8" if target == "htp" else weights,
        )
        model.metadata_props.add(key="bitladder.precision", value=str(self.simulated.precision))
        _write(path, model.SerializeToString())

    def _parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.simulated.module.named_parameters())

    @functools.cached_property
    def _grids(self) -> dict[str, Encoding]:
        return parse_encodings(self._encodings, "encodings")


def _check_weights(weights: str, target: str) -> None:
    if weights not in (known := get_args(WeightType)):
        raise ExportError(unknown("type of weights", weights, known))
    if target == "htp" and weights == "uint8":
        raise ExportError("weights: uint8 is for onnxruntime; files for htp hold int8")


def _put(model: onnx.ModelProto, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Give these initializers other values."""
    constants = initializers(model.graph)
    for name, value in values.items():
        constants[name].CopyFrom(numpy_helper.from_array(value, name))


def _trace(simulated: SimulatedModel, version: str) -> tuple[onnx.ModelProto, str]:
    """The graph without quantizers, its weights on their grids, and the encodings as JSON."""
    device = next(simulated.parameters()).device
    images = torch.zeros(TRACED_BATCH, *simulated.shape, device=device)
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _without_output(),
    ):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        written = Path(folder) / "model.onnx"
        try:
            simulated.sim.onnx.export(
                images,
                str(written),
                encoding_version=version,
                export_int32_bias=False,  # its scales are not always input times weight
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=_OPSET,
                dynamo=False,
            )
            model = onnx.load(written)
        except (RuntimeError, ValueError, NotImplementedError, torch.onnx.OnnxExporterError) as e:
            reason = (str(e).strip() or type(e).__name__).splitlines()[0]
            raise ExportError(f"cannot export this network to ONNX: {reason}") from e
        text = written.with_suffix(".encodings").read_text()
    return clean(model), text


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Keep standard output clean of the graph that PyTorch's C++ prints where export fails."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ExportError(f"{path}: cannot write: {error.strerror}") from error
