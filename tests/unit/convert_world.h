// SPDX-License-Identifier: Apache-2.0
// Exports and expectations of the converter's tests: JSON with single quotes, and tables of (flag, context,
// answer). Whatever is converted must compile strictly, which every test checks on the way.
#pragma once

#include "base/heap.h"
#include "flags/convert/convert.h"
#include "flags/eval/evaluate.h"
#include "test.h"

struct world {
    struct convert_result result;
    uint8_t *image;
    struct flags_image set;
};

// One row: what the flag answers as JSON, or "default" for the caller's own.
struct expectation {
    const char *flag;
    const char *context;
    const char *answer;
};

static inline char *quoted(const char *single)
{
    char *text = heap_strdup(single);
    assert_non_null(text);
    for (char *at = text; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    return text;
}

static inline void world_compile(struct world *world)
{
    enum { NODES = 1 << 16, CHARS = 1 << 18, IMAGE = 1 << 20 };
    struct flags_finding problems[4];
    struct flags_compile_options options = {.strict = true};
    struct flags_json_space space = {.nodes = heap_alloc(NODES, sizeof *space.nodes),
                                     .node_cap = NODES,
                                     .chars = heap_alloc(CHARS, 1),
                                     .char_cap = CHARS};
    size_t count;
    size_t len;
    world->image = heap_alloc_aligned(IMAGE);
    enum status status = flags_compile((struct slice){world->result.json, world->result.len}, &options,
                                       &space, world->image, IMAGE, &len, problems, 4, &count);
    if (status != STATUS_OK || count != 0)
        fail_msg("not strict: %u:%u: %s\n%s", problems[0].line, problems[0].column, problems[0].message,
                 world->result.json);
    assert_int_equal(flags_image_open(world->image, len, &world->set), STATUS_OK);
    assert_int_equal(flags_image_flag_count(&world->set), world->result.flag_count);
    heap_free(space.nodes);
    heap_free(space.chars);
}

static inline void world_convert_for(struct world *world, const char *source, enum convert_format format,
                                     const char *environment)
{
    char *text = quoted(source);
    struct convert_options options = {.format = format, .environment = environment};
    *world = (struct world){0};
    enum status status = convert_flags(slice_of(text), &options, &world->result);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status),
                 world->result.finding_count > 0 ? world->result.findings[0].text : "");
    heap_free(text);
    world_compile(world);
}

static inline void world_convert(struct world *world, const char *source)
{
    world_convert_for(world, source, CONVERT_AUTO, NULL);
}

static inline void world_free(struct world *world)
{
    convert_result_free(&world->result);
    heap_free(world->image);
}

// The answer as text, in storage.
static inline const char *world_answer(const struct world *world, const char *flag, const char *context,
                                       uint64_t time_s, char *storage, size_t cap)
{
    enum { NODES = 256, CHARS = 4096 };
    static struct flags_json nodes[NODES];
    static char chars[CHARS];
    static char scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_json_space space = {.nodes = nodes, .node_cap = NODES, .chars = chars, .char_cap = CHARS};
    struct flags_json *tree;
    struct flags_json_error fault;
    struct flags_result result;
    char *text = quoted(context);
    assert_int_equal(flags_json_parse(slice_of(text), &space, &tree, &fault), STATUS_OK);
    struct flags_context asked = {.tree = tree, .time_s = time_s};
    flags_evaluate(&world->set, slice_of(flag), FLAGS_ANY, &asked,
                   (struct flags_scratch){scratch, sizeof scratch}, &result);
    if (result.error != FLAGS_ERROR_NONE)
        snprintf(storage, cap, "error %s: " SLICE_FMT, flags_error_name(result.error),
                 SLICE_ARG(result.error_text));
    else if (!result.has_value)
        snprintf(storage, cap, "default");
    else
        snprintf(storage, cap, SLICE_FMT, SLICE_ARG(result.json));
    heap_free(text);
    size_t kept = 0;
    for (const char *at = storage; storage[0] == '{' && *at != '\0'; at++)
        if (*at != ' ' && *at != '\n')
            storage[kept++] = *at;
    if (kept > 0)
        storage[kept] = '\0';
    return storage;
}

static inline void world_expect_at(const struct world *world, const struct expectation *rows, size_t count,
                                   uint64_t time_s)
{
    char got[512];
    for (size_t i = 0; i < count; i++) {
        char *wanted = quoted(rows[i].answer);
        world_answer(world, rows[i].flag, rows[i].context, time_s, got, sizeof got);
        if (strcmp(got, wanted) != 0)
            fail_msg("row %zu: %s for %s: %s, wanted %s\n%s", i, rows[i].flag, rows[i].context, got, wanted,
                     world->result.json);
        heap_free(wanted);
    }
}

static inline void world_expect(const struct world *world, const struct expectation *rows, size_t count)
{
    world_expect_at(world, rows, count, 1700000000);
}

// Whether there is a finding about the flag with the text in it.
static inline bool world_found(const struct world *world, const char *flag, const char *text, bool lost)
{
    for (uint32_t i = 0; i < world->result.finding_count; i++) {
        const struct convert_finding *finding = &world->result.findings[i];
        if (strcmp(finding->flag, flag) == 0 && finding->lost == lost && strstr(finding->text, text) != NULL)
            return true;
    }
    return false;
}

static inline uint32_t world_lost(const struct world *world)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < world->result.finding_count; i++)
        lost += world->result.findings[i].lost;
    return lost;
}
