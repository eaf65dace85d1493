// SPDX-License-Identifier: Apache-2.0
// What a file says of flags: its sources, and whether they can be read and compiled.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/eval/image.h"
#include "flags/runtime/runtime_private.h"
#include "net/io/loop.h"
#include "ship/rollout/spec.h"

// The file's own flags are the first source. Their text keeps the lines of the file: only the first one
// moves.
static enum status define_make(const struct config *config, struct flagset_source *source, char **json)
{
    static const char begin[] = "{\"flags\":", end[] = "}";
    size_t len = strlen(config->flags.define);
    *json = heap_alloc(len + sizeof begin + sizeof end, 1);
    if (*json == NULL)
        return STATUS_NO_MEMORY;
    memcpy(*json, begin, sizeof begin - 1);
    memcpy(*json + sizeof begin - 1, config->flags.define, len);
    memcpy(*json + sizeof begin - 1 + len, end, sizeof end - 1);
    *source = (struct flagset_source){.kind = FLAGSET_INLINE,
                                      .name = config->flags.position.file,
                                      .json = {*json, len + sizeof begin + sizeof end - 2}};
    return STATUS_OK;
}

static enum status sources_fill(const struct config *config, struct runtime_sources *sources)
{
    static const enum flagset_source_kind kinds[] = {[CONFIG_FLAG_FILE] = FLAGSET_FILE,
                                                     [CONFIG_FLAG_DIRECTORY] = FLAGSET_DIRECTORY,
                                                     [CONFIG_FLAG_URL] = FLAGSET_HTTP};
    *sources = (struct runtime_sources){.count = 0};
    if (config->flags.define != NULL &&
        define_make(config, &sources->items[sources->count++], &sources->define) != STATUS_OK)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < config->flags.source_count; i++) {
        const struct config_flag_source *from = &config->flags.sources[i];
        sources->items[sources->count++] = (struct flagset_source){
            .kind = kinds[from->kind],
            .name = from->place,
            .every_ms = from->every_ms,
            .token_file = from->token_file[0] != '\0' ? from->token_file : NULL,
        };
    }
    return STATUS_OK;
}

struct runtime_sources *runtime_sources_make(const struct config *config)
{
    struct runtime_sources *sources = heap_alloc(1, sizeof *sources);
    if (sources == NULL || sources_fill(config, sources) == STATUS_OK)
        return sources;
    runtime_sources_free(sources);
    return NULL;
}

void runtime_sources_free(struct runtime_sources *sources)
{
    if (sources != NULL)
        heap_free(sources->define);
    heap_free(sources);
}

struct slice runtime_segments(const struct config *config)
{
    return config->segments != NULL ? slice_of(config->segments) : (struct slice){"", 0};
}

enum status runtime_problems_fault(const struct fault *problems, uint32_t count, enum status status,
                                   struct fault *fault)
{
    if (count == 0)
        return fault_set(fault, status, "the flags cannot be read: %s", status_name(status));
    struct text text = text_over(fault->text, sizeof fault->text);
    text_add(&text, SLICE("the flags are not valid:"));
    for (uint32_t i = 0; i < count; i++)
        if (problems[i].status != STATUS_OK)
            text_addf(&text, "\n  %s", problems[i].text);
    fault->status = status;
    return status;
}

// ---- whether they can be read ----

static void ignore_change(void *context, const struct flagset_snapshot *snapshot)
{
    (void)context;
    (void)snapshot;
}

static void leave_addresses_out(struct runtime_sources *sources, struct runtime_report *report)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sources->count; i++)
        if (sources->items[i].kind != FLAGSET_HTTP)
            sources->items[kept++] = sources->items[i];
    report->left_out = sources->count - kept;
    report->sources = kept;
    sources->count = kept;
}

bool runtime_variant_exists(const struct flags_image *set, struct slice key, const char *variant)
{
    struct slice name, json;
    for (uint32_t i = 0; flags_image_variant_get(set, key, i, &name, &json); i++)
        if (slice_equal(name, slice_of(variant)))
            return true;
    return false;
}

// Whether the set lacks what a rollout moves, with a sentence.
static bool set_lacks(const struct flags_image *set, const char *key, const char *from, const char *to,
                      char *why, size_t cap)
{
    struct flags_info info;
    const char *const variants[] = {from, to};
    if (!flags_image_find(set, slice_of(key), &info)) {
        snprintf(why, cap, "there is no flag \"%s\"", key);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        if (runtime_variant_exists(set, slice_of(key), variants[i]))
            continue;
        snprintf(why, cap, "flag \"%s\" has no variant \"%s\"", key, variants[i]);
        return true;
    }
    return false;
}

