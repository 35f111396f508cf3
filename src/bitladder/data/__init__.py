"""Images in: named sets, folders or a function of the user's, split and ready to be batched."""

from bitladder.data.load import calibration_images, load
from bitladder.data.splits import Batches, ImageData, LoaderSplit, Split

__all__ = ["Batches", "ImageData", "LoaderSplit", "Split", "calibration_images", "load"]
