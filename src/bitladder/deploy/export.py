"""A simulated network as files: float ONNX with its encodings, and QDQ ONNX of any precision."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import onnx
import torch
from numpy.typing import NDArray
from torch import fx

from bitladder import target_specs
from bitladder.deploy.biases import fit_scales, round_biases, rounded
from bitladder.deploy.byte_inputs import take_bytes
from bitladder.deploy.check import CHECKED, run_at_two_sizes
from bitladder.deploy.description import Description, write_description
from bitladder.deploy.encodings_file import dump_encodings
from bitladder.deploy.limits import fit_grids
from bitladder.deploy.observe import Observed, observed
from bitladder.deploy.qdq import QdqWriter
from bitladder.deploy.writer import FileWriter
from bitladder.errors import ExportError, StudyError, unknown
from bitladder.files import write_whole
from bitladder.options import EncodingsVersion, InputType, WeightType
from bitladder.simulation import SimulatedModel, device_of, image_axis
from bitladder.structures import named
from bitladder.target_specs import Dialect, TargetSpec

INTEGER_BIASES = "integer_biases"
"""Name of the rung that ``Traced.quantize_biases`` makes."""
_VERSION: EncodingsVersion = "2.0.0"  # unless another is asked for


class Traced:
    """A simulated network that is about to be written: looked at once, for all files.

    Where a bias is too large for an int32 at the scale of input times weight, the scale of that
    channel's weight grows until it fits, in the simulation itself, so that files hold what it is.
    Grids that are too fine for the runtime's kernels grow likewise (see ``limits``).

    Args:
        simulated: a calibrated network at any precision from 2 to 16 bit.
        description: of what the network takes and gives, for the metadata of the files.

    Raises:
        ExportError: its shapes do not follow from the number of images.
    """

    def __init__(self, simulated: SimulatedModel, description: Description | None = None) -> None:
        self.simulated, self.description = simulated, description
        fit_scales(simulated)
        fit_grids(simulated, self._with_owners)

    @functools.cached_property
    def _seen(self) -> Mapping[fx.Node, Observed]:
        return observed(self.simulated)

    def _with_owners(self) -> tuple[onnx.ModelProto, dict[str, str]]:
        writer = QdqWriter(self.simulated, self._seen)
        return writer.write(), writer.pairs.owners

    @torch.no_grad()
    def quantize_biases(self) -> str:
        """Round biases to the integers that kernels add to their sums: int32 at s_in * s_w.

        Until then the simulation adds float biases, as AIMET does, and at 4 bit a step of
        s_in * s_w is large enough for other classes (Jacob 2018, 2.4, has the grid). What is
        exported holds these integers whether or not the simulation does.

        Biases of layers that are not wholly on integers stay float.

        Returns:
            How many biases lie on such a grid now, in words.
        """
        return f"{round_biases(self.simulated)} biases are int32"

    def write_float(self, path: Path, encodings: Path, *, version: str = _VERSION) -> None:
        """Write the network without its quantizers as ONNX, and their encodings as AIMET's JSON.

        Args:
            path: the ONNX file; its inputs and outputs have the network's own names and take any
                number of images. The only output of a network that gives it no name is ``output``.
            encodings: the JSON file; its names are those of the ONNX file's tensors.
            version: of the JSON: ``0.6.1``, ``1.0.0`` or ``2.0.0``.

        Raises:
            ExportError: the version is unknown, an operator has no form in ONNX, or a file cannot
                be written.
        """
        if version not in (known := get_args(EncodingsVersion)):
            raise ExportError(unknown("version of encodings", version, known))
        writer = FileWriter(self.simulated, self._seen)
        model = writer.write()
        constants = {tensor.name for tensor in model.graph.initializer}
        text = dump_encodings(writer.grids, constants, version)
        self._describe(model, "float")
        self._check(model, compared=False)
        write_whole(path, model.SerializeToString(deterministic=True), refusal=ExportError)
        write_whole(encodings, text, refusal=ExportError)

    def write_qdq(
        self,
        path: Path,
        *,
        target: str | TargetSpec = "onnxruntime",
        int4: bool | None = None,
        weights: WeightType = "int8",
        image_input: InputType = "float",
    ) -> None:
        """Write the network as QDQ ONNX that a runtime executes on integers.

        Args:
            path: the ONNX file.
            target: whose form narrow integers take, by name; where none are narrower than their
                integer type, all known ones are the same.
            int4: store 4-bit weights with a scale a channel as int4 (opset 21) in place of int8;
                by default for ``htp``, which computes with them.
            weights: integer type of layers' weights of up to 8 bit, see ``QdqWriter``; files for
                ``htp`` always hold int8.
            image_input: what it takes of an image: pixels in 0 to 1, or ``uint8``, their bytes.

        Raises:
            ExportError: the type of weights is unknown or not of the target, bytes are not what
                the network was quantized for, an operator has no form in ONNX, or the file does
                not run on any number of images or cannot be written.
        """
        model = self.qdq(target=target, int4=int4, weights=weights, image_input=image_input)
        self._check(model, compared=True)
        write_whole(path, model.SerializeToString(deterministic=True), refusal=ExportError)

    def qdq(
        self,
        *,
        target: str | TargetSpec = "onnxruntime",
        int4: bool | None = None,
        weights: WeightType = "int8",
        image_input: InputType = "float",
    ) -> onnx.ModelProto:
        """The model that ``write_qdq`` writes."""
        if image_input not in (known := get_args(InputType)):
            raise ExportError(unknown("image_input", image_input, known))
        dialect = _dialect(target, weights)
        writer = QdqWriter(
            self.simulated,
            self._seen,
            int4=dialect.int4 if int4 is None else int4,
            one_sign=dialect.one_sign,
            weights=weights if weights in dialect.weights else "int8",
        )
        model = writer.write()
        precision = str(self.simulated.precision)
        model.metadata_props.add(key="bitladder.precision", value=precision)
        if image_input == "uint8":
            take_bytes(model, self._images())
        self._describe(model, image_input)
        return model

    def _describe(self, model: onnx.ModelProto, image_input: InputType) -> None:
        if self.description is not None:
            write_description(model, replace(self.description, input=image_input))

    def _images(self) -> list[str]:
        """Names of the inputs that are images.

        Raises:
            ExportError: there are none, or their grid is not that of bytes.
        """
        simulated = self.simulated
        found = [
            name
            for name, shape, dtype in zip(
                simulated.inputs, simulated.shapes, simulated.dtypes, strict=True
            )
            if dtype.is_floating_point and image_axis(shape) is not None
        ]
        if not found:
            raise ExportError("input: uint8 is for images, and the network takes none")
        if not simulated.pixels:
            raise ExportError(
                "input: uint8 needs a network whose image has the grid of bytes; quantize it with "
                "input: uint8"
            )
        return found

    def _check(self, model: onnx.ModelProto, *, compared: bool) -> None:
        example = tuple(one.numpy() for one in self.simulated.example(CHECKED))
        with rounded(self.simulated) if compared else nullcontext():
            run_at_two_sizes(model, example, self._simulate, compared=compared)

    @torch.no_grad()
    def _simulate(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        given = (torch.from_numpy(one).to(device_of(self.simulated)) for one in inputs)
        return [made.cpu().numpy() for made in named(self.simulated(*given)).values()]


def _dialect(target: str | TargetSpec, weights: str) -> Dialect:
    """The form of a target's files, which have to know the type of weights or take ``auto``."""
    if weights not in (known := get_args(WeightType)):
        raise ExportError(unknown("type of weights", weights, known))
    try:
        spec = target_specs.find(target)
    except StudyError as error:
        raise ExportError(str(error)) from None
    if weights not in spec.dialect.weights and weights != "auto":
        raise ExportError(
            f"weights: files for {spec.name} hold {', '.join(spec.dialect.weights)}, not {weights}"
        )
    return spec.dialect
