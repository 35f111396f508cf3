"""Read and describe .dlc files, without any library of the vendor."""

from bitladder.dlc.describe import Layer, Summary, describe
from bitladder.dlc.diff import differences
from bitladder.dlc.model import Dlc, DlcEncoding, DlcGraph, DlcNode, DlcTensor, read

__all__ = [
    "Dlc",
    "DlcEncoding",
    "DlcGraph",
    "DlcNode",
    "DlcTensor",
    "Layer",
    "Summary",
    "describe",
    "differences",
    "read",
]
