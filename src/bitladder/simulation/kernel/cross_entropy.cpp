// How much quantized logits change what a network says, for many ranges at once.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "grid.hpp"

extern "C" {

// Mean cross-entropy (candidates,) between wanted shares (rows, classes) and the softmax of logits
// quantized to each range. Differences of levels are few: their exponentials are looked up.
void cross_entropies(const float* logits, const float* wanted, const float* low, const float* high,
                     int64_t rows, int64_t classes, int64_t candidates, int32_t qmin, int32_t qmax,
                     int32_t symmetric, float minimum_scale, double* found) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Quantizer quantizer{low, high, qmin, qmax, symmetric, minimum_scale, -infinity, infinity};
  const float least = static_cast<float>(qmin), most = static_cast<float>(qmax);
  const bool few = qmax - qmin < rows * classes;
  std::vector<double> powers(few ? qmax - qmin + 1 : 0);
  std::vector<int32_t> levels(classes);
  for (int64_t candidate = 0; candidate < candidates; ++candidate) {
    const Grid grid = quantizer.grid(candidate);
    const double scale = grid.scale;
    for (size_t i = 0; i < powers.size(); ++i) powers[i] = std::exp(-scale * i);
    double sum = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const float *x = logits + row * classes, *share = wanted + row * classes;
      int32_t highest = qmin;
      double mean = 0, all = 0;
      for (int64_t i = 0; i < classes; ++i) {
        const float q = __builtin_rintf(x[i] / grid.scale) - grid.offset;
        levels[i] = static_cast<int32_t>(std::min(std::max(q, least), most));
        highest = std::max(highest, levels[i]);
      }
      for (int64_t i = 0; i < classes; ++i) {
        const int32_t below = highest - levels[i];
        all += few ? powers[below] : std::exp(-scale * below);
        mean += static_cast<double>(share[i]) * below;
      }
      sum += std::log(all) + scale * mean;
    }
    found[candidate] = sum / static_cast<double>(rows);
  }
}

}
