// The grid of integers that a range stands for.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

struct Grid {
  float scale, offset;
  bool scale_moves, offset_moves;  // whether the bounds of the range reach it, or a clamp stops
};

struct Quantizer {
  const float *low, *high;  // of each channel's range
  int32_t qmin, qmax, symmetric;
  float minimum_scale, floor, ceiling;

  Grid grid(int64_t channel) const {
    const float steps = static_cast<float>(qmax - qmin);
    const float wanted = std::fabs((high[channel] - low[channel]) / steps);
    const float scale = std::max(wanted, minimum_scale);
    if (symmetric) {
      // The middle of the grid, halves to even, as Python rounds.
      const float middle = std::nearbyint(static_cast<float>(qmin + qmax) / 2.0f);
      return {scale, -middle, wanted >= minimum_scale, false};
    }
    const float offset = std::nearbyint(low[channel] / scale) - static_cast<float>(qmin);
    const float kept = std::clamp(offset, static_cast<float>(-qmax), static_cast<float>(-qmin));
    return {scale, kept, wanted >= minimum_scale, offset == kept};
  }
};

}  // namespace
