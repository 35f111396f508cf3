// Quantize-dequantize and its gradients, each in one pass over memory.
//
// What is quantized is clip(x, floor, ceiling): a ReLU in front costs no pass of its own, and
// infinite bounds stand for none. A tensor is read as rows of `inner` values, row r belonging to
// channel r % channels. Sums are
// taken over blocks of fixed size in lanes of fixed number and added in order, so that results do
// not depend on the processor's vector width or on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include "grid.hpp"

namespace {

constexpr int64_t kBlock = 1 << 15;  // values of a row that are one unit of work
constexpr int kLanes = 16;

// Calls work(block) for every block, on as many threads as asked for.
template <typename Work>
void each(int64_t blocks, int threads, const Work& work) {
  const int used = static_cast<int>(std::min<int64_t>(threads, blocks));
  if (used <= 1) {
    for (int64_t block = 0; block < blocks; ++block) work(block);
    return;
  }
  std::vector<std::thread> pool;
  for (int first = 0; first < used; ++first)
    pool.emplace_back([=, &work] {
      for (int64_t block = first; block < blocks; block += used) work(block);
    });
  for (auto& thread : pool) thread.join();
}

void quantize(const float* x, float* y, int64_t n, const Grid& grid, const Quantizer& quantizer) {
  const float scale = grid.scale, offset = grid.offset;
  const float floor = quantizer.floor, ceiling = quantizer.ceiling;
  const float qmin = static_cast<float>(quantizer.qmin), qmax = static_cast<float>(quantizer.qmax);
  for (int64_t i = 0; i < n; ++i) {
    const float clipped = std::min(std::max(x[i], floor), ceiling);
    const float q = __builtin_rintf(clipped / scale) - offset;
    y[i] = (std::min(std::max(q, qmin), qmax) + offset) * scale;
  }
}

// What one value adds to the gradients of its scale and, in units of the scale, of its offset.
struct Part {
  float through, by_scale, by_offset;
};

inline Part differentiate_one(float x, float dy, float scale, float offset, float qmin, float qmax,
                              float floor, float ceiling) {
  const float clipped = std::min(std::max(x, floor), ceiling);
  const float u = clipped / scale, rounded = __builtin_rintf(u), q = rounded - offset;
  const float kept = std::min(std::max(q, qmin), qmax);
  const bool inside = q == kept;
  const float through = inside ? dy : 0.0f;
  return {x > floor && x < ceiling ? through : 0.0f, dy * (inside ? rounded - u : kept + offset),
          dy - through};
}

void differentiate(const float* __restrict x, const float* __restrict dy, float* __restrict dx,
                   int64_t n, const Grid& grid, const Quantizer& quantizer, double* scale_sum,
                   double* offset_sum) {
  const float scale = grid.scale, offset = grid.offset;
  const float floor = quantizer.floor, ceiling = quantizer.ceiling;
  const float qmin = static_cast<float>(quantizer.qmin), qmax = static_cast<float>(quantizer.qmax);
  float by_scale[kLanes] = {}, by_offset[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {  // the compiler makes vectors of the lanes
      const Part part =
          differentiate_one(x[i + lane], dy[i + lane], scale, offset, qmin, qmax, floor, ceiling);
      dx[i + lane] = part.through;
      by_scale[lane] += part.by_scale;
      by_offset[lane] += part.by_offset;
    }
  }
  for (; i < n; ++i) {
    const Part part =
        differentiate_one(x[i], dy[i], scale, offset, qmin, qmax, floor, ceiling);
    dx[i] = part.through;
    by_scale[i % kLanes] += part.by_scale;
    by_offset[i % kLanes] += part.by_offset;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    *scale_sum += by_scale[lane];
    *offset_sum += by_offset[lane];
  }
}

}  // namespace

extern "C" {

void fake_quantize_forward(const float* x, float* y, const float* low, const float* high,
                           int64_t rows, int64_t channels, int64_t inner, int32_t qmin,
                           int32_t qmax, int32_t symmetric, float minimum_scale, float floor,
                           float ceiling, int32_t threads) {
  const Quantizer quantizer{low, high, qmin, qmax, symmetric, minimum_scale, floor, ceiling};
  const int64_t in_row = (inner + kBlock - 1) / kBlock;
  each(rows * in_row, threads, [&](int64_t block) {
    const int64_t row = block / in_row, start = (block % in_row) * kBlock;
    const int64_t at = row * inner + start;
    quantize(x + at, y + at, std::min(kBlock, inner - start), quantizer.grid(row % channels),
             quantizer);
  });
}

void fake_quantize_backward(const float* x, const float* dy, float* dx, const float* low,
                            const float* high, float* dlow, float* dhigh, int64_t rows,
                            int64_t channels, int64_t inner, int32_t qmin, int32_t qmax,
                            int32_t symmetric, float minimum_scale, float floor, float ceiling,
                            int32_t threads) {
  const Quantizer quantizer{low, high, qmin, qmax, symmetric, minimum_scale, floor, ceiling};
  const int64_t in_row = (inner + kBlock - 1) / kBlock;
  std::vector<double> by_scale(rows * in_row), by_offset(rows * in_row);
  each(rows * in_row, threads, [&](int64_t block) {
    const int64_t row = block / in_row, start = (block % in_row) * kBlock;
    const int64_t at = row * inner + start;
    differentiate(x + at, dy + at, dx + at, std::min(kBlock, inner - start),
                  quantizer.grid(row % channels), quantizer, &by_scale[block], &by_offset[block]);
  });
  std::vector<double> scales(channels), offsets(channels);
  for (int64_t block = 0; block < rows * in_row; ++block) {
    scales[(block / in_row) % channels] += by_scale[block];
    offsets[(block / in_row) % channels] += by_offset[block];
  }
  const double steps = qmax - qmin;
  for (int64_t channel = 0; channel < channels; ++channel) {
    // scale = |high - low| / steps; offset = round(low / scale) - qmin, straight through.
    const Grid grid = quantizer.grid(channel);
    const double scale = grid.scale, bound = low[channel];
    const double moved = grid.offset_moves ? offsets[channel] * scale : 0.0;
    const double by = grid.scale_moves ? scales[channel] - moved * bound / (scale * scale) : 0.0;
    const double sign = high[channel] > bound ? 1.0 : high[channel] < bound ? -1.0 : 0.0;
    dhigh[channel] = static_cast<float>(sign * by / steps);
    dlow[channel] = static_cast<float>(moved / scale - sign * by / steps);
  }
}

}
