// SPDX-License-Identifier: Apache-2.0
// Compiling with room that grows as needed: scratch stays with the compiler, an image is cut to its length.
// Pages never touched cost nothing, so the first guess is generous.
#include <stddef.h>
#include <stdlib.h>

#include "flags/set/flagset_private.h"

enum {
    NODES_FIRST = 1 << 16,
    CHARS_FIRST = 1 << 16,
    IMAGE_FIRST = 1 << 16,
    IMAGE_PER_SOURCE = 3,
};

void flagset_image_unref(struct flagset_image *image)
{
    if (image == NULL || atomic_fetch_sub_explicit(&image->references, 1, memory_order_acq_rel) != 1)
        return;
    if (image->times != NULL &&
        atomic_fetch_sub_explicit(&image->times->references, 1, memory_order_acq_rel) == 1)
        heap_free(image->times);
    heap_free(image->data);
    heap_free(image);
}

struct flagset_image *flagset_image_ref(struct flagset_image *image)
{
    atomic_fetch_add_explicit(&image->references, 1, memory_order_relaxed);
    return image;
}

static void free_scratch(struct flagset_compiler *compiler)
{
    heap_free(compiler->space.nodes);
    heap_free(compiler->space.chars);
    compiler->space = (struct flags_json_space){0};
}

void flagset_compiler_release(struct flagset_compiler *compiler)
{
    heap_free(compiler->borrowed);
    compiler->borrowed = NULL;
    compiler->fault_count = 0;
}

void flagset_compiler_deinit(struct flagset_compiler *compiler)
{
    flagset_compiler_release(compiler);
    free_scratch(compiler);
}

static uint64_t source_len(const struct flags_bundle *bundle)
{
    uint64_t len = bundle->segments.len;
    for (uint32_t i = 0; i < bundle->document_count; i++)
        len += bundle->documents[i].json.len;
    return len;
}

static enum status set_scratch(struct flagset_compiler *compiler, uint64_t nodes, uint64_t chars)
{
    free_scratch(compiler);
    if (nodes > UINT32_MAX)
        return STATUS_NO_MEMORY;
    compiler->space.nodes = heap_alloc(nodes, sizeof *compiler->space.nodes);
    compiler->space.chars = heap_alloc(chars, 1);
    if (compiler->space.nodes == NULL || compiler->space.chars == NULL) {
        free_scratch(compiler);
        return STATUS_NO_MEMORY;
    }
    compiler->space.node_cap = (uint32_t)nodes;
    compiler->space.char_cap = chars;
    return STATUS_OK;
}

// No text has more nodes or unescaped bytes than it has bytes: beyond that, growing would not help.
static enum status grow_scratch(struct flagset_compiler *compiler, uint64_t source)
{
    uint64_t nodes = compiler->space.node_cap;
    uint64_t chars = compiler->space.char_cap;
    if (nodes > source + NODES_FIRST && chars > source + CHARS_FIRST)
        return STATUS_NO_MEMORY;
    if (nodes <= source + NODES_FIRST)
        nodes *= 4;
    if (chars <= source + CHARS_FIRST)
        chars *= 4;
    return set_scratch(compiler, nodes, chars);
}

