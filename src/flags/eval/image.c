// SPDX-License-Identifier: Apache-2.0
// Reading an image: checking it once, finding and listing flags.
#include <stddef.h>

#include "base/siphash.h"
#include "flags/eval/flags_private.h"

uint64_t flags_checksum_of(const uint8_t *image, uint32_t len)
{
    // A fixed key, because the checksum guards against damage only.
    static const struct siphash_key KEY = {0x736c756963652066ULL, 0x6c61677320696d67ULL};
    size_t from = offsetof(struct flags_image_header, version);
    return siphash(KEY, image + from, len - from);
}

static const struct flags_image_header *header(const struct flags_image *set)
{
    return flags_image_at(set->image, 0);
}

enum status flags_image_open(const void *image, size_t len, struct flags_image *set)
{
    const struct flags_image_header *head = image;
    if (len < sizeof *head || (uintptr_t)image % FLAGS_IMAGE_ALIGN != 0)
        return STATUS_CORRUPT;
    if (head->magic != FLAGS_IMAGE_MAGIC || head->version != FLAGS_IMAGE_VERSION ||
        head->len < sizeof *head || head->len > len)
        return STATUS_CORRUPT;
    if (head->checksum != flags_checksum_of(image, head->len))
        return STATUS_CORRUPT;
    *set = (struct flags_image){.image = image, .len = head->len};
    return STATUS_OK;
}

uint32_t flags_image_counter_count(const struct flags_image *set)
{
    return header(set)->counter_count;
}

uint32_t flags_image_flag_count(const struct flags_image *set)
{
    return header(set)->flag_count;
}

enum flags_generation flags_image_generation(const struct flags_image *set)
{
    return (enum flags_generation)header(set)->generation;
}

uint64_t flags_image_checksum(const struct flags_image *set)
{
    return header(set)->checksum;
}

struct slice flags_image_metadata(const struct flags_image *set)
{
    return flags_image_slice(set->image, header(set)->metadata);
}

// All of a flag lies together: prefetching it at once costs one wait for memory instead of one per line.
static void fetch(const uint8_t *image, const struct flags_image_slot *slot)
{
    const uint8_t *at = image + slot->flag;
    for (uint32_t i = 0; i < (slot->tag & FLAGS_SLOT_LINES_MAX); i++)
        __builtin_prefetch(at + i * FLAGS_LINE_BYTES);
}

const struct flags_image_flag *flags_find_key(const uint8_t *image, struct slice key)
{
    const struct flags_image_header *head = flags_image_at(image, 0);
    const struct flags_image_slot *slots = flags_image_at(image, head->slots);
    uint32_t hash = flags_hash_of(key, 0);
    for (uint32_t i = hash & head->slot_mask; slots[i].flag != 0; i = (i + 1) & head->slot_mask) {
        if (((slots[i].tag ^ hash) & ~(uint32_t)FLAGS_SLOT_LINES_MAX) != 0)
            continue;
        fetch(image, &slots[i]);
        const struct flags_image_flag *flag = flags_image_at(image, slots[i].flag);
        if (flags_slice_same(flags_image_slice(image, flag->key), key))
            return flag;
    }
    return NULL;
}

uint32_t flags_find_name(const uint8_t *image, struct flags_names names, struct slice name)
{
    const struct flags_image_name *list = flags_image_at(image, names.at);
    uint32_t low = 0;
    uint32_t high = names.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = flags_slice_order(name, flags_image_slice(image, list[middle].name));
        if (order == 0)
            return list[middle].evaluator;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

uint32_t flags_find_variant(const uint8_t *image, const struct flags_image_flag *flag, struct slice name)
{
    const struct flags_image_variant *variants = flags_image_at(image, flag->variants);
    for (uint32_t i = 0; i < flag->variant_count; i++)
        if (flags_slice_same(flags_image_slice(image, variants[i].name), name))
            return i;
    return FLAGS_NO_VARIANT;
}

uint32_t flags_off_variant(const uint8_t *image, const struct flags_image_flag *flag)
{
    const struct flags_image_variant *variants = flags_image_at(image, flag->variants);
    for (uint32_t i = 0; flag->type == FLAGS_BOOLEAN && i < flag->variant_count; i++)
        if (!variants[i].boolean)
            return i;
    return FLAGS_NO_VARIANT;
}

static void describe(const struct flags_image *set, const struct flags_image_flag *flag,
                     struct flags_info *info)
{
    const uint8_t *image = set->image;
    const struct flags_image_variant *variants = flags_image_at(image, flag->variants);
    *info = (struct flags_info){
        .key = flags_image_slice(image, flag->key),
        .type = (enum flags_type)flag->type,
        .enabled = (flag->bits & FLAGS_BIT_DISABLED) == 0,
        .has_targeting = flag->targeting != 0 || flag->fault.len > 0,
        .has_schedule = (flag->bits & FLAGS_BIT_SCHEDULE) != 0,
        .killed = (flag->bits & FLAGS_BIT_KILLED) != 0,
        .split = flag->split != 0,
        .document = flag->document,
        .at = flag->source_at,
        .first_counter = flag->first_counter,
        .variant_count = flag->variant_count,
        .fault = flags_image_slice(image, flag->fault),
        .metadata = flags_image_slice(image, flag->metadata),
        .from_s = INT64_MIN,
        .until_s = INT64_MAX,
    };
    if (flag->default_variant != FLAGS_NO_VARIANT)
        info->default_variant = flags_image_slice(image, variants[flag->default_variant].name);
    if (info->killed && flag->kill_variant != FLAGS_NO_VARIANT)
        info->kill_variant = flags_image_slice(image, variants[flag->kill_variant].name);
    if (flag->extension != 0) {
        const struct flags_image_extension *extension = flags_image_at(image, flag->extension);
        info->has_targets = extension->target_count > 0;
        info->prerequisite_count = extension->prerequisite_count;
        info->from_s = extension->from_s;
        info->until_s = extension->until_s;
    }
}

bool flags_image_next(const struct flags_image *set, uint32_t *cursor, struct flags_info *info)
{
    // The cursor is the flag shown last. After the last flag `next` is 0, from which a walk would begin
    // again.
    uint32_t at = header(set)->first_flag;
    if (*cursor != 0)
        at = ((const struct flags_image_flag *)flags_image_at(set->image, *cursor))->next;
    if (at == 0)
        return false;
    describe(set, flags_image_at(set->image, at), info);
    *cursor = at;
    return true;
}

bool flags_image_find(const struct flags_image *set, struct slice key, struct flags_info *info)
{
    const struct flags_image_flag *flag = flags_find_key(set->image, key);
    if (flag == NULL)
        return false;
    describe(set, flag, info);
    return true;
}

bool flags_image_variant_get(const struct flags_image *set, struct slice key, uint32_t i, struct slice *name,
                             struct slice *json)
{
    const struct flags_image_flag *flag = flags_find_key(set->image, key);
    if (flag == NULL || i >= flag->variant_count)
        return false;
    const struct flags_image_variant *variants = flags_image_at(set->image, flag->variants);
    *name = flags_image_slice(set->image, variants[i].name);
    *json = flags_image_slice(set->image, variants[i].json);
    return true;
}
