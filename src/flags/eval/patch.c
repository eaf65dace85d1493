// SPDX-License-Identifier: Apache-2.0
// Patches a compiled image: bits of a flag are changed in place, splits are appended. Each part of a patch
// stands alone, so that a kill is in force whatever else does not fit. Compiling ends with this code too, so
// both ways give the same bytes.
#include "base/check.h"
#include "flags/eval/flags_private.h"

// A split with its names resolved.
struct changes {
    struct flags_image_split split;
    uint32_t rings[FLAGS_RINGS_MAX];
};

static bool warn(struct flags_patcher *p, const struct flags_patch *patch, const char *message,
                 struct slice subject)
{
    struct flags_finding *problem = flags_findings_add(p->findings, FLAGS_WARNING);
    if (problem != NULL)
        *problem = (struct flags_finding){.severity = FLAGS_WARNING,
                                          .document = FLAGS_DOCUMENTS_MAX,
                                          .message = message,
                                          .key = patch->key,
                                          .subject = subject};
    return false;
}

static bool find_variant(struct flags_patcher *p, const struct flags_patch *patch,
                         const struct flags_image_flag *flag, struct slice name, uint32_t *variant)
{
    *variant = flags_find_variant(p->image, flag, name);
    return *variant != FLAGS_NO_VARIANT || warn(p, patch, "a patch names no variant of the flag", name);
}

static bool find_split(struct flags_patcher *p, const struct flags_patch *patch,
                       const struct flags_image_flag *flag, struct changes *changes)
{
    const struct flags_image_header *header = flags_image_at(p->image, 0);
    struct flags_image_split *split = &changes->split;
    CHECK(patch->ring_count <= FLAGS_RINGS_MAX);
    split->share = patch->split_share;
    split->ring_count = patch->ring_count;
    const uint64_t salt[2] = {patch->split_salt.k0, patch->split_salt.k1};
    for (int i = 0; i < 4; i++)
        split->salt[i] = (uint32_t)(salt[i / 2] >> (i % 2 * 32));
    if (!find_variant(p, patch, flag, patch->split_from, &split->from) ||
        !find_variant(p, patch, flag, patch->split_to, &split->to))
        return false;
    if (split->from == split->to)
        return warn(p, patch, "a split is between two variants", patch->split_to);
    if (split->share > FLAGS_SHARE_TOTAL)
        return warn(p, patch, "the share of a split is above the whole", patch->split_to);
    for (uint32_t i = 0; i < patch->ring_count; i++) {
        changes->rings[i] = flags_find_name(p->image, header->segments, patch->rings[i]);
        if (changes->rings[i] == 0)
            return warn(p, patch, "a ring names no segment", patch->rings[i]);
    }
    return true;
}

// The offset of the split, 0 when the image is full.
static uint32_t append_split(struct flags_patcher *p, const struct changes *changes)
{
    enum { ALIGN = 4 };
    uint32_t rings_size = changes->split.ring_count * (uint32_t)sizeof changes->rings[0];
    uint64_t at = ((uint64_t)p->used + ALIGN - 1) / ALIGN * ALIGN;
    uint64_t end = at + sizeof changes->split + rings_size;
    if (end > p->cap)
        return 0;
    memset(p->image + p->used, 0, (size_t)(at - p->used));
    memcpy(p->image + at, &changes->split, sizeof changes->split);
    memcpy(p->image + at + sizeof changes->split, changes->rings, rings_size);
    p->used = (uint32_t)end;
    return (uint32_t)at;
}

static void apply_kill(struct flags_patcher *p, const struct flags_patch *patch,
                       struct flags_image_flag *flag)
{
    uint32_t named;
    if (patch->kill_variant.len == 0 || !find_variant(p, patch, flag, patch->kill_variant, &named))
        named = flags_off_variant(p->image, flag);
    flag->bits |= FLAGS_BIT_KILLED;
    flag->kill_variant = named;
}

static enum status apply_one(struct flags_patcher *p, const struct flags_patch *patch)
{
    struct changes changes = {0};
    const struct flags_image_flag *found = flags_find_key(p->image, patch->key);
    if (found == NULL) {
        (void)warn(p, patch, "a patch names no flag", patch->key);
        return STATUS_OK;
    }
    if ((found->bits & FLAGS_BIT_PATCHED) != 0) {
        (void)warn(p, patch, "the flag has a patch already", patch->key);
        return STATUS_OK;
    }
    // Found through the writable pointer of the image, since `found` is const.
    struct flags_image_flag *flag = (void *)(p->image + ((const uint8_t *)found - p->image));
    flag->bits |= FLAGS_BIT_PATCHED;
    if (patch->state == FLAGS_PATCH_ENABLED)
        flag->bits &= (uint8_t) ~(FLAGS_BIT_DISABLED | FLAGS_BIT_KILLED);
    else if (patch->state == FLAGS_PATCH_DISABLED)
        flag->bits |= FLAGS_BIT_DISABLED;
    if (patch->kill)
        apply_kill(p, patch, flag);
    bool splits = patch->split && find_split(p, patch, flag, &changes);
    if (splits && (flag->split = append_split(p, &changes)) == 0)
        return STATUS_FULL;
    return STATUS_OK;
}

enum status flags_patch_apply(struct flags_patcher *p, const struct flags_patch *patches, uint32_t count)
{
    struct flags_image_header *header = (void *)p->image;
    for (uint32_t i = 0; i < count; i++) {
        enum status status = apply_one(p, &patches[i]);
        if (status != STATUS_OK)
            return status;
    }
    header->patched = count > 0;
    header->len = p->used;
    header->checksum = flags_checksum_of(p->image, p->used);
    return STATUS_OK;
}

enum status flags_image_patch(const struct flags_image *base, const struct flags_patch *patches,
                              uint32_t count, void *out, size_t cap, size_t *len,
                              struct flags_finding *problems, size_t problem_cap, size_t *problem_count)
{
    const struct flags_image_header *header = flags_image_at(base->image, 0);
    struct flags_findings findings = {.problems = problems, .cap = problem_cap};
    CHECK((uintptr_t)out % FLAGS_IMAGE_ALIGN == 0);
    *problem_count = 0;
    if (header->patched)
        return STATUS_CONFLICT;
    if (base->len > cap)
        return STATUS_FULL;
    memcpy(out, base->image, base->len);
    struct flags_patcher patcher = {.image = out,
                                    .used = base->len,
                                    .cap = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX,
                                    .findings = &findings};
    enum status status = flags_patch_apply(&patcher, patches, count);
    *problem_count = findings.count;
    if (status == STATUS_OK)
        *len = patcher.used;
    return status;
}
