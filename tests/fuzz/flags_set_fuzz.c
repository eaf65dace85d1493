// SPDX-License-Identifier: Apache-2.0
// Compiles any bytes as flag sets and evaluates every flag with any context. The bytes behind the first one
// are fields split at 0x1e: a document, a context, a second document over the first, segments. An answer must
// hold together: a value or a reason for its absence, texts inside the image. Patches laid over the image
// must give the bytes that compiling with them gives.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "flags/eval/bucket.h"
#include "flags/eval/evaluate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct flags_json nodes[4096];
static char chars[16384];
static struct flags_json context_nodes[512];
static char context_chars[4096];
_Alignas(8) static uint8_t image[1 << 18];
_Alignas(8) static uint8_t again[1 << 18];
_Alignas(8) static uint8_t third[1 << 18];

static void check_inside(const struct flags_image *set, struct slice s)
{
    const char *base = (const char *)set->image;
    if (s.len > 0)
        CHECK(s.data >= base && s.data + s.len <= base + set->len);
}

static void check_result(const struct flags_image *set, const struct flags_result *r, enum flags_type type)
{
    CHECK(r->reason <= FLAGS_REASON_ERROR && r->error <= FLAGS_ERROR_GENERAL);
    CHECK((r->reason == FLAGS_REASON_ERROR) == (r->error != FLAGS_ERROR_NONE));
    CHECK((r->error != FLAGS_ERROR_NONE) == (r->error_text.len > 0));
    CHECK(!(r->has_value && r->error != FLAGS_ERROR_NONE));
    CHECK(r->counter < flags_image_counter_count(set));
    CHECK(r->arm == FLAGS_ARM_NONE || r->reason == FLAGS_REASON_SPLIT || r->reason == FLAGS_REASON_ERROR);
    if (r->reason == FLAGS_REASON_STATIC || r->reason == FLAGS_REASON_TARGETING_MATCH ||
        r->reason == FLAGS_REASON_SPLIT)
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

static void evaluate_all(const struct flags_image *set, const struct flags_context *context)
{
    static char scratch[2048];
    char path_text[512];
    struct flags_info info;
    uint32_t cursor = 0;
    uint32_t count = 0;
    while (flags_image_next(set, &cursor, &info)) {
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
    CHECK(count == flags_image_flag_count(set));
    bool matches;
    (void)flags_segment_matches(set, SLICE("ring"), context, (struct flags_scratch){scratch, sizeof scratch},
                                &matches);
}

enum { FIELDS = 4, PATCHES = 4 };

static uint32_t split_fields(const uint8_t *data, size_t size, struct slice fields[FIELDS])
{
    uint32_t count = 0;
    for (; count < FIELDS; count++) {
        const uint8_t *end = count + 1 < FIELDS && size > 0 ? memchr(data, 0x1e, size) : NULL;
        size_t len = end != NULL ? (size_t)(end - data) : size;
        fields[count] = (struct slice){(const char *)data, len};
        if (end == NULL)
            return count + 1;
        data += len + 1;
        size -= len + 1;
    }
    return count;
}

static enum status compile(const struct flags_bundle *bundle, const struct flags_compile_options *options,
                           uint8_t *out, size_t cap, size_t *len)
{
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = 4096, .chars = chars, .char_cap = sizeof chars};
    struct flags_finding problems[4];
    size_t count;
    enum status status = flags_bundle_compile(bundle, options, &space, out, cap, len, problems, 4, &count);
    CHECK(status != STATUS_INVALID || count > 0);
    for (size_t i = 0; i < count && i < 4; i++)
        CHECK(problems[i].document < bundle->document_count || problems[i].document == FLAGS_DOCUMENTS_MAX);
    return status;
}

// Patches of the first flags, with what they have by way of variants and with what the bits say.
static uint32_t make_patches(const struct flags_image *set, uint8_t bits, struct flags_patch patches[PATCHES])
{
    static const uint32_t SHARES[] = {0, 1000, 50000, FLAGS_SHARE_TOTAL};
    struct flags_info info;
    struct slice json;
    uint32_t cursor = 0;
    uint32_t count = 0;
    for (; count < PATCHES && flags_image_next(set, &cursor, &info);
         count++, bits = (uint8_t)(bits * 5 + 1)) {
        struct flags_patch patch = {.key = info.key, .state = (enum flags_patch_state)(bits % 3)};
        patch.kill = (bits & 16) != 0;
        patch.split = (bits & 32) != 0;
        (void)flags_image_variant_get(set, info.key, 0, &patch.split_to, &json);
        if (!flags_image_variant_get(set, info.key, 1, &patch.split_from, &json))
            patch.split_from = SLICE("nope");
        patch.kill_variant = (bits & 64) != 0 ? patch.split_to : SLICE("");
        patch.split_share = SHARES[bits % 4];
        patch.ring_count = (bits & 8) != 0;
        patch.rings[0] = SLICE("ring");
        patches[count] = patch;
    }
    return count;
}

// Into `again`.
static void check_patches(struct flags_bundle *bundle, const struct flags_compile_options *options,
                          const struct flags_image *set, struct flags_image *out, uint8_t bits)
{
    static struct flags_patch patches[PATCHES];
    struct flags_finding problems[4];
    size_t count;
    size_t len;
    size_t len_again;
    uint32_t patch_count = make_patches(set, bits, patches);
    enum status status =
        flags_image_patch(set, patches, patch_count, again, sizeof again, &len, problems, 4, &count);
    if (status == STATUS_FULL)
        return;
    CHECK(status == STATUS_OK && len <= set->len + patch_count * (size_t)FLAGS_PATCH_BYTES_MAX);
    bundle->patches = patches;
    bundle->patch_count = patch_count;
    CHECK(compile(bundle, options, third, len, &len_again) == STATUS_OK);
    CHECK(len == len_again && memcmp(again, third, len) == 0);
    CHECK(flags_image_open(again, len, out) == STATUS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct flags_compile_options options = {.strict = (data[0] & 1) != 0,
                                            .default_generation = (uint8_t)((data[0] >> 1) % 4)};
    struct slice fields[FIELDS] = {{"", 0}, {"", 0}, {"", 0}, {"", 0}};
    uint32_t field_count = split_fields(data + 1, size - 1, fields);
    const struct flags_bundle_document documents[] = {{.json = fields[0], .name = ""},
                                                      {.json = fields[2], .name = ""}};
    struct flags_bundle bundle = {.documents = documents,
                                  .document_count = fields[2].len > 0 ? 2 : 1,
                                  .segments = field_count == FIELDS ? fields[3]
                                                                    : SLICE("{\"ring\":{\"var\":\"a\"}}")};
    struct flags_image set;
    size_t len;
    if (compile(&bundle, &options, image, sizeof image, &len) != STATUS_OK)
        return 0;
    size_t len_again;
    CHECK(compile(&bundle, &options, again, len, &len_again) == STATUS_OK);
    CHECK(len_again == len && memcmp(image, again, len) == 0);
    CHECK(compile(&bundle, &options, again, len - 1, &len_again) == STATUS_FULL);
    CHECK(flags_image_open(image, len, &set) == STATUS_OK);
    struct flags_json_space context_space = {.nodes = context_nodes,
                                             .node_cap = 512,
                                             .chars = context_chars,
                                             .char_cap = sizeof context_chars,
                                             .last_wins = true};
    struct flags_json *tree = NULL;
    struct flags_json_error fault;
    struct flags_context context = {.time_s = 1763715600, .key_required = (data[0] & 16) != 0};
    if (flags_json_parse(fields[1], &context_space, &tree, &fault) == STATUS_OK)
        context.tree = tree;
    context.has_targeting_key = (data[0] & 8) != 0;
    context.targeting_key = SLICE("user-1");
    evaluate_all(&set, &context);
    struct flags_image patched = set;
    check_patches(&bundle, &options, &set, &patched, data[0]);
    evaluate_all(&patched, &context);
    return 0;
}
