"""Every name of AIMET's that is relied on, checked at once when the first of them is needed.

Many are private and may go in any release. AIMET is imported where it is used, since that takes
seconds, and kept from logging.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

from torch import nn

from bitladder.aimet_names import DISTRIBUTION, PACKAGE, SUPPORTED
from bitladder.errors import QuantizationError
from bitladder.isolation import hush
from bitladder.operators import operators

NAMES: Mapping[str, tuple[str, ...]] = {
    "adaround.adaround_weight": ("Adaround._apply_adaround", "AdaroundParameters"),
    "bn_reestimation": ("reestimate_bn_stats",),
    "common.quantsim": (
        "_adjust_weight_scale_against_bias_overflow",
        "_adjust_weight_scale_against_scale_underflow",
        "_get_minimum_scale",
    ),
    "common.quantsim_config.quantsim_config": ("_get_config_file",),
    "common.utils": ("AimetLogger.set_level_for_all_areas",),
    "nn.base": ("BaseQuantizationMixin",),
    "nn.true_quant": (
        "QuantizationMixin._default_kernel",
        "QuantizationMixin.cls_to_qcls",
        "QuantizationMixin.compute_encodings",
        "QuantizationMixin.from_module",
        "QuantizationMixin.get_kernel",
        "QuantizationMixin.implements",
        "QuantizationMixin.qcls_to_cls",
        "_DispatchMixin._forward_no_dispatch",
        "_DispatchMixin._is_dispatch_necessary",
        "_compute_encodings_with_overflow_protection",
    ),
    "quantization.affine.quantizer": (
        "AffineEncoding",
        "GroupedBlockQuantizeDequantize",
        "QuantizeDequantize._compute_encodings",
        "QuantizeDequantize._is_initialized",
        "QuantizeDequantize.allow_overwrite",
        "QuantizeDequantize.bitwidth",
        "QuantizeDequantize.get_encodings",
        "QuantizeDequantize.get_max",
        "QuantizeDequantize.get_min",
        "QuantizeDequantize.get_offset",
        "QuantizeDequantize.get_scale",
        "QuantizeDequantize.is_initialized",
        "QuantizeDequantize.is_overwrite_allowed",
        "QuantizeDequantize.set_range",
        "QuantizeDequantize.signed",
        "QuantizeDequantize.symmetric",
    ),
    "quantization.base": ("QuantizerBase",),
    "quantization.encoding_analyzer": (
        "MinMaxEncodingAnalyzer.compute_encodings_from_stats",
        "PercentileEncodingAnalyzer.compute_encodings_from_stats",
        "SqnrEncodingAnalyzer._pick_test_candidates_asymmetric",
        "SqnrEncodingAnalyzer._pick_test_candidates_symmetric",
        "SqnrEncodingAnalyzer._select_best_candidates",
        "StatisticsNotFoundError",
        "TfEnhancedEncodingAnalyzer.update_stats",
        "_Histogram",
        "_HistogramObserver._create_bin_edges",
        "_HistogramObserver.collect_stats",
        "_HistogramObserver.merge_stats",
        "_MinMaxObserver.collect_stats",
        "_MinMaxObserver.merge_stats",
        "_MinMaxRange",
        "adjust_min_max",
    ),
    "quantsim": (
        "QuantizationSimModel.compute_encodings",
        "QuantizationSimModel.get_original_model",
    ),
    "seq_mse": ("apply_seq_mse",),
    "utils": (
        "_ABS_OFFGRID_CEIL",
        "_MIN_MATCHED_FRAC",
        "_ULP_REL_BF16",
        "_ULP_REL_FP16",
        "_ULP_REL_FP32",
        "_ULP_SAFETY",
        "in_eval_mode",
    ),
}
"""By module of AIMET's: functions, classes, and members of classes."""
OF_OBJECTS: Mapping[str, tuple[str, ...]] = {
    "QuantizationMixin": (
        "_param_pre_quantizers",
        "input_quantizers",
        "output_quantizers",
        "param_quantizers",
    ),
    "QuantizeDequantize": (
        "_symmetric",
        "block_size",
        "encoding_analyzer",
        "max",
        "min",
        "qmax",
        "qmin",
        "shape",
        "zero_point_shift",
    ),
    "_HistogramObserver": ("_histogram_range_limit", "growth_limit", "num_bins", "stats"),
}
"""What an object of a class has only once it is made, such as a quantized ReLU."""
_FUNCTIONS = "_base.nn.modules.custom"  # its modules that stand for functions


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of AIMET's own code, and of what it traces with, from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def aimet() -> SimpleNamespace:
    """The functions and classes of ``NAMES`` by name, and ``functions``, a module.

    Raises:
        QuantizationError: AIMET is not installed, or lacks one of the names.
    """
    found = SimpleNamespace()
    missing: list[str] = []
    with quiet():
        for module, names in NAMES.items():
            for name in names:
                _find(found, module, name, missing)
        for known in operators():
            for place in known.modules:
                package, _, name = place.partition(".")
                if package == "aimet":
                    _find(SimpleNamespace(), _FUNCTIONS, name, missing)
        if not missing:
            found.functions = importlib.import_module(f"aimet_torch.{_FUNCTIONS}")
            hush(*(area.value for area in found.AimetLogger.LogAreas))
            missing = _missing_of_objects(found)
    if missing:
        raise QuantizationError(_told(missing))
    return found


def _find(found: SimpleNamespace, module: str, name: str, missing: list[str]) -> None:
    """Import a module and keep the first part of a name in it; note it where there is none."""
    try:
        imported = importlib.import_module(f"aimet_torch.{module}")
    except ImportError as error:
        if not any(module in line for line in missing):
            reason = f" ({error})".splitlines()[0] if PACKAGE not in str(error.name) else ""
            missing.append(f"{PACKAGE}.{module}{reason}")
        return
    top = name.partition(".")[0]
    try:
        operator.attrgetter(name)(imported)
    except AttributeError:
        missing.append(f"{PACKAGE}.{module}.{name}")
    else:
        setattr(found, top, getattr(imported, top))


def _missing_of_objects(found: SimpleNamespace) -> list[str]:
    """Attributes that small objects of AIMET's lack."""
    made = {
        "QuantizationMixin": found.QuantizationMixin.from_module(nn.ReLU()),
        "QuantizeDequantize": found.QuantizeDequantize(shape=(), bitwidth=8, symmetric=True),
        "_HistogramObserver": found._HistogramObserver((), num_bins=2),
    }
    return [
        f"{kind}.{name}"
        for kind, names in OF_OBJECTS.items()
        for name in names
        if not hasattr(made[kind], name)
    ]


def _told(missing: list[str]) -> str:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    try:
        installed = f"{DISTRIBUTION} {version(DISTRIBUTION)} lacks {missing[0]}{more}"
    except PackageNotFoundError:
        installed = f"{DISTRIBUTION} is not installed"
    return (
        f"{installed}; bitladder works with {DISTRIBUTION}{SUPPORTED}: "
        f"pip install '{DISTRIBUTION}{SUPPORTED}'"
    )
