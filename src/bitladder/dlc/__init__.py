"""Read and describe .dlc files, without any library of the vendor."""

from bitladder.dlc.describe import DlcLayer, Summary, describe
from bitladder.dlc.diff import differences
from bitladder.dlc.model import Dlc, DlcEncoding, DlcGraph, DlcNode, DlcTensor, read

__all__ = [
    "Dlc",
    "DlcEncoding",
    "DlcGraph",
    "DlcLayer",
    "DlcNode",
    "DlcTensor",
    "Summary",
    "describe",
    "differences",
    "read",
]
