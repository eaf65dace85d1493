// SPDX-License-Identifier: Apache-2.0
// From many documents to one image. The order: segments; the evaluators of each document; the flags of each
// document; the table of keys, in which a flag replaces one of the same key from an earlier document; and
// last what needs the whole set: prerequisites, counters, patches. All documents are read even when one has
// an error, so that one pass reports everything.
#include "base/check.h"
#include "flags/eval/flags_private.h"

static uint32_t tag_of(const struct flags_image_flag *flag, uint32_t at)
{
    // Images start on a cache line wherever speed matters: when mapped, or so large that the heap maps them.
    uint32_t lines = (at % FLAGS_LINE_BYTES + flag->size + FLAGS_LINE_BYTES - 1) / FLAGS_LINE_BYTES;
    lines = lines < FLAGS_SLOT_LINES_MAX ? lines : FLAGS_SLOT_LINES_MAX;
    return (flag->hash & ~(uint32_t)FLAGS_SLOT_LINES_MAX) | lines;
}

// The slot of the flag's key: a free slot, or the slot of an earlier flag with the same key.
static struct flags_image_slot *slot_of(struct flags_compiler *c, struct flags_image_slot *slots,
                                        uint32_t mask, const struct flags_image_flag *flag)
{
    struct slice key = flags_image_slice(c->out, flag->key);
    uint32_t i = flag->hash & mask;
    for (; slots[i].flag != 0; i = (i + 1) & mask) {
        const struct flags_image_flag *other = flags_write_at(c, slots[i].flag);
        if (other->hash == flag->hash && slice_equal(flags_image_slice(c->out, other->key), key))
            break;
    }
    return &slots[i];
}

static void enter_flag(struct flags_compiler *c, struct flags_image_slot *slot, uint32_t at)
{
    const struct flags_image_flag *flag = flags_write_at(c, at);
    const struct flags_image_flag *other = flags_write_at(c, slot->flag);
    bool twice = slot->flag != 0 && other->document == flag->document;
    if (twice) {
        flags_compile_enter(c, flag->document);
        flags_compile_problem_at(c, FLAGS_ERROR, "the flag stands twice in the set", flag->source_at,
                                 flags_image_slice(c->out, flag->key));
    }
    *slot = (struct flags_image_slot){tag_of(flag, at), at};
}

static void build_table(struct flags_compiler *c)
{
    uint32_t count = 2;
    while (count < 2 * (uint64_t)c->flag_count)
        count *= 2;
    uint32_t at = flags_write_reserve(c, (uint64_t)count * sizeof(struct flags_image_slot), FLAGS_LINE_BYTES);
    if (c->status != STATUS_OK)
        return;
    struct flags_image_slot *slots = flags_write_at(c, at);
    const struct flags_image_flag *flag;
    for (uint32_t f = c->first_flag; f != 0; f = flag->next) {
        flag = flags_write_at(c, f);
        enter_flag(c, slot_of(c, slots, count - 1, flag), f);
    }
    struct flags_image_header *header = flags_write_at(c, 0);
    header->slots = at;
    header->slot_mask = count - 1;
}

// Takes the flags that a later document overrides out of the list, and numbers the counters of the others.
static void settle_flags(struct flags_compiler *c)
{
    struct flags_image_header *header = flags_write_at(c, 0);
    struct flags_image_slot *slots = flags_write_at(c, header->slots);
    struct flags_image_flag *flag;
    uint32_t *link = &c->first_flag;
    uint32_t counters = 1;
    for (uint32_t at = c->first_flag; at != 0; at = flag->next) {
        flag = flags_write_at(c, at);
        if (slot_of(c, slots, header->slot_mask, flag)->flag != at) {
            c->flag_count--;
            continue;
        }
        *link = at;
        link = &flag->next;
        flag->first_counter = counters;
        counters += flag->variant_count + 2;
    }
    *link = 0;
    header->first_flag = c->first_flag;
    header->flag_count = c->flag_count;
    header->counter_count = counters;
}

