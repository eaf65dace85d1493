// SPDX-License-Identifier: Apache-2.0
// Examples: up to five requests for each path that differs, redacted before they are kept. They belong to a
// row by its rank, which no other row ever gets.
#include "base/heap.h"
#include "base/utf8.h"
#include "ship/shadow/shadow_private.h"

static bool row_exists(const struct diff_noise *noise, uint32_t rank)
{
    for (uint32_t i = 0; i < noise->row_count; i++)
        if (noise->rows[i].rank == rank)
            return true;
    return false;
}

// A place for examples of rows that were folded into another is free again.
static struct shadow_examples *free_place(struct shadow_run *run)
{
    for (int i = 0; i < SHADOW_EXAMPLE_PATHS_MAX; i++) {
        struct shadow_examples **place = &run->examples[i];
        if (*place == NULL)
            return *place = heap_alloc(1, sizeof **place);
        if (!row_exists(&run->noise, (*place)->rank)) {
            memset(*place, 0, sizeof **place);
            return *place;
        }
    }
    return NULL;
}

static struct shadow_examples *examples_of(struct shadow_run *run, uint32_t rank)
{
    for (int i = 0; i < SHADOW_EXAMPLE_PATHS_MAX && run->examples[i] != NULL; i++)
        if (run->examples[i]->rank == rank)
            return run->examples[i];
    struct shadow_examples *made = free_place(run);
    if (made != NULL)
        made->rank = rank;
    return made;
}

static void put_value(const struct shadow_run *run, const struct diff_finding *finding, const char *value,
                      char shown[DIFF_VALUE_BYTES])
{
    char longer[2 * DIFF_VALUE_BYTES];
    struct text text = text_over(longer, sizeof longer);
    shadow_redact_value(&run->rules.redaction, slice_of(finding->path), finding->class, slice_of(value),
                        &text);
    utf8_copy(shown, DIFF_VALUE_BYTES, text_slice(&text));
}

static void fill(struct shadow_example *example, const struct shadow_run *run, const struct mirror_seen *seen,
                 const struct diff_finding *finding)
{
    char target[2 * SHADOW_TARGET_BYTES];
    struct text text = text_over(target, sizeof target);
    example->count = finding->count;
    example->time_ms = seen->time_ms;
    example->primary_status = seen->primary.status;
    example->candidate_status = seen->candidate.status;
    example->primary_bytes = seen->primary.body_bytes;
    example->candidate_bytes = seen->candidate.body_bytes;
    example->primary_us = seen->primary.wait_us;
    example->candidate_us = seen->candidate.wait_us;
    utf8_copy(example->method, sizeof example->method, seen->method);
    shadow_redact_target(&run->rules.redaction, seen->target, &text);
    utf8_copy(example->target, sizeof example->target, text_slice(&text));
    put_value(run, finding, finding->first, example->primary);
    put_value(run, finding, finding->second, example->candidate);
    memcpy(example->place, finding->place, sizeof example->place);
}

void shadow_examples_keep(struct shadow_run *run, const struct mirror_seen *seen,
                          const struct diff_comparison *found)
{
    for (uint32_t i = 0; i < found->count; i++) {
        uint32_t rank = diff_noise_row(&run->noise, &found->findings[i])->rank;
        struct shadow_examples *examples = examples_of(run, rank);
        if (examples == NULL) {
            run->counts.examples_refused++;
            continue;
        }
        if (examples->count == SHADOW_EXAMPLES_MAX)
            continue;
        struct shadow_example *example = &examples->items[examples->count++];
        example->rank = rank;
        fill(example, run, seen, &found->findings[i]);
    }
}

void shadow_examples_free(struct shadow_run *run)
{
    for (int i = 0; i < SHADOW_EXAMPLE_PATHS_MAX; i++)
        heap_free(run->examples[i]);
}

void shadow_example_write(const struct shadow_example *example, const char *member, struct json_out *out)
{
    json_out_open(out, member, '{');
    json_out_time(out, "time_ms", example->time_ms);
    json_out_text(out, "method", example->method);
    json_out_text(out, "target", example->target);
    json_out_text(out, "place", example->place);
    json_out_count(out, "count", example->count);
    for (int candidate = 0; candidate < 2; candidate++) {
        json_out_open(out, candidate ? "candidate" : "primary", '{');
        json_out_text(out, "value", candidate ? example->candidate : example->primary);
        json_out_count(out, "status", candidate ? example->candidate_status : example->primary_status);
        json_out_count(out, "body_bytes", candidate ? example->candidate_bytes : example->primary_bytes);
        json_out_count(out, "wait_us", candidate ? example->candidate_us : example->primary_us);
        json_out_close(out, '}');
    }
    json_out_close(out, '}');
}