// The image in a block that fits. Names in faults may lie in the block they were found in, so that is kept
// with them.
static enum status keep(struct flagset_compiler *compiler, void *data, size_t len, struct flagset_image **out)
{
    struct flagset_image *image = heap_alloc(1, sizeof *image);
    void *cut = NULL;
    if (image != NULL && compiler->fault_count == 0) {
        cut = heap_resize(data, len);
    } else if (image != NULL && (cut = heap_alloc(len, 1)) != NULL) {
        memcpy(cut, data, len);
        compiler->borrowed = data;
    }
    if (cut == NULL) {
        compiler->fault_count = 0;
        heap_free(data);
        heap_free(image);
        return STATUS_NO_MEMORY;
    }
    // The compiler has just written the checksum: reading all of it once more would prove nothing.
    *image =
        (struct flagset_image){.references = 1, .data = cut, .set = {.image = cut, .len = (uint32_t)len}};
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

static enum status note_times(struct flagset_image *image)
{
    struct flags_info info;
    uint64_t most = 0;
    for (uint32_t cursor = 0; flags_set_next(&image->set, &cursor, &info);)
        most += info.has_schedule ? 2 : 0;
    if (most == 0)
        return STATUS_OK;
    struct flagset_times *times = heap_alloc(1, sizeof *times + most * sizeof *times->at);
    if (times == NULL)
        return STATUS_NO_MEMORY;
    uint32_t count = 0;
    for (uint32_t cursor = 0; flags_set_next(&image->set, &cursor, &info);) {
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

static enum status keep_compiled(struct flagset_compiler *compiler, void *data, size_t len,
                                 struct flagset_image **out)
{
    struct flagset_image *image = NULL;
    enum status status = keep(compiler, data, len, &image);
    if (status == STATUS_OK)
        status = note_times(image);
    if (status != STATUS_OK) {
        flagset_image_unref(image);
        return status;
    }
    *out = image;
    return STATUS_OK;
}

enum status flagset_compile(struct flagset_compiler *compiler, const struct flags_bundle *bundle,
                            struct flagset_image **image)
{
    static const struct flags_compile_options OPTIONS = {0};
    uint64_t source = source_len(bundle);
    uint64_t cap = IMAGE_FIRST + IMAGE_PER_SOURCE * source;
    size_t len = 0;
    flagset_compiler_release(compiler);
    if (compiler->space.nodes == NULL && set_scratch(compiler, NODES_FIRST, CHARS_FIRST) != STATUS_OK)
        return STATUS_NO_MEMORY;
    for (;;) {
        void *data = heap_alloc(cap, 1);
        size_t count = 0;
        if (data == NULL)
            return STATUS_NO_MEMORY;
        enum status status = flags_bundle_compile(bundle, &OPTIONS, &compiler->space, data, cap, &len,
                                                  compiler->faults, FLAGSET_FAULTS_MAX, &count);
        compiler->fault_count = count < FLAGSET_FAULTS_MAX ? count : FLAGSET_FAULTS_MAX;
        if (status == STATUS_OK)
            return keep_compiled(compiler, data, len, image);
        if (status == STATUS_INVALID) {
            compiler->borrowed = data;
            return status;
        }
        compiler->fault_count = 0;
        heap_free(data);
        if (status == STATUS_FULL && cap <= UINT32_MAX)
            cap *= 2;
        else if (status != STATUS_NO_MEMORY || grow_scratch(compiler, source) != STATUS_OK)
            return status;
    }
}

enum status flagset_patch(struct flagset_compiler *compiler, struct flagset_image *base,
                          const struct flagset_patches *patches, struct flagset_image **image)
{
    size_t count = 0;
    size_t len;
    flagset_compiler_release(compiler);
    if (patches == NULL || patches->count == 0) {
        *image = flagset_image_ref(base);
        return STATUS_OK;
    }
    size_t cap = base->set.len + (size_t)patches->count * FLAGS_PATCH_BYTES_MAX;
    void *data = heap_alloc(cap, 1);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    enum status status = flags_set_patch(&base->set, patches->patches, patches->count, data, cap, &len,
                                         compiler->faults, FLAGSET_FAULTS_MAX, &count);
    compiler->fault_count = count < FLAGSET_FAULTS_MAX ? count : FLAGSET_FAULTS_MAX;
    if (status == STATUS_OK) {
        status = keep(compiler, data, len, image);
        // No patch changes a schedule.
        if (status == STATUS_OK && base->times != NULL) {
            atomic_fetch_add_explicit(&base->times->references, 1, memory_order_relaxed);
            (*image)->times = base->times;
        }
        return status;
    }
    compiler->fault_count = 0;
    heap_free(data);
    return status;
}

// Names come from files and people: nothing in them may move a terminal's cursor.
static void add_quoted(struct text *text, struct slice name)
{
    text_add_char(text, '\'');
    for (size_t i = 0; i < name.len; i++)
        text_add_char(text, (unsigned char)name.data[i] < 0x20 || name.data[i] == 0x7f ? '?' : name.data[i]);
    text_add_char(text, '\'');
}

void flagset_fault_text(const struct flags_problem *fault, const char *document, char *problem)
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
