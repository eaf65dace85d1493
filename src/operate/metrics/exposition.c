// SPDX-License-Identifier: Apache-2.0
// Text exposition. A line is built at the end of the storage and kept only when it fits completely.
#include "operate/metrics/exposition.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"

static bool name_char(char c, bool first, bool colon)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_')
        return true;
    return (colon && c == ':') || (!first && c >= '0' && c <= '9');
}

static bool name_valid(const char *name, bool colon)
{
    for (size_t i = 0; name[i] != '\0'; i++)
        if (!name_char(name[i], i == 0, colon))
            return false;
    return name[0] != '\0';
}

static bool ends_with(const char *name, const char *tail)
{
    struct slice a = slice_of(name);
    struct slice b = slice_of(tail);
    return a.len >= b.len && memcmp(a.data + a.len - b.len, b.data, b.len) == 0;
}

static void put(struct metrics_writer *w, struct slice piece)
{
    if (w->full || piece.len > w->cap - w->len) {
        w->full = true;
        return;
    }
    memcpy(w->data + w->len, piece.data, piece.len);
    w->len += piece.len;
}

static void put_text(struct metrics_writer *w, const char *text)
{
    put(w, slice_of(text));
}

// Escapes backslash and line feed; in label values the quote too.
static void put_escaped(struct metrics_writer *w, struct slice value, bool quote)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];
        if (c == '\n')
            put_text(w, "\\n");
        else if (c == '"' && quote)
            put_text(w, "\\\"");
        else if (c == '\\')
            put_text(w, "\\\\");
        else
            put(w, (struct slice){&c, 1});
    }
}

static void put_double(struct metrics_writer *w, double value)
{
    if (isnan(value)) {
        put_text(w, "NaN");
        return;
    }
    if (isinf(value)) {
        put_text(w, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    char number[32];
    int len = snprintf(number, sizeof number, "%.15g", value);
    put(w, (struct slice){number, (size_t)len});
}

static void put_u64(struct metrics_writer *w, uint64_t value)
{
    char number[24];
    int len = snprintf(number, sizeof number, "%" PRIu64, value);
    put(w, (struct slice){number, (size_t)len});
}

static void put_label(struct metrics_writer *w, const char *name, struct slice value, bool first)
{
    put_text(w, first ? "{" : ",");
    put_text(w, name);
    put_text(w, "=\"");
    put_escaped(w, value, true);
    put_text(w, "\"");
}

// Writes name suffix {labels, le} and a blank: all of a sample line before its value.
static void put_series(struct metrics_writer *w, const char *suffix, const struct metrics_label *labels,
                       size_t label_count, const double *le)
{
    CHECK(w->open != NULL && label_count <= METRICS_LABELS_MAX);
    put_text(w, w->open->name);
    put_text(w, suffix);
    for (size_t i = 0; i < label_count; i++) {
        CHECK(name_valid(labels[i].name, false) && !slice_equal(slice_of(labels[i].name), SLICE("le")));
        put_label(w, labels[i].name, labels[i].value, i == 0);
    }
    if (le != NULL) {
        put_text(w, label_count == 0 ? "{le=\"" : ",le=\"");
        put_double(w, *le);
        put_text(w, "\"");
    }
    if (label_count > 0 || le != NULL)
        put_text(w, "}");
    put_text(w, " ");
}

// Ends a line begun at `start`, or removes it when it did not fit.
static void end_line(struct metrics_writer *w, size_t start)
{
    put_text(w, "\n");
    if (w->full)
        w->len = start;
}

void metrics_writer_init(struct metrics_writer *writer, char *storage, size_t cap)
{
    *writer = (struct metrics_writer){.data = storage, .cap = cap};
}

void metrics_open(struct metrics_writer *w, const struct metrics_family *family)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    CHECK(name_valid(family->name, true));
    CHECK((family->kind == METRICS_COUNTER) == ends_with(family->name, "_total"));
    CHECK(w->family_count < METRICS_FAMILIES_MAX);
    for (uint32_t i = 0; i < w->family_count; i++)
        CHECK(strcmp(w->families[i]->name, family->name) != 0);
    w->families[w->family_count++] = family;
    w->open = family;
    size_t start = w->len;
    put_text(w, "# HELP ");
    put_text(w, family->name);
    put_text(w, " ");
    put_escaped(w, slice_of(family->help), false);
    put_text(w, "\n# TYPE ");
    put_text(w, family->name);
    put_text(w, " ");
    put_text(w, kinds[family->kind]);
    end_line(w, start);
}

void metrics_count(struct metrics_writer *w, const struct metrics_label *labels, size_t label_count,
                   uint64_t value)
{
    CHECK(w->open == NULL || w->open->kind != METRICS_HISTOGRAM);
    size_t start = w->len;
    put_series(w, "", labels, label_count, NULL);
    put_u64(w, value);
    end_line(w, start);
}

void metrics_value(struct metrics_writer *w, const struct metrics_label *labels, size_t label_count,
                   double value)
{
    CHECK(w->open == NULL || w->open->kind != METRICS_HISTOGRAM);
    size_t start = w->len;
    put_series(w, "", labels, label_count, NULL);
    put_double(w, value);
    end_line(w, start);
}

void metrics_one_count(struct metrics_writer *writer, const struct metrics_family *family, uint64_t value)
{
    metrics_open(writer, family);
    metrics_count(writer, NULL, 0, value);
}

void metrics_one_value(struct metrics_writer *writer, const struct metrics_family *family, double value)
{
    metrics_open(writer, family);
    metrics_value(writer, NULL, 0, value);
}

void metrics_histogram(struct metrics_writer *w, const struct metrics_label *labels, size_t label_count,
                       const struct metrics_buckets *buckets)
{
    CHECK(w->open != NULL && w->open->kind == METRICS_HISTOGRAM);
    CHECK(buckets->bucket_count <= METRICS_BUCKETS_MAX);
    // A histogram without some of its lines would be wrong, so write all lines of it or none.
    size_t start = w->len;
    for (uint32_t i = 0; i < buckets->bucket_count; i++) {
        CHECK(i == 0 || (buckets->upper[i] > buckets->upper[i - 1] &&
                         buckets->cumulative[i] >= buckets->cumulative[i - 1]));
        put_series(w, "_bucket", labels, label_count, &buckets->upper[i]);
        put_u64(w, buckets->cumulative[i]);
        end_line(w, start);
    }
    const double infinite = (double)INFINITY;
    put_series(w, "_bucket", labels, label_count, &infinite);
    put_u64(w, buckets->count);
    put_text(w, "\n");
    put_series(w, "_sum", labels, label_count, NULL);
    put_double(w, buckets->sum);
    put_text(w, "\n");
    put_series(w, "_count", labels, label_count, NULL);
    put_u64(w, buckets->count);
    end_line(w, start);
}

enum status metrics_finish(const struct metrics_writer *writer, struct slice *text)
{
    if (writer->full)
        return STATUS_FULL;
    *text = (struct slice){writer->data, writer->len};
    return STATUS_OK;
}
