"""An ONNX file of any origin -> a torch.fx graph of ordinary modules, checked against ONNX Runtime.

``reading`` opens files without trusting them, ``builder`` holds the graph that is made, ``readers``
know an operator each, ``comparison`` runs the result beside the file.
"""

from bitladder.models.onnx_file.image_inputs import ImageInput, image_input
from bitladder.models.onnx_file.importer import ImportedNetwork, from_onnx, input_count, load

__all__ = ["ImageInput", "ImportedNetwork", "from_onnx", "image_input", "input_count", "load"]
