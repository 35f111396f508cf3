"""Operations that are refused today, with the words of the refusal."""

REFUSED = {
    "blocks/deform_conv": "no operator of ONNX is known for deform_conv2d",
    "attention/class_token": "no operator of ONNX is known for TransformerEncoderLayer",
    "attention/encoder_layer": "no operator of ONNX is known for TransformerEncoderLayer",
    "attention/scaled_dot_product_causal": "dropout, a causal mask or grouped queries",
    "recurrent/lstm_cell": "no operator of ONNX is known for QuantizedLSTMCell",
    "resize/antialias": "antialias",
    "resize/grid_sample": "no operator of ONNX is known for grid_sample",
}
