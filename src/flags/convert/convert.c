// SPDX-License-Identifier: Apache-2.0
// From the text of an export to the text of a flagd file: reading, recognising the format, findings.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/convert/convert_private.h"
#include "flags/eval/json.h"

const char *convert_format_name(enum convert_format format)
{
    static const char *const NAMES[] = {"auto", "flagd", "launchdarkly", "unleash"};
    return (size_t)format < ARRAY_LEN(NAMES) ? NAMES[format] : "unknown";
}

// ---- findings ----

static void count_left_out(struct convert_run *run)
{
    if (run->finding_count <= CONVERT_FINDINGS_MAX || run->result->finding_count == 0)
        return;
    struct convert_finding *last = &run->result->findings[run->result->finding_count - 1];
    *last = (struct convert_finding){.lost = true};
    snprintf(last->text, sizeof last->text, "%u more are not listed",
             run->finding_count - CONVERT_FINDINGS_MAX);
}

// ---- recognising ----

static const json_t *first_of(const json_t *container)
{
    size_t at = 0;
    const char *key;
    const json_t *value = NULL;
    if (ld_each(container, &at, &key, &value))
        return value;
    return NULL;
}

static bool looks_like_launchdarkly(const json_t *flag)
{
    return json_object_get(flag, "variations") != NULL || json_object_get(flag, "fallthrough") != NULL ||
           json_object_get(flag, "environments") != NULL;
}

static enum convert_format recognise(const json_t *source)
{
    const json_t *items = json_object_get(source, "items");
    const json_t *flags = json_object_get(source, "flags");
    const json_t *list = json_is_array(source) ? first_of(source) : NULL;
    if (json_object_get(source, "features") != NULL || json_object_get(list, "strategies") != NULL)
        return CONVERT_UNLEASH;
    if (json_object_get(source, "flagValues") != NULL || looks_like_launchdarkly(first_of(items)) ||
        looks_like_launchdarkly(first_of(flags)) || looks_like_launchdarkly(list) ||
        looks_like_launchdarkly(source))
        return CONVERT_LAUNCHDARKLY;
    return flags != NULL ? CONVERT_FLAGD : CONVERT_AUTO;
}

// ---- our own format ----

static enum status refuse(struct convert_run *run, const char *text)
{
    convert_find(run, CONVERT_LOST, "%s", text);
    return STATUS_INVALID;
}

static enum status copy_source(struct convert_run *run, struct slice source)
{
    char *copy = heap_alloc(source.len + 1, 1);
    if (copy == NULL)
        return STATUS_NO_MEMORY;
    memcpy(copy, source.data, source.len);
    heap_free(run->result->json);
    run->result->json = copy;
    run->result->len = source.len;
    return STATUS_OK;
}

// Indented when the indented text means the same, else as it is.
static enum status pass(struct convert_run *run, struct slice source)
{
    json_t *culprit = NULL;
    char problem[200] = "";
    uint32_t count;
    enum status status = convert_compile(source, &run->result->flag_count, &culprit, problem, sizeof problem);
    if (status == STATUS_INVALID) {
        const char *key = json_string_value(culprit);
        run->flag = key != NULL ? key : "";
        convert_find(run, CONVERT_LOST, "%s", problem);
        run->flag = "";
    }
    json_decref(culprit);
    if (status != STATUS_OK)
        return status;
    culprit = NULL;
    if (run->source != NULL && convert_print(run, run->source) == STATUS_OK &&
        convert_compile((struct slice){run->result->json, run->result->len}, &count, &culprit, problem,
                        sizeof problem) == STATUS_OK &&
        count == run->result->flag_count)
        return STATUS_OK;
    json_decref(culprit);
    return copy_source(run, source);
}

static enum status translate(struct convert_run *run, enum convert_format format)
{
    if (!json_is_object(run->source) && !json_is_array(run->source))
        return refuse(run, "an export is an object or a list");
    bool chosen = format == CONVERT_LAUNCHDARKLY ? convert_launchdarkly(run) : convert_unleash(run);
    return chosen ? convert_finish(run) : STATUS_INVALID;
}

static enum status convert(struct convert_run *run, struct slice source, const json_error_t *error)
{
    enum convert_format format = run->options->format;
    if (format == CONVERT_AUTO && run->source != NULL)
        format = recognise(run->source);
    if (format == CONVERT_FLAGD)
        return pass(run, source);
    if (run->source == NULL) {
        convert_find(run, CONVERT_LOST, "%d:%d: %s", error->line, error->column, error->text);
        return STATUS_INVALID;
    }
    if (format == CONVERT_AUTO)
        return refuse(run, "the export is of no format known here (flagd, launchdarkly, unleash)");
    return translate(run, format);
}

enum status convert_flags(struct slice source, const struct convert_options *options,
                          struct convert_result *result)
{
    json_error_t error = {0};
    *result = (struct convert_result){0};
    struct convert_run run = {.options = options, .result = result, .flag = ""};
    if (source.len > CONVERT_SOURCE_BYTES_MAX) {
        convert_find(&run, CONVERT_LOST, "the export is larger than 64 MiB");
        return STATUS_RANGE;
    }
    run.source = json_loadb(source.data, source.len, JSON_REJECT_DUPLICATES, &error);
    run.flags = json_object();
    run.evaluators = json_object();
    run.inexact = json_object();
    run.index = json_object();
    run.unsure = json_object();
    enum status status = convert(&run, source, &error);
    if (run.no_memory || run.flags == NULL || run.evaluators == NULL || run.inexact == NULL ||
        run.index == NULL || run.unsure == NULL)
        status = STATUS_NO_MEMORY;
    count_left_out(&run);
    if (status != STATUS_OK) {
        heap_free(result->json);
        result->json = NULL;
        result->len = 0;
        result->flag_count = 0;
    }
    json_decref(run.source);
    json_decref(run.flags);
    json_decref(run.evaluators);
    json_decref(run.inexact);
    json_decref(run.index);
    json_decref(run.unsure);
    return status;
}

void convert_result_free(struct convert_result *result)
{
    heap_free(result->json);
    heap_free(result->findings);
    *result = (struct convert_result){0};
}
