// SPDX-License-Identifier: Apache-2.0
// Compiles with scratch and images that grow as needed. Scratch stays with the builder; an image is cut to
// its length. Pages never touched cost nothing, so the first guess is generous.
#include <stddef.h>
#include <stdlib.h>

#include "flags/set/flagset_private.h"

enum {
    NODES_FIRST = 1 << 16,
    CHARS_FIRST = 1 << 16,
    IMAGE_FIRST = 1 << 16,
    IMAGE_PER_SOURCE = 3,
};

void flagset_built_unref(struct flagset_built *image)
{
    if (image == NULL || atomic_fetch_sub_explicit(&image->references, 1, memory_order_acq_rel) != 1)
        return;
    if (image->times != NULL &&
        atomic_fetch_sub_explicit(&image->times->references, 1, memory_order_acq_rel) == 1)
        heap_free(image->times);
    heap_free(image->data);
    heap_free(image);
}

struct flagset_built *flagset_built_ref(struct flagset_built *image)
{
    atomic_fetch_add_explicit(&image->references, 1, memory_order_relaxed);
    return image;
}

static void free_scratch(struct flagset_builder *builder)
{
    heap_free(builder->space.nodes);
    heap_free(builder->space.chars);
    builder->space = (struct flags_json_space){0};
}

void flagset_builder_release(struct flagset_builder *builder)
{
    heap_free(builder->borrowed);
    builder->borrowed = NULL;
    builder->finding_count = 0;
}

void flagset_builder_deinit(struct flagset_builder *builder)
{
    flagset_builder_release(builder);
    free_scratch(builder);
}

static uint64_t source_len(const struct flags_bundle *bundle)
{
    uint64_t len = bundle->segments.len;
    for (uint32_t i = 0; i < bundle->document_count; i++)
        len += bundle->documents[i].json.len;
    return len;
}

static enum status set_scratch(struct flagset_builder *builder, uint64_t nodes, uint64_t chars)
{
    free_scratch(builder);
    if (nodes > UINT32_MAX)
        return STATUS_NO_MEMORY;
    builder->space.nodes = heap_alloc(nodes, sizeof *builder->space.nodes);
    builder->space.chars = heap_alloc(chars, 1);
    if (builder->space.nodes == NULL || builder->space.chars == NULL) {
        free_scratch(builder);
        return STATUS_NO_MEMORY;
    }
    builder->space.node_cap = (uint32_t)nodes;
    builder->space.char_cap = chars;
    return STATUS_OK;
}

// No text has more nodes or unescaped bytes than it has bytes, so beyond that growing would not help.
static enum status grow_scratch(struct flagset_builder *builder, uint64_t source)
{
    uint64_t nodes = builder->space.node_cap;
    uint64_t chars = builder->space.char_cap;
    if (nodes > source + NODES_FIRST && chars > source + CHARS_FIRST)
        return STATUS_NO_MEMORY;
    if (nodes <= source + NODES_FIRST)
        nodes *= 4;
    if (chars <= source + CHARS_FIRST)
        chars *= 4;
    return set_scratch(builder, nodes, chars);
}

// Moves the image into a block of its size. Names in findings may point into the old block, so that is then
// kept as long as the findings.
static enum status keep(struct flagset_builder *builder, void *data, size_t len, struct flagset_built **out)
{
    struct flagset_built *image = heap_alloc(1, sizeof *image);
    void *cut = NULL;
    if (image != NULL && builder->finding_count == 0) {
        cut = heap_resize(data, len);
    } else if (image != NULL && (cut = heap_alloc(len, 1)) != NULL) {
        memcpy(cut, data, len);
        builder->borrowed = data;
    }
    if (cut == NULL) {
        builder->finding_count = 0;
        heap_free(data);
        heap_free(image);
        return STATUS_NO_MEMORY;
    }
    // The builder has just written the checksum; verifying it would prove nothing.
    *image =
        (struct flagset_built){.references = 1, .data = cut, .set = {.image = cut, .len = (uint32_t)len}};
    *out = image;
    return STATUS_OK;
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t keep_each_once(int64_t *at, uint32_t count)
{
    uint32_t kept = 0;
    qsort(at, count, sizeof *at, compare_times);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || at[i] != at[kept - 1])
            at[kept++] = at[i];
    return kept;
}

