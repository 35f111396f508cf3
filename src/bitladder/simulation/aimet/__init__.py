"""The door to AIMET: nothing outside of this package names what is AIMET's.

``names`` lists all that is relied on; ``network``, ``quantizer``, ``calibration`` and ``learning``
are what it is needed for; the rest plugs our kernel into AIMET's quantizers and analyzers.
"""

from bitladder.simulation.aimet.calibration import (
    histogram_analyzer,
    is_quantizer,
    is_simple,
    let_grow,
    min_max_analyzer,
    observing,
    percentile_analyzer,
    scale_for_bias,
    scale_for_output,
    squared_error_analyzer,
    tf_enhanced_analyzer,
)
from bitladder.simulation.aimet.fused_analyzer import accelerate_analyzer
from bitladder.simulation.aimet.fused_quantizer import accelerate
from bitladder.simulation.aimet.learning import (
    learned_rounding,
    measure_batch_norms,
    set_weight_ranges_in_sequence,
)
from bitladder.simulation.aimet.logits import cross_entropies
from bitladder.simulation.aimet.names import quiet
from bitladder.simulation.aimet.network import (
    MIN_BITS,
    add_quantized_class,
    build_simulation,
    config_file,
    evaluation_mode,
    float_class,
    float_network,
    function_modules,
    has_quantized_class,
    is_calibrated_as_usual,
    is_kept_from_overflow,
    quantized_layers,
    runs_as_usual,
    simulate_as_shipped,
)
from bitladder.simulation.aimet.quantizer import (
    Quantizer,
    QuantizerInfo,
    QuantizerKind,
    activation_quantizer,
    forget_bias_quantizer,
    input_quantizer,
    input_quantizers,
    is_quantized,
    output_quantizer,
    output_quantizers,
    parameter_quantizers,
    quantizer_places,
    quantizers,
    range_parameters,
    weight_quantizer,
)
from bitladder.simulation.aimet.weight_ranges import set_weight_range

__all__ = [
    "MIN_BITS",
    "Quantizer",
    "QuantizerInfo",
    "QuantizerKind",
    "accelerate",
    "accelerate_analyzer",
    "activation_quantizer",
    "add_quantized_class",
    "build_simulation",
    "config_file",
    "cross_entropies",
    "evaluation_mode",
    "float_class",
    "float_network",
    "forget_bias_quantizer",
    "function_modules",
    "has_quantized_class",
    "histogram_analyzer",
    "input_quantizer",
    "input_quantizers",
    "is_calibrated_as_usual",
    "is_kept_from_overflow",
    "is_quantized",
    "is_quantizer",
    "is_simple",
    "learned_rounding",
    "let_grow",
    "measure_batch_norms",
    "min_max_analyzer",
    "observing",
    "output_quantizer",
    "output_quantizers",
    "parameter_quantizers",
    "percentile_analyzer",
    "quantized_layers",
    "quantizer_places",
    "quantizers",
    "quiet",
    "range_parameters",
    "runs_as_usual",
    "scale_for_bias",
    "scale_for_output",
    "set_weight_range",
    "set_weight_ranges_in_sequence",
    "simulate_as_shipped",
    "squared_error_analyzer",
    "tf_enhanced_analyzer",
    "weight_quantizer",
]
