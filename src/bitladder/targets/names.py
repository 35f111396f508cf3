"""The targets known by name; free of every runtime."""

TARGETS = ("onnxruntime", "htp")
