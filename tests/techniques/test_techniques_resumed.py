"""Fine-tuning that goes on, from a file or from a checkpoint, ends as if it had never stopped."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import techniques
from bitladder.errors import QuantizationError
from bitladder.options import ModelOptions, parse_recipe
from bitladder.saved_network import save_quantized
from bitladder.training.module import TrainedModule
from every_layer import CASES, Zoo, context_for, lively
from small_network import Branches

# Every named recipe, and the techniques that leave other widths, ranges or layers behind.
KEPT = [name for name in CASES if name.startswith(("recipe", "per tensor", "sequential", "mixed"))]


def _loader(splits):
    images = splits[0].float_images(torch.arange(96))
    return DataLoader(TensorDataset(images, splits[0].targets[:96]), batch_size=32, shuffle=True)


class Exportable(Zoo):
    """Without what cannot be written to a file yet, which does not matter here."""

    def __init__(self):
        super().__init__()
        self.grouped[0] = nn.ConvTranspose2d(8, 8, 1, bias=False)


@pytest.mark.parametrize("name", KEPT)
def test_fine_tuning_goes_on_from_a_file_as_if_it_had_not_been_left(name, splits, tmp_path):
    model = lively(Exportable())
    model.before[1].weight.requires_grad_(False)  # which a file has to keep
    images = splits[0].float_images(torch.arange(64))
    recipe = CASES[name]
    kept = bitladder.quantize(model, images, "w4a4", recipe, training=_loader(splits), seed=1)
    kept.save(tmp_path / "q.safetensors")
    same = copy.deepcopy(model).requires_grad_(True)
    loaded = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", same)
    networks = (kept.simulated, loaded.simulated)
    flags = [{k: p.requires_grad for k, p in one.named_parameters()} for one in networks]
    assert flags[0] == flags[1]
    assert list(flags[0]) == list(flags[1])
    before = kept.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    for one in (kept, loaded):
        one.finetune(_loader(splits), lr=1e-3, distill=0.5, dampen=0.1)
    first, second = kept.state_dict(), loaded.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, before[key]) for key, value in first.items())
    assert kept.rungs[-2].notes == loaded.rungs[-2].notes
    assert (
        "frozen in the network that was given (first: before.1.weight)" in kept.rungs[-2].notes[0]
    )


def test_a_file_that_names_its_network_has_no_teacher(splits, tmp_path):
    options = ModelOptions(name="small_network:Branches")
    quantized = bitladder.quantize(
        lively(Branches()), splits[0].float_images(torch.arange(64)), 8,
        ["fold_batch_norm", "calibrate"],
    )  # fmt: skip
    path = tmp_path / "q.safetensors"
    save_quantized(
        quantized.simulated,
        path,
        recipe=quantized.recipe,
        seed=1,
        task="classification",
        model=options,
        classes=4,
    )
    loaded = bitladder.QuantizedModel.load(path)
    with pytest.raises(QuantizationError, match=r"give the trained network to load\(path, model\)"):
        loaded.finetune(_loader(splits))
    assert loaded.finetune(_loader(splits), distill=0).rungs[-2].technique == "finetune"
    given = bitladder.QuantizedModel.load(path, Branches())
    assert given.finetune(_loader(splits)).rungs[-2].technique == "finetune"


class KilledError(Exception):
    pass


def test_fine_tuning_that_was_broken_off_goes_on_to_the_same_end(splits, tmp_path, monkeypatch):
    recipe = parse_recipe(["fold_batch_norm", "calibrate", {"finetune": {
        "epochs": 3, "batch_size": 64, "distill": 0.5, "dampen": 0.1}}])  # fmt: skip
    ends = []
    usual = TrainedModule.training_step

    def until(step):
        def training_step(self, *given):
            if self.global_step == step:
                raise KilledError
            return usual(self, *given)

        return training_step

    for stop in (None, 10):
        model = lively(Zoo())
        context = context_for(model, splits, tmp_path)
        checkpoint = tmp_path / f"{stop}.ckpt"
        context.training = dataclasses.replace(context.training, checkpoint=checkpoint)

        def start(context=context, model=model):
            simulated = model
            for step in recipe[:-1]:
                simulated = techniques.apply(step, simulated, context)
            return simulated

        simulated = start()
        if stop is not None:
            with monkeypatch.context() as patch:
                patch.setattr(TrainedModule, "training_step", until(stop))
                with pytest.raises(KilledError):
                    techniques.apply(recipe[-1], simulated, context)
            assert checkpoint.exists()
            simulated.save(tmp_path / "half.safetensors")  # what is left of it counts for nothing
            simulated = start()
        context.notes = []
        ends.append((techniques.apply(recipe[-1], simulated, context).state_dict(), context.notes))
    (whole, said), (resumed, also) = ends
    tensors = [key for key, value in whole.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(whole[key], resumed[key]) for key in tensors)
    assert said == also
