// SPDX-License-Identifier: Apache-2.0
// A copy of rules that belongs to its run: one block holds all that they point to.
#include "base/heap.h"
#include "ship/shadow/shadow_private.h"

// Where the next piece of the block lies. Without a block only the bytes are counted.
struct block {
    char *data;
    size_t len;
};

static void *carve(struct block *block, size_t bytes)
{
    char *piece = block->data != NULL ? block->data + block->len : NULL;
    block->len += (bytes + 7) / 8 * 8;
    return piece;
}

static struct slice copy_slice(struct block *block, struct slice from)
{
    char *to = carve(block, from.len);
    if (to != NULL && from.len > 0)
        memcpy(to, from.data, from.len);
    return (struct slice){to, from.len};
}

static const struct slice *copy_slices(struct block *block, const struct slice *from, uint32_t count)
{
    struct slice *to = carve(block, count * sizeof *to);
    for (uint32_t i = 0; i < count; i++) {
        struct slice copy = copy_slice(block, from[i]);
        if (to != NULL)
            to[i] = copy;
    }
    return to;
}

static const struct diff_ignore *copy_ignores(struct block *block, const struct diff_recipe *recipe)
{
    struct diff_ignore *to = carve(block, recipe->ignore_count * sizeof *to);
    for (uint32_t i = 0; i < recipe->ignore_count; i++) {
        struct diff_ignore copy = {copy_slice(block, recipe->ignores[i].path),
                                   copy_slice(block, recipe->ignores[i].reason)};
        if (to != NULL)
            to[i] = copy;
    }
    return to;
}

static const struct shadow_statuses *copy_errors(struct block *block, const struct shadow_rules *rules)
{
    static const struct shadow_statuses server_errors = {500, 599};
    uint32_t count = rules->error_count > 0 ? rules->error_count : 1;
    struct shadow_statuses *to = carve(block, count * sizeof *to);
    if (to != NULL)
        memcpy(to, rules->error_count > 0 ? rules->errors : &server_errors, count * sizeof *to);
    return to;
}

static struct slice copy_name(struct block *block, struct slice name)
{
    return copy_slice(
        block, (struct slice){name.data, name.len < SHADOW_NAME_BYTES ? name.len : SHADOW_NAME_BYTES - 1});
}

static struct shadow_rules copy(struct block *block, const struct shadow_rules *from)
{
    struct shadow_rules to = *from;
    to.service = copy_name(block, from->service);
    to.rollout = copy_name(block, from->rollout);
    to.primary = copy_name(block, from->primary);
    to.candidate = copy_name(block, from->candidate);
    if (from->recipe.headers != NULL)
        to.recipe.headers = copy_slices(block, from->recipe.headers, from->recipe.header_count);
    to.recipe.ignores = copy_ignores(block, &from->recipe);
    to.redaction.patterns = copy_slices(block, from->redaction.patterns, from->redaction.count);
    to.errors = copy_errors(block, from);
    to.error_count = from->error_count > 0 ? from->error_count : 1;
    to.alpha = from->alpha > 0 ? from->alpha : 0.01;
    to.beta = from->beta > 0 ? from->beta : 0.05;
    return to;
}

enum status shadow_rules_copy(const struct shadow_rules *rules, struct siphash_key key,
                              struct shadow_run *run)
{
    struct block block = {0};
    if (rules->error_count > SHADOW_STATUSES_MAX || rules->redaction.count > SHADOW_PATTERNS_MAX)
        return STATUS_INVALID;
    (void)copy(&block, rules);
    block.data = heap_alloc(1, block.len + 1); // never 0 bytes
    if (block.data == NULL)
        return STATUS_NO_MEMORY;
    block.len = 0;
    run->rules = copy(&block, rules);
    run->rules.recipe.key = key;
    run->words = block.data;
    return STATUS_OK;
}
