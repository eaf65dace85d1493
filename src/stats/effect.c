// SPDX-License-Identifier: Apache-2.0
// Bounds on the ratio by inverting the kernel. Every ll_j falls when the null of side ABOVE rises (its toll's
// derivative has the sign of g_j), so ln E crosses ln(1/alpha) once; likewise mirrored for side BELOW.
#include "stats/effect.h"

#include <math.h>
#include <stdbool.h>

#include "base/check.h"
#include "stats/ratio.h"
#include "stats/real.h"

enum { EFFECT_BISECTIONS = 56 };

struct effect_question {
    const struct stats_effect_segment *segments;
    size_t segment_count;
    enum stats_ratio_side side;
    double step_min;
    double threshold;
};

static bool effect_rejects(const struct effect_question *question, double log_null)
{
    struct stats_ratio_grid grid;
    struct stats_ratio_state state = {.ll = {0}};
    stats_ratio_grid_init(&grid, question->side, stats_exp(log_null), question->step_min,
                          STATS_RATIO_STEP_MAX);
    for (size_t i = 0; i < question->segment_count; i++) {
        const struct stats_effect_segment *segment = &question->segments[i];
        stats_ratio_add(&grid, &state, segment->weight, segment->canary_events, segment->baseline_events);
    }
    return stats_ratio_log_e(&state) >= question->threshold;
}

// The crossing between a null that is rejected and one that is not; returns the rejected end.
static double effect_crossing(const struct effect_question *question, double rejected, double kept)
{
    for (int i = 0; i < EFFECT_BISECTIONS; i++) {
        double middle = 0.5 * (rejected + kept);
        if (effect_rejects(question, middle))
            rejected = middle;
        else
            kept = middle;
    }
    return stats_exp(rejected);
}

double stats_effect_lower(const struct stats_effect_segment *segments, size_t segment_count, double step_min,
                          double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0);
    struct effect_question question = {segments, segment_count, STATS_RATIO_ABOVE, step_min,
                                       -stats_ln(alpha)};
    if (!effect_rejects(&question, -STATS_EFFECT_LOG_RATIO_MAX))
        return 0.0;
    if (effect_rejects(&question, STATS_EFFECT_LOG_RATIO_MAX))
        return stats_exp(STATS_EFFECT_LOG_RATIO_MAX);
    return effect_crossing(&question, -STATS_EFFECT_LOG_RATIO_MAX, STATS_EFFECT_LOG_RATIO_MAX);
}

double stats_effect_upper(const struct stats_effect_segment *segments, size_t segment_count, double step_min,
                          double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0);
    struct effect_question question = {segments, segment_count, STATS_RATIO_BELOW, step_min,
                                       -stats_ln(alpha)};
    if (!effect_rejects(&question, STATS_EFFECT_LOG_RATIO_MAX))
        return (double)INFINITY;
    if (effect_rejects(&question, -STATS_EFFECT_LOG_RATIO_MAX))
        return stats_exp(-STATS_EFFECT_LOG_RATIO_MAX);
    return effect_crossing(&question, STATS_EFFECT_LOG_RATIO_MAX, -STATS_EFFECT_LOG_RATIO_MAX);
}
