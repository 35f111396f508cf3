"""Write what devices load from an ONNX file: a DLC, by the vendor's own writer in its process."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bitladder.errors import TargetError
from bitladder.targets.htp import QnnProcess

_BACKEND = "libQnnIr.so"


def write_dlc(artifact: Path, path: Path) -> None:
    """Convert an ONNX file, float or QDQ, to a DLC.

    Args:
        artifact: the ONNX file; a QDQ one as it is exported for ``htp``.
        path: the .dlc file.

    Raises:
        TargetError: onnxruntime-qnn is not installed, an operation has no counterpart, or the
            file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        provider = {
            "dump_qnn_ir_dlc": "1",
            "dump_qnn_ir_dlc_dir": folder,
            "qnn_ir_backend_path": _BACKEND,
        }
        QnnProcess(artifact.resolve(), backend=_BACKEND, provider=provider).close()
        written = list(Path(folder).glob("*.dlc"))  # the provider chooses the name
        if len(written) != 1:
            raise TargetError(f"{artifact}: {len(written)} graphs; a DLC of ours holds one")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(written[0], path)
        except OSError as error:
            raise TargetError(f"{path}: cannot write: {error.strerror}") from None
