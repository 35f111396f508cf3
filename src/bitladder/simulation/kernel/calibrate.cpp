// What calibration needs of a tensor, each in one pass over memory: its range, its histogram; and
// the search for the grid that a histogram loses least on.
//
// Rows and channels are those of fake_quantize.cpp. Bins are those of torch.histc, so that the
// counts are its counts.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr int64_t kChunk = 1 << 10;  // values whose bins are computed before they are counted
constexpr int kLanes = 16;
constexpr int kCopies = 4;  // of the counts: equal values in a row would wait for each other
constexpr int64_t kPart = 128;  // bins after which a hopeless candidate is given up
constexpr double kTie = 1e-5;   // relative; sums in other orders differ by less

void extend(const float* x, int64_t n, float* low, float* high) {
  const float infinity = std::numeric_limits<float>::infinity();
  float lows[kLanes], highs[kLanes];
  std::fill(lows, lows + kLanes, infinity);
  std::fill(highs, highs + kLanes, -infinity);
  const auto take = [&](float value, int lane) {
    const bool finite = std::fabs(value) < infinity;
    lows[lane] = std::min(lows[lane], finite ? value : infinity);
    highs[lane] = std::max(highs[lane], finite ? value : -infinity);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) take(x[i + lane], lane);
  for (; i < n; ++i) take(x[i], 0);
  *low = std::min(*low, *std::min_element(lows, lows + kLanes));
  *high = std::max(*high, *std::max_element(highs, highs + kLanes));
}

// Values outside of the range count in the outermost bins, those that are not numbers in none.
void count(const float* x, int64_t n, float left, float right, int32_t bins, int64_t* counts) {
  const float width = right - left, wide = static_cast<float>(bins);
  const float last = static_cast<float>(bins - 1);
  int32_t places[kChunk];
  for (int64_t start = 0; start < n; start += kChunk) {
    const int64_t size = std::min(kChunk, n - start);
    for (int64_t i = 0; i < size; ++i) {
      const float value = x[start + i];
      const float place = (value - left) * wide / width;
      const float kept = std::min(std::max(place, 0.0f), last);
      places[i] = static_cast<int32_t>(place == place ? kept : wide);
    }
    for (int64_t i = 0; i < size; ++i) ++counts[(i % kCopies) * (bins + 1) + places[i]];
  }
}

struct Histogram {
  std::vector<float> middles, counts;  // of bins that are not empty
};

Histogram compress(const float* counts, float first, float second, int32_t bins) {
  Histogram found;
  const float width = second - first, middle = first + width / 2;
  for (int32_t bin = 0; bin < bins; ++bin) {
    if (counts[bin] == 0) continue;
    found.middles.push_back(middle + width * static_cast<float>(bin));
    found.counts.push_back(counts[bin]);
  }
  return found;
}

// Squared error of a histogram's values on a grid, clipped ones weighed by gamma; infinite as soon
// as it passes the limit.
double noise(const Histogram& histogram, float scale, float offset, float steps, float gamma,
             double limit) {
  const int64_t bins = static_cast<int64_t>(histogram.middles.size());
  double sum = 0;
  for (int64_t start = 0; start < bins; start += kPart) {
    const int64_t end = std::min(start + kPart, bins);
    float lanes[kLanes] = {};
    const auto take = [&](int64_t bin, int lane) {
      const float x = histogram.middles[bin];
      const float q = __builtin_rintf(x / scale - offset);
      const float kept = std::min(std::max(q, 0.0f), steps);
      const float error = std::fabs((kept + offset) * scale - x);
      const float weighed = error * error * histogram.counts[bin];
      lanes[lane] += q == kept ? weighed : weighed * gamma;
    };
    int64_t bin = start;
    for (; bin + kLanes <= end; bin += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) take(bin + lane, lane);
    for (; bin < end; ++bin) take(bin, 0);
    for (const float lane : lanes) sum += lane;
    if (sum > limit) return std::numeric_limits<double>::infinity();
  }
  return sum;
}

}  // namespace

extern "C" {

void observe_range(const float* x, float* low, float* high, int64_t rows, int64_t channels,
                   int64_t inner) {
  std::fill(low, low + channels, std::numeric_limits<float>::infinity());
  std::fill(high, high + channels, -std::numeric_limits<float>::infinity());
  for (int64_t row = 0; row < rows; ++row)
    extend(x + row * inner, inner, low + row % channels, high + row % channels);
}

void observe_histogram(const float* x, const float* left, const float* right, float* histograms,
                       int32_t bins, int64_t rows, int64_t channels, int64_t inner) {
  std::vector<int64_t> counts((bins + 1) * kCopies);
  for (int64_t channel = 0; channel < channels; ++channel) {
    std::fill(counts.begin(), counts.end(), 0);
    for (int64_t row = channel; row < rows; row += channels)
      count(x + row * inner, inner, left[channel], right[channel], bins, counts.data());
    for (int32_t bin = 0; bin < bins; ++bin) {
      int64_t sum = 0;
      for (int copy = 0; copy < kCopies; ++copy) sum += counts[copy * (bins + 1) + bin];
      histograms[channel * bins + bin] = static_cast<float>(sum);
    }
  }
}

// Channels whose values can be integers from -levels to levels times one step, those of zeros
// included: at most a share of them is off the grid of any step, by more than their own rounding.
int64_t count_on_grid(const float* x, int64_t channels, int64_t inner, int32_t levels, float noise,
                      float tiny, float share) {
  int64_t found = 0;
  for (int64_t channel = 0; channel < channels; ++channel) {
    const float* values = x + channel * inner;
    float largest = 0;
    int64_t nonzero = 0;
    for (int64_t i = 0; i < inner; ++i) {
      largest = std::max(largest, std::fabs(values[i]));
      nonzero += std::fabs(values[i]) > tiny;
    }
    const double allowed = share * static_cast<double>(nonzero) + 1e-3;
    bool fits = largest <= tiny;
    for (int32_t level = 1; level <= levels && !fits; ++level) {
      const float step = std::max(largest / static_cast<float>(level), tiny);
      int64_t off = 0;
      for (int64_t i = 0; i < inner && static_cast<double>(off) <= allowed; ++i) {
        const float r = values[i] / step;
        const float distance = std::fabs(__builtin_rintf(r) - r);
        off += std::fabs(values[i]) > tiny && std::fabs(r) * noise < distance;
      }
      fits = static_cast<double>(off) <= allowed;
    }
    found += fits;
  }
  return found;
}

// The candidate of the least noise for each histogram, or -1 where others come too near to tell.
void search_grid(const float* histograms, const float* edges, int32_t bins, const float* scales,
                 const float* offsets, int64_t candidates, int64_t count, float steps, float gamma,
                 int64_t* found) {
  std::vector<double> noises(candidates);
  for (int64_t index = 0; index < count; ++index) {
    const float* edge = edges + index * (bins + 1);
    const Histogram histogram = compress(histograms + index * bins, edge[0], edge[1], bins);
    const float *scale = scales + index * candidates, *offset = offsets + index * candidates;
    double best = std::numeric_limits<double>::infinity();
    int64_t chosen = 0;
    for (int64_t i = 0; i < candidates; ++i) {
      noises[i] = noise(histogram, scale[i], offset[i], steps, gamma, best * (1 + kTie));
      if (noises[i] < best) best = noises[i], chosen = i;
    }
    bool clear = true;
    for (int64_t i = 0; i < candidates; ++i)
      clear &= noises[i] > best * (1 + kTie) ||
               (scale[i] == scale[chosen] && offset[i] == offset[chosen]);
    found[index] = clear ? chosen : -1;
  }
}

}
