"""One call from a float network to a quantized one, for notebooks and scripts.

The rooms below do the work; here a network, images and a recipe's name come together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bitladder import deploy, simulation, targets, tasks, techniques
from bitladder.data import LoaderSplit
from bitladder.errors import (
    DataError,
    ExportError,
    ModelError,
    QuantizationError,
    StudyError,
    unknown,
)
from bitladder.isolation import isolated
from bitladder.ladder import COMPARED_IMAGES, Ladder, gather
from bitladder.models import onnx_file
from bitladder.options import (
    Finetune,
    InputType,
    Normalization,
    Precision,
    Technique,
    WeightType,
    calibration_count,
    normalization_of,
    parse_recipe,
    parse_techniques,
    suited,
    told,
)
from bitladder.rungs import Rung
from bitladder.saved_network import read_saved, save_quantized
from bitladder.simulation import device_of
from bitladder.steps_shown import Tell, shown
from bitladder.structures import Inputs, count, example, first, input_count, moved, named, shapes
from bitladder.target_specs import TargetSpec
from bitladder.tasks import Task

_CHECKED_IMAGES = 2  # on which the traced network is compared with the model


@isolated()
def quantize(
    model: nn.Module | str | Path,
    calibration: Tensor | Iterable[Any],
    precision: str | int | Precision = "w8a8",
    recipe: str | Sequence[Any] = "ptq",
    *,
    task: str | Task | None = None,
    training: DataLoader[Any] | None = None,
    validation: DataLoader[Any] | None = None,
    normalize: str | Normalization | None = None,
    image_input: InputType = "float",
    seed: int = 0,
    log_dir: str | Path | None = None,
    progress: bool | Tell = True,
) -> QuantizedModel:
    """Quantize a convolutional network by a recipe.

    Args:
        model: float network of one or more tensors, such as images (N, C, H, W), to a tensor or to
            tensors in tuples, lists, dictionaries and dataclasses; on any device. It is not
            changed. Or the path of a float ``.onnx`` file.
        calibration: images (N, C, H, W), for several inputs a tuple of one tensor each, or an
            iterable of batches of these, with or without targets beside them.
        precision: bits of weights and activations: ``8``, ``"w4a8"``, ``"w4a4-edges8"``.
        recipe: name of a recipe (``ptq``, ``qat``, ``data_free``, ``report``), or a list of
            techniques as in a study.
        task: what the outputs mean: a name (``classification``, ``segmentation``, ``detection``,
            ``restoration``), ``package.module:Class``, or a ``Task``. Without one every output's
            signal-to-noise ratio is measured and nothing else, unless there are ``training`` or
            ``validation`` images: then it is ``classification``.
        training: batches (images, targets), for recipes that train.
        validation: batches (images, targets) on which every rung's quality is measured.
        normalize: what the network's training did to pixels in 0 to 1: ``imagenet``, or a
            ``Normalization``. It becomes a part of the quantized network, so that all images given
            here, and to its files, are pixels in 0 to 1. By default images are as the network takes
            them.
        image_input: what files take of an image: ``float``, or ``uint8``, its bytes. Their grid is
            then the image's at every precision, and calibration images may be uint8.
        seed: seed of everything random.
        log_dir: folder of TensorBoard logs of training; by default none are kept.
        progress: show each technique and its training on the standard error, as a bar in a terminal
            or a notebook, as lines elsewhere; or a function that is told each ``progress.Step``.

    Raises:
        StudyError: the precision, the recipe, the task, the normalization or ``image_input`` is
            not valid.
        ModelError: the model does not take these images, its outputs are not such as the task
            reads, or it cannot be traced; the message names the line that stops it.
        QuantizationError: there are no calibration images, the recipe trains and there are no
            training images, or a technique cannot be applied.
        TrainingError: training ends at chance level or with a loss that is not a number.
    """
    try:
        width = Precision.parse(precision)
    except ValueError as error:
        raise StudyError(f"precision: {error}") from None
    steps = suited(parse_recipe(recipe), width)
    wanted = max(COMPARED_IMAGES, calibration_count(steps))
    if task is None and (training is not None or validation is not None):
        task = "classification"
    if image_input not in (forms := get_args(InputType)):
        raise StudyError(unknown("image_input", image_input, forms))
    inside, pixels = _normalization(normalize), image_input == "uint8"
    model, images = _opened(model, calibration, wanted, pixels=pixels or inside is not None)
    context = techniques.Context(
        precision=width,
        calibration=images,
        reference=_taking_pixels(model, inside, images),
        pixels=pixels,
        task=None if task is None else tasks.find(task),
        integer_outputs=targets.integer_outputs,
        target_outputs=targets.target_outputs,
        seed=seed,
    )
    checked = moved(first(context.calibration, _CHECKED_IMAGES), device_of(context.reference))
    simulation.check(context.reference, checked)
    classes = _check_outputs(context, checked)
    split = None
    if validation is not None:
        assert context.task is not None
        split = LoaderSplit(validation, context.task, "validation", classes)
    ladder = Ladder(context, split)
    with shown(progress) as ladder.tell:
        ladder.begin()
        simulated = _climb(ladder, steps, context.reference, training, classes, log_dir)
    return QuantizedModel(simulated, steps, ladder, inside)


def _normalization(value: str | Normalization | None) -> Normalization | None:
    """The normalization that a caller means.

    Raises:
        StudyError: its name is unknown.
    """
    if isinstance(value, str) and value not in (known := ("none", "imagenet")):
        raise StudyError(unknown("normalization", value, known) + ", or give a Normalization")
    return normalization_of(value)


def _taking_pixels(
    model: nn.Module, normalization: Normalization | None, inputs: Inputs
) -> nn.Module:
    """A copy of a network, which normalizes its pixels itself where that is asked for."""
    if normalization is None:
        return simulation.copy_of(model)
    return simulation.normalized(model, normalization, inputs)


def _opened(
    model: nn.Module | str | Path, calibration: Tensor | Iterable[Any], wanted: int, *, pixels: bool
) -> tuple[nn.Module, Inputs]:
    """The network, read from its file where it is one, and its calibration images."""
    if isinstance(model, nn.Module):
        return model, gather(calibration, wanted, input_count(model.forward), pixels=pixels)
    count = onnx_file.input_count(model)
    images = gather(calibration, wanted, count, channels_last=True, pixels=pixels)
    return onnx_file.from_onnx(model, shapes(images)), images


@torch.no_grad()
def _check_outputs(context: techniques.Context, inputs: Inputs) -> int | None:
    """See that the task reads the network's outputs, and say how many classes they tell apart."""
    if context.task is None:
        return None
    outputs = named(context.reference(*inputs))
    try:
        context.task.check(outputs)
    except ModelError as error:
        raise ModelError(f"{type(context.reference).__name__} {error}") from None
    return context.task.outputs_classes(outputs)


