"""Windows of convolutions and pools: what the file says of them, in PyTorch's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch.nn import functional

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value


@dataclass(frozen=True)
class Window:
    """Sizes, steps and zeros around the image of each dimension."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def even(self) -> bool:
        """Whether as much stands before the image as behind it."""
        return self.begin == self.end

    def lengths(self, sizes: Sequence[int], *, ceil: bool = False) -> list[int]:
        """Sizes of the result for an image of these sizes, all padding counted.

        With ``ceil`` the last window may reach behind the padding, but not begin there.
        """
        found = []
        for i, size in enumerate(sizes):
            free = size + self.begin[i] + self.end[i] - self._reach(i)
            length = (-(-free // self.strides[i]) if ceil else free // self.strides[i]) + 1
            if ceil and (length - 1) * self.strides[i] >= size + self.begin[i]:
                length -= 1
            found.append(length)
        return found

    def fitted(self, sizes: Sequence[int], lengths: Sequence[int]) -> Window:
        """The window with as much behind the image as the last of so many windows reads."""
        end = tuple(
            (length - 1) * self.strides[i] + self._reach(i) - size - self.begin[i]
            for i, (size, length) in enumerate(zip(sizes, lengths, strict=True))
        )
        return replace(self, end=end)

    def _reach(self, axis: int) -> int:
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1


def window(call: Call, kernel: Sequence[int] | None) -> Window:
    """The window of a convolution or pool over all dimensions but two.

    Raises:
        CannotReadError: there is no kernel, or ``auto_pad`` is of a kind that does not exist.
    """
    if not kernel:
        raise CannotReadError("no kernel_shape")
    count = len(kernel)
    strides = tuple(call.attribute("strides") or [1] * count)
    dilations = tuple(call.attribute("dilations") or [1] * count)
    pads = list(call.attribute("pads") or [0] * (2 * count))
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(call.x.sizes[2:], kernel, strides, dilations, lower=auto == "SAME_LOWER")
    elif auto == "VALID":
        pads = [0] * (2 * count)
    elif auto != "NOTSET":
        raise CannotReadError(f"auto_pad {auto}")
    return Window(tuple(kernel), strides, dilations, tuple(pads[:count]), tuple(pads[count:]))


def _same(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    lower: bool,
) -> list[int]:
    totals = [
        max((-(-size // step) - 1) * step + far * (length - 1) + 1 - size, 0)
        for size, length, step, far in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less = [total // 2 for total in totals]
    more = [total - half for total, half in zip(totals, less, strict=True)]
    return more + less if lower else less + more


def padded(b: Builder, call: Call, x: Value, w: Window, value: float = 0.0) -> Value:
    """The image with all that the window reads around it."""
    pads = [size for pair in zip(w.begin[::-1], w.end[::-1], strict=True) for size in pair]
    found: Value = b.call(call, functional.pad, x, pads, "constant", value)
    return found
