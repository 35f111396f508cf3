// What calibration needs of a tensor, each in one pass over memory: its range, its histogram; and
// the search for the grid that a histogram loses least on.
//
// Rows and channels are those of fake_quantize.cpp. Bins are those of torch.histc, so that the
// counts are its counts.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int64_t kChunk = 1 << 10;  // values whose bins are computed before they are counted
constexpr int kLanes = 16;
constexpr int kCopies = 4;  // of the counts: equal values in a row would wait for each other
constexpr int64_t kFew = 64;    // values whose bins are sorted rather than counted
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

// Bin of each of at most kChunk values: the outermost for what lies outside of the range, one past
// the last for what is not a number.
void place(const float* x, int64_t n, float left, float right, int32_t bins, int32_t* places) {
  const float width = right - left, wide = static_cast<float>(bins);
  const float last = static_cast<float>(bins - 1);
  for (int64_t i = 0; i < n; ++i) {
    const float bin = (x[i] - left) * wide / width;
    const float kept = std::min(std::max(bin, 0.0f), last);
    places[i] = static_cast<int32_t>(bin == bin ? kept : wide);
  }
}

void count(const float* x, int64_t n, float left, float right, int32_t bins, int64_t* counts) {
  int32_t places[kChunk];
  for (int64_t start = 0; start < n; start += kChunk) {
    const int64_t size = std::min(kChunk, n - start);
    place(x + start, size, left, right, bins, places);
    for (int64_t i = 0; i < size; ++i) ++counts[(i % kCopies) * (bins + 1) + places[i]];
  }
}

// Counts of one channel in its own place, (bins,).
struct Counter {
  explicit Counter(int32_t bins) : bins(bins), copies((bins + 1) * kCopies) {}

  void add(const float* x, int64_t n, float left, float right) {
    count(x, n, left, right, bins, copies.data());
  }

  float operator[](int32_t bin) const {
    int64_t sum = 0;
    for (int copy = 0; copy < kCopies; ++copy) sum += copies[copy * (bins + 1) + bin];
    return static_cast<float>(sum);
  }

  void clear() { std::fill(copies.begin(), copies.end(), 0); }

  int32_t bins;
  std::vector<int64_t> copies;
};

// The ends of a histogram's first bin and of its last, as AIMET makes them of a range.
struct Edges {
  Edges(float low, float high, int32_t bins)
      : left(low == high ? low - 0.5f : low),
        step(((low == high ? high + 0.5f : high) - left) / static_cast<float>(bins)),
        second(step + left),
        last(static_cast<float>(bins) * step + left) {}

  float operator[](int32_t bin) const { return static_cast<float>(bin) * step + left; }

  float left, step, second, last;
};

struct Histogram {
  std::vector<float> middles, counts;  // of bins that are not empty

  void clear() { middles.clear(), counts.clear(); }
  void add(float middle, float number) { middles.push_back(middle), counts.push_back(number); }
};

template <typename Counts>
void compress(const Counts& counts, float first, float second, int32_t bins, Histogram* found) {
  found->clear();
  const float width = second - first, middle = first + width / 2;
  for (int32_t bin = 0; bin < bins; ++bin)
    if (const float number = counts[bin]; number != 0)
      found->add(middle + width * static_cast<float>(bin), number);
}