def _climb(
    ladder: Ladder,
    steps: Sequence[Technique],
    model: nn.Module,
    training: DataLoader[Any] | None,
    classes: int | None,
    log_dir: str | Path | None,
) -> simulation.SimulatedModel:
    """Climb the ladder to its last rung, training on a loader of the caller's."""
    with tempfile.TemporaryDirectory() as folder:
        if training is not None:
            assert ladder.context.task is not None
            train = LoaderSplit(training, ladder.context.task, "training", classes)
            if next(iter(train.batches(1)), None) is None:
                raise DataError("training: the loader gives no batch; give at least one")
            ladder.context.training = techniques.TrainingData(
                train, ladder.validation, classes, Path(log_dir or folder)
            )
        simulated = ladder.climb(steps, model)
    ladder.context.training = None
    assert isinstance(simulated, simulation.SimulatedModel)
    ladder.round_biases(simulated)
    return simulated.eval()


class QuantizedModel:
    """A quantized network as ``quantize`` and ``QuantizedModel.load`` return it.

    Calling it with the network's inputs gives what the network returns, as integers would give it.
    """

    def __init__(
        self,
        simulated: simulation.SimulatedModel,
        recipe: tuple[Technique, ...],
        ladder: Ladder,
        normalization: Normalization | None = None,
    ) -> None:
        self.simulated = simulated
        self.normalization = normalization
        self.recipe = recipe
        self._ladder = ladder
        self._teacher_is_trained = True

    @classmethod
    @isolated()
    def load(cls, path: str | Path, model: nn.Module | None = None) -> QuantizedModel:
        """Read what ``save`` or a study wrote; outputs are bit-identical to the saved network's.

        Args:
            path: the file.
            model: a float network of the same architecture; its weights do not matter to the
                quantized network, but are what ``sensitivity`` and ``finetune`` compare with. A
                file of a study names its own, without the trained float weights.

        Raises:
            QuantizationError: the file is not one of ours, of another format or of another network,
                or it names none.
            ModelError: the network that it names is not there.
        """
        saved = read_saved(Path(path))
        network = saved.network(Path(path)) if model is None else model
        inputs = example(0, saved.shapes, saved.torch_dtypes)
        context = techniques.Context(
            precision=Precision.parse(saved.precision),
            calibration=inputs,
            reference=_taking_pixels(network, saved.normalization, inputs),
            pixels=saved.pixels,
            task=None if saved.task is None else tasks.find(saved.task),
            integer_outputs=targets.integer_outputs,
            target_outputs=targets.target_outputs,
            seed=saved.seed,
        )
        recipe = parse_techniques(saved.recipe)
        simulated = techniques.rebuild(recipe, context.reference, context)
        assert isinstance(simulated, simulation.SimulatedModel)
        simulated.restore(Path(path))
        for name, parameter in simulated.module.named_parameters():
            parameter.requires_grad_(name not in saved.frozen)
        ladder = Ladder(context, None)
        ladder.rungs = list(saved.rungs)
        loaded = cls(simulated.eval(), recipe, ladder, saved.normalization)
        loaded._teacher_is_trained = model is not None
        return loaded

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network returns for its inputs, such as images (N, C, H, W), or their bytes."""
        return self.simulated(
            *(one / simulation.LEVELS if one.dtype == torch.uint8 else one for one in inputs)
        )

    @property
    def precision(self) -> Precision:
        """Bits of weights and activations."""
        return self.simulated.precision

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The network after each technique so far."""
        return tuple(self._ladder.rungs)

    @isolated()
    def finetune(
        self,
        loader: DataLoader[Any],
        epochs: int = 1,
        *,
        log_dir: str | Path | None = None,
        progress: bool | Tell = True,
        **options: Any,
    ) -> QuantizedModel:
        """Train the quantized network itself and measure the rung it reaches.

        Args:
            loader: batches (images, labels).
            epochs: passes over them.
            log_dir: folder of TensorBoard logs; by default none are kept.
            progress: as of ``quantize``.
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
        context = self._ladder.context
        context.task = context.task or tasks.find("classification")
        classes = _check_outputs(context, self._example())
        with shown(progress) as self._ladder.tell:
            self.simulated = _climb(self._ladder, steps, self.simulated, loader, classes, log_dir)
        self.recipe = (*self.recipe, *steps)
        return self

    def _example(self) -> Inputs:
        """Two random items of each input."""
        return moved(self.simulated.example(2), device_of(self.simulated))

    @isolated()
    def layers(self, images: Tensor | Inputs | None = None) -> list[simulation.QuantizerRange]:
        """Every quantizer with its bits, ranges and signal-to-noise ratio.

        Args:
            images: what activations' noise is measured on; by default calibration images.
        """
        images = self._ladder.compared if images is None else images
        return simulation.layers(self.simulated, images if count(images) else None)

    @isolated()
    def sensitivity(
        self, images: Tensor | Inputs | None = None, target: Any | None = None
    ) -> list[simulation.Sensitivity]:
        """What each quantizer costs when it alone is on, the costliest first.

        Args:
            images: (N, C, H, W), or a tuple of one tensor an input; by default calibration images.
            target: of the images, for the task's quality.

        Raises:
            QuantizationError: there are no images.
        """
        images = self._ladder.compared if images is None else images
        if not count(images):
            raise QuantizationError("sensitivity: there are no images; give some")
        task = self._ladder.context.task
        return simulation.sensitivity(self.simulated, images, target, task)

    @isolated()
    def export(
        self,
        path: str | Path,
        *,
        target: str | TargetSpec = "onnxruntime",
        encodings: str | Path | None = None,
        encodings_version: str = "2.0.0",
        int4: bool | None = None,
        weights: WeightType = "int8",
        classes: Sequence[str] = (),
    ) -> Path:
        """Write the network for a target.

        Args:
            path: an ``.onnx`` file: the QDQ graph, or, with ``encodings``, the float graph; or a
                ``.dlc`` file, which is always for ``htp``; or a ``.tflite`` file, for ``litert``.
                It is opened and run before it takes its place.
            target: that the QDQ graph is for: ``onnxruntime``, ``htp``, ``package.module:NAME``, or
                a ``TargetSpec``.
            encodings: AIMET's JSON to write beside the float graph.
            encodings_version: of that JSON: ``0.6.1``, ``1.0.0`` or ``2.0.0``.
            int4: store 4-bit weights of the QDQ graph as int4; by default for ``htp``.
            weights: how a QDQ graph for ``onnxruntime`` holds weights of up to 8 bit: ``int8``;
                ``uint8``, the same plus 128; ``auto``, uint8 where int8 could saturate on an x86
                processor without VNNI, in a session with default options.
            classes: names in the order of the outputs, for the file's metadata, which say what it
                takes of an image, too.

        Raises:
            ExportError: an option is not valid, the network cannot be exported, or a file cannot
                be written.
            TargetError: the runtime of a .dlc or .tflite is not installed, or refuses it.
        """
        path = Path(path)
        if encodings is None:
            pixels = self._ladder.context.pixels
            targets.write(
                self.simulated,
                path,
                target=target,
                int4=int4,
                weights=weights,
                image_input="uint8" if pixels else "float",
                description=self._described(classes),
            )
        elif path.suffix != ".onnx":
            raise ExportError(f"{path}: encodings stand beside a float graph; use .onnx")
        else:
            traced = deploy.Traced(self.simulated, self._described(classes))
            traced.write_float(path, Path(encodings), version=encodings_version)
        return path

    def _described(self, classes: Sequence[str]) -> deploy.Description:
        task = self._ladder.context.task
        return deploy.Description(
            shapes=self.simulated.shapes,
            pixels=self._ladder.context.pixels or self.normalization is not None,
            normalization=told(self.normalization),
            task=None if task is None else task.name,
            classes=tuple(classes),
        )

    @isolated()
    def integer_exact(self) -> targets.Session:
        """What ONNX Runtime's integer kernels compute, in PyTorch, equal in every bit.

        Its ``run`` maps an array an input to the outputs by name.

        Raises:
            TargetError: it holds an operation on integers whose arithmetic is not known.
        """
        return targets.integer_arithmetic(self.simulated)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and ranges by name."""
        state: Mapping[str, Any] = self.simulated.module.state_dict()
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    @isolated()
    def save(self, path: str | Path) -> None:
        """Write weights, ranges, recipe and rungs as one safetensors file."""
        save_quantized(
            self.simulated,
            Path(path),
            recipe=self.recipe,
            seed=self._ladder.context.seed,
            task=self._ladder.context.task,
            rungs=self.rungs,
            normalization=self.normalization,
            pixels=self._ladder.context.pixels,
        )

    def __repr__(self) -> str:
        steps = ", ".join(technique.name for technique in self.recipe)
        return f"QuantizedModel({self.precision}: {steps})"
