// SPDX-License-Identifier: Apache-2.0
// Writes the Prometheus text exposition format 0.0.4 into the caller's bytes. Families come one after the
// other, each with HELP and TYPE once. What does not fit sets `full`; no partly written line stays. Source:
// prometheus.io/docs/instrumenting/exposition_formats, "Text format details".
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum {
    METRICS_FAMILIES_MAX = 256,
    METRICS_LABELS_MAX = 8,
    METRICS_BUCKETS_MAX = 64, // of a histogram, the +Inf bucket not counted
};

enum metrics_kind { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

// The definition of a family, a constant of the program, so a wrong name is a CHECK and not a status.
struct metrics_family {
    const char *name; // [a-zA-Z_:][a-zA-Z0-9_:]*; a counter's ends in _total
    enum metrics_kind kind;
    const char *help;
};

// A family of ours, defined beside the code that writes it.
#define METRICS_FAMILY(id, kind_, name_, says)                                                               \
    static const struct metrics_family id = {"sluice_" name_, METRICS_##kind_, says}

struct metrics_label {
    const char *name;   // [a-zA-Z_][a-zA-Z0-9_]*, not "le"
    struct slice value; // any bytes; escaped when written
};

struct metrics_writer {
    char *data;
    size_t len;
    size_t cap;
    bool full; // something did not fit; the whole lines before it are valid
    const struct metrics_family *open;
    uint32_t family_count;
    const struct metrics_family *families[METRICS_FAMILIES_MAX]; // written so far
};

// Cumulative counts at rising upper bounds; `count` is the value of the +Inf bucket.
struct metrics_buckets {
    uint32_t bucket_count;
    const double *upper;
    const uint64_t *cumulative;
    uint64_t count;
    double sum;
};

static inline struct metrics_label metrics_label_of(const char *name, const char *value)
{
    return (struct metrics_label){name, slice_of(value)};
}

// Durations are told in seconds.
static inline double metrics_seconds(uint64_t us)
{
    return (double)us / 1e6;
}

void metrics_writer_init(struct metrics_writer *writer, char *storage, size_t cap);
// Starts a family: writes HELP and TYPE. A family may be opened once in one exposition (CHECK).
void metrics_open(struct metrics_writer *writer, const struct metrics_family *family);
// One sample of the open family (counter or gauge). Labels in the order given, label_count at most
// METRICS_LABELS_MAX.
void metrics_count(struct metrics_writer *writer, const struct metrics_label *labels, size_t label_count,
                   uint64_t value);
void metrics_value(struct metrics_writer *writer, const struct metrics_label *labels, size_t label_count,
                   double value);
// A whole family of one sample without labels.
void metrics_one_count(struct metrics_writer *writer, const struct metrics_family *family, uint64_t value);
void metrics_one_value(struct metrics_writer *writer, const struct metrics_family *family, double value);
// One histogram of the open family: _bucket lines with le, _sum and _count.
void metrics_histogram(struct metrics_writer *writer, const struct metrics_label *labels, size_t label_count,
                       const struct metrics_buckets *buckets);
// STATUS_OK, or STATUS_FULL when something was left out.
MUST_USE enum status metrics_finish(const struct metrics_writer *writer, struct slice *text);