enum status runtime_movable(const struct runtime *runtime, const char *key, const char *from, const char *to,
                            struct fault *fault)
{
    if (runtime->set == NULL)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot start: the file's `flags` take effect only when the daemon is started "
                         "again");
    char why[RUNTIME_KEY_BYTES + 128];
    if (set_lacks(&flagset_current(runtime->set)->all.set, key, from, to, why, sizeof why))
        return fault_set(fault, STATUS_CONFLICT, "cannot start: %s", why);
    return STATUS_OK;
}

static void report_rollouts(const struct config *config, const struct flags_image *set,
                            struct runtime_report *report)
{
    char why[RUNTIME_KEY_BYTES + 128];
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        const struct rollout_spec *spec = &config->rollouts[i].spec;
        if (spec->target != ROLLOUT_TARGET_FLAG ||
            !set_lacks(set, spec->flag, spec->from, spec->to, why, sizeof why) ||
            report->problem_count == FLAGSET_PROBLEMS_MAX)
            continue;
        (void)fault_set(&report->problems[report->problem_count++], STATUS_OK, "rollout %s: %s%s", spec->name,
                        why, report->left_out > 0 ? ", unless it comes from an address" : "");
    }
}

static void report_fill(const struct flagset *set, struct runtime_report *report)
{
    const struct fault *problems;
    report->problem_count = flagset_problems(set, &problems);
    if (report->problem_count > FLAGSET_PROBLEMS_MAX)
        report->problem_count = FLAGSET_PROBLEMS_MAX;
    memcpy(report->problems, problems, report->problem_count * sizeof *problems);
    report->flags = flags_image_flag_count(&flagset_current(set)->all.set);
}

// over: what is laid over them here, or NULL.
static enum status check_with(const struct config *config, const struct runtime_over *over,
                              struct runtime_report *report)
{
    memset(report, 0, sizeof *report);
    struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    struct io_loop *loop = NULL;
    struct flagset *set = NULL;
    struct runtime_sources *sources = runtime_sources_make(config);
    enum status status = sources == NULL ? STATUS_NO_MEMORY : io_loop_create(&loop_config, &loop);
    if (status == STATUS_OK) {
        leave_addresses_out(sources, report);
        struct flagset_config wanted = {.loop = loop,
                                        .sources = sources->items,
                                        .source_count = sources->count,
                                        .segments = runtime_segments(config),
                                        .changed = ignore_change};
        if (over != NULL) {
            wanted.overlay = (struct slice){over->json, over->len};
            wanted.patches = over->patches;
            wanted.patch_count = over->patch_count;
        }
        status = flagset_create(&wanted, &set, report->problems, &report->problem_count);
    }
    if (status == STATUS_OK) {
        report_fill(set, report);
        report_rollouts(config, &flagset_current(set)->all.set, report);
        flagset_destroy(set);
    }
    if (loop != NULL)
        io_loop_destroy(loop);
    runtime_sources_free(sources);
    return status;
}

enum status runtime_check(const struct config *config, struct runtime_report *report)
{
    return check_with(config, NULL, report);
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

// What is read is the same; where it is told and by whom is not looked at.
static bool same_flags(const struct config *a, const struct config *b)
{
    bool same = a->flags.given == b->flags.given && a->flags.source_count == b->flags.source_count &&
                same_text(a->flags.define, b->flags.define) && same_text(a->segments, b->segments);
    for (uint32_t i = 0; same && i < a->flags.source_count; i++)
        same = a->flags.sources[i].kind == b->flags.sources[i].kind &&
               strcmp(a->flags.sources[i].place, b->flags.sources[i].place) == 0;
    return same;
}

enum status runtime_acceptable(const struct runtime *runtime, const struct config *before,
                               const struct config *config, struct fault *fault)
{
    if (runtime->set == NULL || !config->flags.given || same_flags(before, config))
        return STATUS_OK;
    struct runtime_report *report = heap_alloc(1, sizeof *report);
    struct runtime_over over = {.json = NULL};
    enum status status = report != NULL ? runtime_over_make(runtime, true, &over) : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = check_with(config, &over, report);
    if (status != STATUS_OK)
        (void)runtime_problems_fault(report != NULL ? report->problems : NULL,
                                     report != NULL ? report->problem_count : 0, status, fault);
    runtime_over_free(&over);
    heap_free(report);
    return status;
}
