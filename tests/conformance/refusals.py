"""Operations that are refused today, with the words of the refusal."""

REFUSED = {
    "blocks/deform_conv": "no operator of ONNX is known for deform_conv2d",
    "recurrent/lstm_cell": "no operator of ONNX is known for QuantizedLSTMCell",
    "resize/antialias": "antialias",
    "resize/grid_sample": "no operator of ONNX is known for grid_sample",
}