static enum status note_times(struct flagset_built *image)
{
    struct flags_info info;
    uint64_t most = 0;
    for (uint32_t cursor = 0; flags_image_next(&image->set, &cursor, &info);)
        most += info.has_schedule ? 2 : 0;
    if (most == 0)
        return STATUS_OK;
    struct flagset_times *times = heap_alloc(1, sizeof *times + most * sizeof *times->at);
    if (times == NULL)
        return STATUS_NO_MEMORY;
    uint32_t count = 0;
    for (uint32_t cursor = 0; flags_image_next(&image->set, &cursor, &info);) {
        if (info.has_schedule && info.from_s != INT64_MIN)
            times->at[count++] = info.from_s;
        if (info.has_schedule && info.until_s != INT64_MAX)
            times->at[count++] = info.until_s;
    }
    times->references = 1;
    times->count = keep_each_once(times->at, count);
    image->times = times;
    return STATUS_OK;
}

static enum status keep_compiled(struct flagset_builder *builder, void *data, size_t len,
                                 struct flagset_built **out)
{
    struct flagset_built *image = NULL;
    enum status status = keep(builder, data, len, &image);
    if (status == STATUS_OK)
        status = note_times(image);
    if (status != STATUS_OK) {
        flagset_built_unref(image);
        return status;
    }
    *out = image;
    return STATUS_OK;
}

enum status flagset_build(struct flagset_builder *builder, const struct flags_bundle *bundle,
                          struct flagset_built **image)
{
    static const struct flags_compile_options OPTIONS = {0};
    uint64_t source = source_len(bundle);
    uint64_t cap = IMAGE_FIRST + IMAGE_PER_SOURCE * source;
    size_t len = 0;
    flagset_builder_release(builder);
    if (builder->space.nodes == NULL && set_scratch(builder, NODES_FIRST, CHARS_FIRST) != STATUS_OK)
        return STATUS_NO_MEMORY;
    for (;;) {
        void *data = heap_alloc(cap, 1);
        size_t count = 0;
        if (data == NULL)
            return STATUS_NO_MEMORY;
        enum status status = flags_bundle_compile(bundle, &OPTIONS, &builder->space, data, cap, &len,
                                                  builder->findings, FLAGSET_FINDINGS_MAX, &count);
        builder->finding_count = count < FLAGSET_FINDINGS_MAX ? count : FLAGSET_FINDINGS_MAX;
        if (status == STATUS_OK)
            return keep_compiled(builder, data, len, image);
        if (status == STATUS_INVALID) {
            builder->borrowed = data;
            return status;
        }
        builder->finding_count = 0;
        heap_free(data);
        if (status == STATUS_FULL && cap <= UINT32_MAX)
            cap *= 2;
        else if (status != STATUS_NO_MEMORY || grow_scratch(builder, source) != STATUS_OK)
            return status;
    }
}

enum status flagset_build_patched(struct flagset_builder *builder, struct flagset_built *base,
                                  const struct flagset_patches *patches, struct flagset_built **image)
{
    size_t count = 0;
    size_t len;
    flagset_builder_release(builder);
    if (patches == NULL || patches->count == 0) {
        *image = flagset_built_ref(base);
        return STATUS_OK;
    }
    size_t cap = base->set.len + (size_t)patches->count * FLAGS_PATCH_BYTES_MAX;
    void *data = heap_alloc(cap, 1);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    enum status status = flags_image_patch(&base->set, patches->patches, patches->count, data, cap, &len,
                                           builder->findings, FLAGSET_FINDINGS_MAX, &count);
    builder->finding_count = count < FLAGSET_FINDINGS_MAX ? count : FLAGSET_FINDINGS_MAX;
    if (status == STATUS_OK) {
        status = keep(builder, data, len, image);
        // No patch changes a schedule.
        if (status == STATUS_OK && base->times != NULL) {
            atomic_fetch_add_explicit(&base->times->references, 1, memory_order_relaxed);
            (*image)->times = base->times;
        }
        return status;
    }
    builder->finding_count = 0;
    heap_free(data);
    return status;
}

// Names come from files and people: control characters in them must not reach a terminal.
static void add_quoted(struct text *text, struct slice name)
{
    text_add_char(text, '\'');
    for (size_t i = 0; i < name.len; i++)
        text_add_char(text, (unsigned char)name.data[i] < 0x20 || name.data[i] == 0x7f ? '?' : name.data[i]);
    text_add_char(text, '\'');
}

void flagset_finding_text(const struct flags_finding *fault, const char *document, char *problem)
{
    struct text text = text_over(problem, FLAGSET_PROBLEM_BYTES);
    if (document != NULL)
        text_addf(&text, "%s:", document);
    if (fault->line > 0)
        text_addf(&text, "%u:%u:", fault->line, fault->column);
    if (text.len > 0)
        text_add_char(&text, ' ');
    if (fault->key.len > 0) {
        text_addf(&text, "flag ");
        add_quoted(&text, fault->key);
        text_addf(&text, ": ");
    }
    text_addf(&text, "%s", fault->message);
    if (fault->subject.len > 0) {
        text_addf(&text, ": ");
        add_quoted(&text, fault->subject);
    }
}
