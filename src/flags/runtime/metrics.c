// SPDX-License-Identifier: Apache-2.0
// What Prometheus reads about flags. Series per flag are bounded: of a set with more flags those evaluated
// most often would still be a guess, so then only totals are told.
#include <stdio.h>

#include "flags/eval/image.h"
#include "flags/runtime/runtime_private.h"
#include "net/io/loop.h"
#include "operate/metrics/exposition.h"

enum { FLAG_SERIES_MAX = 2000 }; // flags that have series of their own

METRICS_FAMILY(set_version, GAUGE, "flag_set_version", "Version of the flag set in force.");
METRICS_FAMILY(set_flags, GAUGE, "flag_set_flags", "Flags in the set in force.");
METRICS_FAMILY(set_refused, GAUGE, "flag_set_refused",
               "1 while the newest content was refused and the last good set stays.");
METRICS_FAMILY(set_compile, GAUGE, "flag_set_compile_seconds", "Time the newest compilation took.");
METRICS_FAMILY(changes, COUNTER, "flag_changes_total", "Changes of flags made at runtime, all processes.");
METRICS_FAMILY(source_good, GAUGE, "flag_source_good", "1 while a source's newest content is in force.");
METRICS_FAMILY(
    evaluations, COUNTER, "flag_evaluations_total",
    "Evaluations by flag and variant; \"\" is the caller's own default. Told for sets of up to 2000 flags.");
METRICS_FAMILY(errors, COUNTER, "flag_errors_total", "Evaluations of a flag that ended in an error.");
METRICS_FAMILY(unknown, COUNTER, "flag_unknown_total", "Evaluations of flags that are not there.");
METRICS_FAMILY(unremembered, COUNTER, "flag_use_unremembered_total",
               "Evaluations of flags whose use is not kept: keys too long, or more flags than are kept.");
METRICS_FAMILY(stale, GAUGE, "flags_stale",
               "Flags that nobody evaluated, or that gave one variant only, for 30 days.");

static void write_sources(const struct flagset *set, struct metrics_writer *w)
{
    metrics_open(w, &source_good);
    for (uint32_t i = 0; i < flagset_source_count(set); i++) {
        struct flagset_source_state state;
        flagset_source_get(set, i, &state);
        struct metrics_label labels[] = {{"source", slice_of(state.name)}};
        metrics_value(w, labels, 1, state.good ? 1 : 0);
    }
}

static void write_evaluations(const struct usage *usage, struct metrics_writer *w, int64_t now_ms)
{
    struct usage_flag flag;
    uint32_t cursor = 0;
    metrics_open(w, &evaluations);
    while (usage_next(usage, &cursor, now_ms, &flag)) {
        struct metrics_label labels[] = {{"flag", slice_of(flag.key)}, {"variant", {"", 0}}};
        for (uint32_t i = 0; i < flag.variant_count; i++) {
            labels[1].value = slice_of(flag.variants[i].name);
            metrics_count(w, labels, 2, flag.variants[i].evaluations);
        }
        labels[1].value = (struct slice){"", 0};
        metrics_count(w, labels, 2, flag.defaulted);
    }
    metrics_open(w, &errors);
    cursor = 0;
    while (usage_next(usage, &cursor, now_ms, &flag)) {
        struct metrics_label labels[] = {{"flag", slice_of(flag.key)}};
        metrics_count(w, labels, 1, flag.errors);
    }
}

static void write_stale(const struct usage *usage, struct metrics_writer *w, int64_t now_ms)
{
    struct usage_flag flag;
    uint32_t cursor = 0, unused = 0, one_variant = 0;
    while (usage_next(usage, &cursor, now_ms, &flag)) {
        unused += flag.stale == USAGE_UNUSED;
        one_variant += flag.stale == USAGE_ONE_VARIANT;
    }
    metrics_open(w, &stale);
    struct metrics_label labels[] = {{"why", SLICE("unused")}};
    metrics_value(w, labels, 1, unused);
    labels[0].value = SLICE("one_variant");
    metrics_value(w, labels, 1, one_variant);
}

void runtime_metrics_write(const struct runtime *runtime, struct metrics_writer *w)
{
    const struct flagset *set = runtime->set;
    if (set == NULL)
        return;
    const struct flagset_snapshot *snapshot = flagset_current(set);
    uint32_t count = flags_image_flag_count(&snapshot->all.set);
    metrics_one_value(w, &set_version, (double)snapshot->version);
    metrics_one_value(w, &set_flags, count);
    metrics_one_value(w, &set_refused, flagset_refused(set) ? 1 : 0);
    metrics_one_value(w, &set_compile, (double)flagset_build_us(set) / 1e6);
    metrics_one_value(w, &changes, (double)runtime->overlay.changes);
    write_sources(set, w);
    const struct usage *usage = runtime->usage;
    if (usage == NULL)
        return;
    metrics_one_value(w, &unknown, (double)usage_unknown(usage));
    metrics_one_value(w, &unremembered, (double)usage_unremembered(usage));
    if (count > FLAG_SERIES_MAX)
        return;
    write_evaluations(usage, w, io_loop_wall_ms(runtime->parts.loop));
    write_stale(usage, w, io_loop_wall_ms(runtime->parts.loop));
}
