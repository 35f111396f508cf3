"""The ablation that no study can be: calibrate on the images that the accuracy is measured on.

python scripts/calibrate_on_evaluation.py runs/outliers-procedure results/outliers/evaluation
"""

import sys
from pathlib import Path

import pandas as pd

from bitladder import data, models, quantize
from bitladder.options import ModelOptions
from bitladder.pipeline.rows import interval
from bitladder.study import Study, load

BATCH = 250


def main(run: Path, output: Path) -> None:
    """Quantize the run's float networks again, ranges from validation images; one row a rung."""
    study = load(run / "study.yaml")
    rows = [row for options in study.models for row in repeated(study, options, run)]
    output.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(output / "rungs.csv", index=False, lineterminator="\n")


def repeated(study: Study, options: ModelOptions, run: Path) -> list[dict[str, object]]:
    """The rungs of one network of the study."""
    [dataset], [precision] = study.datasets, study.precisions
    images = data.load(dataset, study.data, seed=study.seed)
    network = models.build(options, classes=images.classes, shapes=images.shapes, seed=study.seed)
    folder = run / "cells" / dataset.name / options.name / str(precision)
    models.load_weights(network, folder / "weights.safetensors")
    validation = images.validation.batches(BATCH)
    quantized = quantize(
        network, validation, precision, study.recipe, validation=validation, seed=study.seed
    )
    return [
        {"model": options.name, "technique": rung.technique, **interval("value", rung.quality)}
        for rung in quantized.rungs
    ]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