// The same of few values, without a place for every bin.
void compress_few(const float* x, int64_t n, const Edges& edges, int32_t bins, Histogram* found) {
  found->clear();
  int32_t places[kChunk];
  place(x, n, edges.left, edges.last, bins, places);
  std::sort(places, places + n);
  const float width = edges.second - edges.left, middle = edges.left + width / 2;
  for (int64_t i = 0, next; i < n && places[i] < bins; i = next) {
    for (next = i + 1; next < n && places[next] == places[i];) ++next;
    found->add(middle + width * static_cast<float>(places[i]), static_cast<float>(next - i));
  }
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

// The candidate of the least noise, or -1 where others come too near to tell. Wide ranges go first:
// the narrow ones clip, and are given up early.
int64_t search(const Histogram& histogram, const float* scale, const float* offset,
               int64_t candidates, float steps, float gamma, double* noises) {
  double best = std::numeric_limits<double>::infinity();
  int64_t chosen = candidates - 1;
  for (int64_t i = candidates - 1; i >= 0; --i) {
    noises[i] = noise(histogram, scale[i], offset[i], steps, gamma, best * (1 + kTie));
    if (noises[i] < best) best = noises[i], chosen = i;
  }
  for (int64_t i = 0; i < candidates; ++i)
    if (noises[i] <= best * (1 + kTie) &&
        !(scale[i] == scale[chosen] && offset[i] == offset[chosen]))
      return -1;
  return chosen;
}

// A histogram's counts in the bins of another range, which holds its own.
void rebin(float* counts, const float* edges, float low, float high, int32_t bins) {
  const float width = (high - low) / static_cast<float>(bins), own = edges[1] - edges[0];
  const auto bin_of = [&](float value) {
    return std::min(static_cast<int32_t>((value - low) / width), bins - 1);
  };
  std::vector<float> moved(bins), left_over(bins);
  for (int32_t bin = 0; bin < bins; ++bin) {
    const int32_t target = bin_of(edges[bin]);
    const float end = low + width * static_cast<float>(target + 1);
    const float split = std::nearbyint((end - edges[bin]) / own * counts[bin]);
    const float kept = std::min(split, counts[bin]);
    moved[target] += kept;
    left_over[bin] = counts[bin] - kept;
  }
  for (int32_t bin = 0; bin < bins; ++bin)
    if (left_over[bin] > 0) moved[bin_of(edges[bin] + width)] += left_over[bin];
  std::copy(moved.begin(), moved.end(), counts);
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
  Counter counts(bins);
  for (int64_t channel = 0; channel < channels; ++channel) {
    counts.clear();
    for (int64_t row = channel; row < rows; row += channels)
      counts.add(x + row * inner, inner, left[channel], right[channel]);
    for (int32_t bin = 0; bin < bins; ++bin) histograms[channel * bins + bin] = counts[bin];
  }
}

// Adds values to a histogram, whose bins move where they do not hold them. Bounds are the smallest
// and the largest value and how far either may go. Returns 0 where only AIMET knows what to do.
int32_t merge_histogram(const float* x, int64_t n, float* counts, float* edges, float* bounds,
                        int32_t bins) {
  float low = std::numeric_limits<float>::infinity(), high = -low;
  extend(x, n, &low, &high);
  const bool finite = std::fabs(high - low) < std::numeric_limits<float>::infinity();
  if (!finite || !(edges[0] < edges[bins])) return 0;
  low = std::min(std::max(low, bounds[2]), edges[0]);
  high = std::min(std::max(high, edges[bins]), bounds[3]);
  if (low != bounds[0] || high != bounds[1]) rebin(counts, edges, low, high, bins);
  Counter added(bins);
  added.add(x, n, low, high);
  const Edges moved(low, high, bins);
  for (int32_t bin = 0; bin < bins; ++bin) counts[bin] += added[bin];
  for (int32_t bin = 0; bin <= bins; ++bin) edges[bin] = moved[bin];
  bounds[0] = low, bounds[1] = high;
  return 1;
}

// Range of each channel, and all bits that any value has set; returns how many are not finite.
int64_t describe_weights(const float* x, float* low, float* high, uint32_t* bits, int64_t channels,
                         int64_t inner) {
  observe_range(x, low, high, channels, channels, inner);
  uint32_t seen = 0;
  int64_t odd = 0;
  for (int64_t i = 0; i < channels * inner; ++i) {
    uint32_t own;
    std::memcpy(&own, x + i, sizeof own);
    seen |= own;
    odd += (own & 0x7f800000u) == 0x7f800000u;
  }
  *bits = seen;
  return odd;
}

// Channels whose values can be integers from -levels to levels times one step, those of zeros
// included: at most a share of them is off the grid of any step, by more than their own rounding.
// None, where the first values of one channel are more different ones than a grid has.
int64_t count_on_grid(const float* x, int64_t channels, int64_t inner, int32_t levels, float noise,
                      float tiny, float share) {
  if (inner > levels + 1) {
    std::vector<float> sizes(std::min<int64_t>(inner, 2 * (levels + 1)));
    std::transform(x, x + sizes.size(), sizes.begin(), [](float value) { return std::fabs(value); });
    std::sort(sizes.begin(), sizes.end());
    if (std::unique(sizes.begin(), sizes.end()) - sizes.begin() > levels + 1) return 0;
  }
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

// The candidate of the least noise for each histogram, or -1.
void search_grid(const float* histograms, const float* edges, int32_t bins, const float* scales,
                 const float* offsets, int64_t candidates, int64_t count, float steps, float gamma,
                 int64_t* found) {
  std::vector<double> noises(candidates);
  Histogram histogram;
  for (int64_t index = 0; index < count; ++index) {
    const float* edge = edges + index * (bins + 1);
    compress(histograms + index * bins, edge[0], edge[1], bins, &histogram);
    found[index] = search(histogram, scales + index * candidates, offsets + index * candidates,
                          candidates, steps, gamma, noises.data());
  }
}

// The same for the channels of a weight, whose histograms are made on the way.
void search_weights(const float* x, const float* low, const float* high, int64_t inner,
                    int32_t bins, const float* scales, const float* offsets, int64_t candidates,
                    int64_t channels, float steps, float gamma, int64_t* found) {
  std::vector<double> noises(candidates);
  Histogram histogram;
  Counter counts(bins);
  for (int64_t channel = 0; channel < channels; ++channel) {
    const float* values = x + channel * inner;
    const Edges edges(low[channel], high[channel], bins);
    if (inner <= kFew) {
      compress_few(values, inner, edges, bins, &histogram);
    } else {
      counts.clear();
      counts.add(values, inner, edges.left, edges.last);
      compress(counts, edges.left, edges.second, bins, &histogram);
    }
    found[channel] = search(histogram, scales + channel * candidates,
                            offsets + channel * candidates, candidates, steps, gamma,
                            noises.data());
  }
}

}
