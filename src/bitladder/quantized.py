"""One call from a float network to a quantized one, for notebooks and scripts.

The rooms below do the work; here a network, images and a recipe's name come together.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bitladder import deploy, models, simulation, targets, techniques
from bitladder.accuracy import Accuracy
from bitladder.errors import ExportError, QuantizationError, StudyError
from bitladder.ladder import COMPARED_IMAGES, Ladder, Rung, gather
from bitladder.options import (
    Finetune,
    ModelOptions,
    Precision,
    Technique,
    WeightType,
    calibration_count,
    dump_recipe,
    parse_recipe,
    parse_techniques,
)

_CHECKED_IMAGES = 2  # on which the traced network is compared with the model
_METADATA = "bitladder"


def quantize(
    model: nn.Module | str | Path,
    calibration: Tensor | Iterable[Any],
    precision: str | int | Precision = "w8a8",
    recipe: str | Sequence[Any] = "ptq",
    *,
    training: DataLoader[Any] | None = None,
    validation: DataLoader[Any] | None = None,
    seed: int = 0,
    log_dir: str | Path | None = None,
) -> QuantizedModel:
    """Quantize a convolutional network by a recipe.

    Args:
        model: float network from images (N, C, H, W) to logits (N, classes), on any device; it is
            not changed. Or the path of a float ``.onnx`` file.
        calibration: images (N, C, H, W), or an iterable of batches, of images or (images, labels).
        precision: bits of weights and activations: ``8``, ``"w4a8"``, ``"w4a4-edges8"``.
        recipe: name of a recipe (``ptq``, ``qat``, ``data_free``, ``report``), or a list of
            techniques as in a study.
        training: batches (images, labels), for recipes that train.
        validation: batches (images, labels) on which every rung's accuracy is measured.
        seed: seed of everything random.
        log_dir: folder of TensorBoard logs of training; by default none are kept.

    Raises:
        StudyError: the precision or the recipe is not valid.
        ModelError: the model does not map these images to logits, or torch.fx cannot trace it; the
            message names the line that stops it.
        QuantizationError: there are no calibration images, the recipe trains and there are no
            training images, or a technique cannot be applied.
        TrainingError: training ends at chance level or with a loss that is not a number.
    """
    try:
        width = Precision.parse(precision)
    except ValueError as error:
        raise StudyError(f"precision: {error}") from None
    steps = parse_recipe(recipe)
    images = gather(calibration, max(COMPARED_IMAGES, calibration_count(steps)))
    if not isinstance(model, nn.Module):
        model = models.from_onnx(model, [tuple(images.shape[1:])])
    context = techniques.Context(
        precision=width,
        calibration=images,
        reference=simulation.copy_of(model),
        integer_logits=targets.integer_logits,
        seed=seed,
    )
    device = simulation.device_of(context.reference)
    simulation.check(context.reference, context.calibration[:_CHECKED_IMAGES].to(device))
    ladder = Ladder(context, validation)
    quantized = ladder.climb(steps, context.reference, training, log_dir)
    return QuantizedModel(quantized, steps, ladder)


class QuantizedModel:
    """A quantized network as ``quantize`` and ``QuantizedModel.load`` return it.

    Calling it with images (N, C, H, W) gives the logits (N, classes) that integers would give.
    """

    def __init__(
        self, simulated: simulation.SimulatedModel, recipe: tuple[Technique, ...], ladder: Ladder
    ) -> None:
        self.simulated = simulated
        self.recipe = recipe
        self._ladder = ladder
        self._teacher_is_trained = True

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None) -> QuantizedModel:
        """Read what ``save`` or a study wrote; outputs are bit-identical to the saved network's.

        Args:
            path: the file.
            model: a float network of the same architecture; its weights do not matter to the
                quantized network, but are what ``sensitivity`` and ``finetune`` compare with. A
                file of a study names its own, without the trained float weights.

        Raises:
            QuantizationError: the file is not one of ours, or of another network, or it names none.
            ModelError: the network that it names is not there.
        """
        described = _describe(Path(path))
        shape, given = tuple(described["shape"]), model
        model = _named(described, str(path)) if given is None else given
        context = techniques.Context(
            precision=Precision.parse(described["precision"]),
            calibration=torch.zeros(0, *shape),
            reference=simulation.copy_of(model),
            integer_logits=targets.integer_logits,
            seed=described["seed"],
        )
        recipe = parse_techniques(described["recipe"])
        simulated = techniques.rebuild(recipe, context.reference, context)
        assert isinstance(simulated, simulation.SimulatedModel)
        simulated.restore(Path(path))
        if "frozen" in described:  # files of earlier versions do not say
            for name, parameter in simulated.module.named_parameters():
                parameter.requires_grad_(name not in described["frozen"])
        ladder = Ladder(context, None)
        ladder.rungs = [_rung(row) for row in described.get("rungs", ())]
        loaded = cls(simulated.eval(), recipe, ladder)
        loaded._teacher_is_trained = given is not None
        return loaded

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = self.simulated(images)
        return logits

    @property
    def precision(self) -> Precision:
        """Bits of weights and activations."""
        return self.simulated.precision

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The network after each technique so far."""
        return tuple(self._ladder.rungs)

    def finetune(
        self,
        loader: DataLoader[Any],
        epochs: int = 1,
        *,
        log_dir: str | Path | None = None,
        **options: Any,
    ) -> QuantizedModel:
        """Train the quantized network itself and measure the rung it reaches.

        Args:
            loader: batches (images, labels).
            epochs: passes over them.
            log_dir: folder of TensorBoard logs; by default none are kept.
            **options: of the technique ``finetune``, such as ``lr`` or ``distill``.

        Raises:
            StudyError: an option is unknown or not valid.
            QuantizationError: it shall follow the float network, which was not given to ``load``.
            TrainingError: the loss is not a number, or there is nothing to train.
        """
        steps = parse_techniques([{Finetune.name: {"epochs": epochs, **options}}])
        if not self._teacher_is_trained and steps[0].distill:  # type: ignore[attr-defined]
            raise QuantizationError(
                "finetune: distill follows the float network, whose weights are not in the file; "
                "give the trained network to load(path, model), or distill=0"
            )
        self.simulated = self._ladder.climb(steps, self.simulated, loader, log_dir)
        self.recipe = (*self.recipe, *steps)
        return self

    def layers(self, images: Tensor | None = None) -> list[simulation.QuantizerRange]:
        """Every quantizer with its bits, ranges and signal-to-noise ratio.

        Args:
            images: what activations' noise is measured on; by default calibration images.
        """
        images = self._ladder.compared if images is None else images
        return simulation.layers(self.simulated, images if len(images) else None)

    def sensitivity(
        self, images: Tensor | None = None, labels: Tensor | None = None
    ) -> list[simulation.Sensitivity]:
        """What each quantizer costs when it alone is on, the costliest first.

        Args:
            images: (N, C, H, W); by default calibration images.
            labels: of the images, for accuracies.

        Raises:
            QuantizationError: there are no images.
        """
        images = self._ladder.compared if images is None else images
        if not len(images):
            raise QuantizationError("sensitivity: there are no images; give some")
        return simulation.sensitivity(self.simulated, images, labels)

    def export(
        self,
        path: str | Path,
        *,
        target: str = "onnxruntime",
        encodings: str | Path | None = None,
        int4: bool | None = None,
        weights: WeightType = "int8",
    ) -> Path:
        """Write the network for a target.

        Args:
            path: an ``.onnx`` file: the QDQ graph, or, with ``encodings``, the float graph; or a
                ``.dlc`` file, which is always for ``htp``.
            target: that the QDQ graph is for, ``onnxruntime`` or ``htp``.
            encodings: AIMET's JSON to write beside the float graph.
            int4: store 4-bit weights of the QDQ graph as int4; by default for ``htp``.
            weights: how a QDQ graph for ``onnxruntime`` holds weights of up to 8 bit: ``int8``;
                ``uint8``, the same plus 128; ``auto``, uint8 where int8 could saturate on an x86
                processor without VNNI, in a session with default options.

        Raises:
            ExportError: an option is not valid, the network cannot be exported, or a file cannot
                be written.
            TargetError: a .dlc is asked for and onnxruntime-qnn is not installed.
        """
        path = Path(path)
        if path.suffix not in (".onnx", ".dlc"):
            raise ExportError(f"{path}: cannot write '{path.suffix}' files; use .onnx or .dlc")
        if path.suffix == ".dlc":
            with tempfile.TemporaryDirectory() as folder:
                artifact = Path(folder) / f"{path.stem}.onnx"
                deploy.Traced(self.simulated).write_qdq(
                    artifact, target="htp", int4=int4, weights=weights
                )
                targets.write_dlc(artifact, path)
            return path
        if encodings is None:
            deploy.Traced(self.simulated).write_qdq(path, int4=int4, target=target, weights=weights)
        else:
            deploy.Traced(self.simulated).write_float(path, Path(encodings))
        return path

    def integer_exact(self) -> targets.Session:
        """What ONNX Runtime's integer kernels compute, in PyTorch, equal in every bit.

        Its ``run`` maps a float32 array (N, C, H, W) to logits (N, classes).

        Raises:
            TargetError: it holds an operation on integers whose arithmetic is not known.
        """
        return targets.integer_arithmetic(self.simulated)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and ranges by name."""
        state: Mapping[str, Any] = self.simulated.module.state_dict()
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def save(self, path: str | Path) -> None:
        """Write weights, ranges, recipe and rungs as one safetensors file."""
        save_quantized(
            self.simulated,
            Path(path),
            recipe=self.recipe,
            seed=self._ladder.context.seed,
            rungs=[asdict(rung) for rung in self.rungs],
        )

    def __repr__(self) -> str:
        steps = ", ".join(technique.name for technique in self.recipe)
        return f"QuantizedModel({self.precision}: {steps})"


def save_quantized(
    simulated: simulation.SimulatedModel,
    path: Path,
    *,
    recipe: Sequence[Technique],
    seed: int,
    model: ModelOptions | None = None,
    classes: int | None = None,
    rungs: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a quantized network so that ``QuantizedModel.load`` can rebuild it.

    Args:
        simulated: the network.
        path: the safetensors file.
        recipe: techniques that were applied.
        seed: seed of everything random.
        model: which network it is, if it has a name.
        classes: of that network.
        rungs: what was measured on the way.
    """
    described = {
        "precision": str(simulated.precision),
        "shape": simulated.shape,
        "seed": seed,
        "recipe": dump_recipe(recipe),
        "rungs": list(rungs),
        "frozen": [n for n, p in simulated.module.named_parameters() if not p.requires_grad],
    }
    if model is not None:
        described |= {"model": model.model_dump(mode="json"), "classes": classes}
    simulated.save(path, {_METADATA: json.dumps(described)})


def _named(described: Mapping[str, Any], path: str) -> nn.Module:
    if "model" not in described:
        raise QuantizationError(f"{path}: does not name its network; give the model")
    options = ModelOptions.model_validate(described["model"])
    shape = tuple(described["shape"])
    return models.build(options, classes=described["classes"], shape=shape, seed=described["seed"])


def _describe(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA)
    except Exception as error:  # safetensors raises its own type, and OSError
        raise QuantizationError(f"{path}: cannot read: {error}") from None
    if text is None:
        raise QuantizationError(f"{path}: was not written by QuantizedModel.save")
    described: dict[str, Any] = json.loads(text)
    return described


def _rung(row: dict[str, Any]) -> Rung:
    accuracy = row["accuracy"] and Accuracy(**row["accuracy"])
    return Rung(**{**row, "accuracy": accuracy, "notes": tuple(row["notes"])})
