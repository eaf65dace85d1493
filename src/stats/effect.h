// SPDX-License-Identifier: Apache-2.0
// How large the effect is, in words a verdict can print: "at least 1.6 times worse, 99 % sure at any time".
// The bounds invert the kernel: all nulls that E still rejects. ln E is monotone in the null for fixed
// counts, so bisection finds the one crossing, and the bound covers the true ratio at every instant with
// probability >= 1 - alpha.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Bounds are searched in [e^-14, e^14].
#define STATS_EFFECT_LOG_RATIO_MAX 14.0

// Events of all spans with one weight. The order of segments does not matter; spans may be given one by one.
struct stats_effect_segment {
    double weight;
    uint64_t canary_events;
    uint64_t baseline_events;
};

// Each bound alone holds with 1 - alpha at any time; both together with 1 - 2·alpha. step_min is that of the
// metric's grid (stats/ratio.h). At most 60 evaluations per bound, each of 24 logarithms per segment.
// 0 < alpha < 1 (CHECK).
// The largest R0 for which H0: R <= R0 is rejected at alpha; 0 if none.
double stats_effect_lower(const struct stats_effect_segment *segments, size_t segment_count, double step_min,
                          double alpha);
// The smallest R1 for which H0: R >= R1 is rejected at alpha; INFINITY if none.
double stats_effect_upper(const struct stats_effect_segment *segments, size_t segment_count, double step_min,
                          double alpha);
