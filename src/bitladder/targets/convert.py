"""Write what devices load from an ONNX file, by the vendor's own writers in their process."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import onnx

from bitladder.errors import TargetError
from bitladder.targets.htp import HTP_LIBRARY, QnnProcess, htp_options

_DLC_LIBRARY = "libQnnIr.so"
_BINARY = ".bin"


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
            "qnn_ir_backend_path": _DLC_LIBRARY,
        }
        QnnProcess(artifact.resolve(), backend=_DLC_LIBRARY, provider=provider).close()
        written = list(Path(folder).glob("*.dlc"))  # the provider chooses the name
        if len(written) != 1:
            raise TargetError(f"{artifact}: {len(written)} graphs; a DLC of ours holds one")
        _place(written[0], path)


def write_context(artifact: Path, path: Path, version: str) -> Path:
    """Compile an ONNX file into the binary that an HTP loads without compiling.

    Args:
        artifact: a QDQ ONNX file as it is exported for ``htp``.
        path: an ONNX file of one node, which names the binary; the binary, written beside it,
            has the same name with the suffix ``.bin``.
        version: of the HTP, such as ``v75``.

    Returns:
        Path of the binary.

    Raises:
        TargetError: onnxruntime-qnn is not installed, the version is unknown, the HTP refuses the
            artifact, or a file cannot be written.
    """
    if path.suffix != ".onnx":
        raise TargetError(f"{path}: a context is an .onnx file and a binary beside it; use .onnx")
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "context.onnx"
        session = {
            "ep.context_enable": "1",
            "ep.context_file_path": str(wrapper),
            "ep.context_embed_mode": "0",
        }
        provider = htp_options(version)
        source = artifact.resolve()
        QnnProcess(source, backend=HTP_LIBRARY, provider=provider, session=session).close()
        [binary] = Path(folder).glob("*.bin")
        model = onnx.load(wrapper)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "ep_cache_context":
                    attribute.s = path.with_suffix(_BINARY).name.encode()
        onnx.save(model, wrapper)
        _place(wrapper, path)
        _place(binary, path.with_suffix(_BINARY))
    return path.with_suffix(_BINARY)


def _place(written: Path, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(written, path)
    except OSError as error:
        raise TargetError(f"{path}: cannot write: {error.strerror}") from None
