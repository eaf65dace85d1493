// SPDX-License-Identifier: Apache-2.0
// Compiles any bytes as a flag set and evaluates every flag with any context (the bytes behind the first
// 0x1e). An answer must hold together: a value or a reason for its absence, texts inside the image.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "flags/evaluate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct flags_json nodes[4096];
static char chars[16384];
static struct flags_json context_nodes[512];
static char context_chars[4096];
_Alignas(8) static uint8_t image[1 << 18];
_Alignas(8) static uint8_t again[1 << 18];

static void check_inside(const struct flags_set *set, struct slice s)
{
    const char *base = (const char *)set->image;
    if (s.len > 0)
        CHECK(s.data >= base && s.data + s.len <= base + set->len);
}

static void check_result(const struct flags_set *set, const struct flags_result *r, enum flags_type type)
{
    CHECK(r->reason <= FLAGS_REASON_ERROR && r->error <= FLAGS_ERROR_GENERAL);
    CHECK((r->reason == FLAGS_REASON_ERROR) == (r->error != FLAGS_ERROR_NONE));
    CHECK((r->error != FLAGS_ERROR_NONE) == (r->error_text.len > 0));
    CHECK(!(r->has_value && r->error != FLAGS_ERROR_NONE));
    if (r->reason == FLAGS_REASON_STATIC || r->reason == FLAGS_REASON_TARGETING_MATCH)
        CHECK(r->has_value);
    if (r->reason == FLAGS_REASON_DEFAULT)
        CHECK(r->note.len > 0);
    if (r->has_value && type != FLAGS_ANY && type != FLAGS_INTEGER)
        CHECK(r->type == type);
    check_inside(set, r->text);
    check_inside(set, r->json);
    check_inside(set, r->variant);
    check_inside(set, r->metadata);
}

static void evaluate_all(const struct flags_set *set, const struct flags_context *context)
{
    static char scratch[2048];
    char path_text[512];
    struct flags_info info;
    uint32_t cursor = 0;
    uint32_t count = 0;
    while (flags_set_next(set, &cursor, &info)) {
        struct flags_result result;
        struct flags_result explained;
        struct text path = text_over(path_text, sizeof path_text);
        enum flags_type type = (enum flags_type)(count++ % 6);
        struct flags_scratch space = {scratch + count % 8, sizeof scratch - 8};
        flags_evaluate(set, info.key, type, context, space, &result);
        check_result(set, &result, type);
        flags_explain(set, info.key, type, context, space, &explained, &path);
        CHECK(explained.reason == result.reason && slice_equal(explained.variant, result.variant));
        check_inside(set, info.key);
    }
    CHECK(count == flags_set_count(set));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct flags_compile_options options = {.strict = (data[0] & 1) != 0,
                                            .default_generation = (uint8_t)((data[0] >> 1) % 4)};
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = 4096, .chars = chars, .char_cap = sizeof chars};
    const uint8_t *end = memchr(data + 1, 0x1e, size - 1);
    size_t json_len = end != NULL ? (size_t)(end - data - 1) : size - 1;
    struct slice json = {(const char *)data + 1, json_len};
    struct slice rest = {(const char *)data + 1 + json_len, 0};
    if (end != NULL)
        rest = (struct slice){(const char *)end + 1, size - json_len - 2};
    struct flags_problem problems[4];
    struct flags_set set;
    size_t count;
    size_t len;
    enum status status =
        flags_set_compile(json, &options, &space, image, sizeof image, &len, problems, 4, &count);
    CHECK(status != STATUS_INVALID || count > 0);
    if (status != STATUS_OK)
        return 0;
    size_t len_again;
    CHECK(flags_set_compile(json, &options, &space, again, len, &len_again, problems, 4, &count) ==
          STATUS_OK);
    CHECK(len_again == len && memcmp(image, again, len) == 0);
    CHECK(flags_set_compile(json, &options, &space, again, len - 1, &len_again, problems, 4, &count) ==
          STATUS_FULL);
    CHECK(flags_set_open(image, len, &set) == STATUS_OK);
    struct flags_json_space context_space = {.nodes = context_nodes,
                                             .node_cap = 512,
                                             .chars = context_chars,
                                             .char_cap = sizeof context_chars,
                                             .last_wins = true};
    struct flags_json *tree = NULL;
    struct flags_json_fault fault;
    struct flags_context context = {.time_s = 1763715600, .key_required = (data[0] & 16) != 0};
    if (flags_json_parse(rest, &context_space, &tree, &fault) == STATUS_OK)
        context.tree = tree;
    context.has_targeting_key = (data[0] & 8) != 0;
    context.targeting_key = SLICE("user-1");
    evaluate_all(&set, &context);
    return 0;
}
