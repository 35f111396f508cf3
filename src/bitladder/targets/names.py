"""The targets known by name; free of every runtime."""

TARGETS = ("onnxruntime", "htp", "litert")
HTP_VERSIONS = ("v68", "v69", "v73", "v75", "v79", "v81")