static void compile_bundle(struct flags_compiler *c)
{
    if (c->bundle->segments.len > 0)
        flags_compile_segments(c);
    for (uint32_t i = 0; i < c->bundle->document_count && c->status == STATUS_OK; i++)
        flags_compile_document(c, i);
    for (uint32_t i = 0; i < c->bundle->document_count && c->status == STATUS_OK; i++)
        flags_compile_document_flags(c, i);
    c->flag_key = (struct slice){"", 0};
    if (c->status == STATUS_OK)
        build_table(c);
    if (c->status != STATUS_OK || c->findings.error_count > 0)
        return;
    settle_flags(c);
    flags_compile_prerequisites(c);
}

static void finish_header(struct flags_compiler *c)
{
    struct flags_image_header *header = flags_write_at(c, 0);
    header->magic = FLAGS_IMAGE_MAGIC;
    header->version = FLAGS_IMAGE_VERSION;
    header->metadata = c->bundle_metadata;
    header->segments = c->segments;
    header->generation = c->generation;
    header->segment_generation = c->options.default_generation;
}

static enum status apply_patches(struct flags_compiler *c, size_t *len)
{
    struct flags_patcher patcher = {
        .image = c->out, .used = c->used, .cap = c->cap, .findings = &c->findings};
    enum status status = flags_patch_apply(&patcher, c->bundle->patches, c->bundle->patch_count);
    if (status == STATUS_OK)
        *len = patcher.used;
    return status;
}

static enum status compile(struct flags_compiler *c, size_t *len)
{
    (void)flags_write_reserve(c, sizeof(struct flags_image_header), 8); // at 0, which also stands for none
    if (c->status == STATUS_OK)
        compile_bundle(c);
    if (c->findings.error_count > 0)
        return STATUS_INVALID;
    if (c->status != STATUS_OK)
        return c->status;
    finish_header(c);
    return apply_patches(c, len);
}

static bool lengths_fit(const struct flags_bundle *bundle)
{
    if (bundle->document_count > FLAGS_DOCUMENTS_MAX || bundle->segments.len > UINT32_MAX)
        return false;
    for (uint32_t i = 0; i < bundle->document_count; i++)
        if (bundle->documents[i].json.len > UINT32_MAX)
            return false;
    return true;
}

enum status flags_bundle_compile(const struct flags_bundle *bundle,
                                 const struct flags_compile_options *options,
                                 struct flags_json_space *scratch, void *out, size_t cap, size_t *len,
                                 struct flags_finding *problems, size_t problem_cap, size_t *problem_count)
{
    struct flags_compiler c = {
        .bundle = bundle,
        .options = *options,
        .scratch = scratch,
        .out = out,
        .cap = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX,
        .findings = {.problems = problems, .cap = problem_cap},
    };
    CHECK((uintptr_t)out % FLAGS_IMAGE_ALIGN == 0);
    CHECK(options->default_generation <= FLAGS_GENERATION_3);
    *problem_count = 0;
    if (!lengths_fit(bundle))
        return STATUS_RANGE;
    if (c.options.default_generation == 0)
        c.options.default_generation = FLAGS_GENERATION_3;
    c.generation = c.options.default_generation;
    scratch->node_count = 0;
    scratch->char_count = 0;
    enum status status = compile(&c, len);
    *problem_count = c.findings.count;
    return status;
}

enum status flags_compile(struct slice json, const struct flags_compile_options *options,
                          struct flags_json_space *scratch, void *out, size_t cap, size_t *len,
                          struct flags_finding *problems, size_t problem_cap, size_t *problem_count)
{
    struct flags_bundle_document document = {.json = json, .name = ""};
    struct flags_bundle bundle = {.documents = &document, .document_count = 1};
    return flags_bundle_compile(&bundle, options, scratch, out, cap, len, problems, problem_cap,
                                problem_count);
}
