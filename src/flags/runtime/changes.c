// SPDX-License-Identifier: Apache-2.0
// What operators change: refused with a reason, or journalled, then laid over, then handed to the set.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/utf8.h"
#include "flags/eval/image.h"
#include "flags/runtime/runtime_private.h"
#include "net/io/loop.h"

const char *runtime_op_name(enum runtime_op op)
{
    static const char *const names[] = {
        [RUNTIME_SET] = "set", [RUNTIME_ON] = "on", [RUNTIME_OFF] = "off", [RUNTIME_UNSET] = "unset"};
    return (size_t)op < ARRAY_LEN(names) ? names[op] : "unknown";
}

static enum status refuse_key(const char *key, struct fault *fault)
{
    size_t len = strlen(key);
    if (len == 0 || len >= RUNTIME_KEY_BYTES)
        return fault_set(fault, STATUS_INVALID, "a flag's key has 1 to %d bytes", RUNTIME_KEY_BYTES - 1);
    if (!utf8_valid((struct slice){key, len}))
        return fault_set(fault, STATUS_INVALID, "the key is not well-formed UTF-8");
    return STATUS_OK;
}

static enum status refuse_set(struct runtime *runtime, const struct runtime_change *change,
                              struct fault *fault)
{
    struct fault problem = {.text = ""};
    if (change->definition.len > RUNTIME_DEFINITION_BYTES)
        return fault_set(fault, STATUS_INVALID, "the definition is larger than %d KiB",
                         RUNTIME_DEFINITION_BYTES / 1024);
    struct runtime_split split;
    if (runtime_split_find(runtime, slice_of(change->key), &split) && split.active)
        return fault_set(fault, STATUS_CONFLICT,
                         "rollout %s is moving flag %s; abort it or let it end before the flag is "
                         "defined anew (`off` works at any time)",
                         split.rollout, change->key);
    if (change->checked)
        return STATUS_OK;
    enum status status =
        flagset_check_flag(runtime->set, slice_of(change->key), change->definition, &problem);
    if (status != STATUS_OK)
        return fault_set(fault, status, "%s", problem.text[0] != '\0' ? problem.text : status_name(status));
    return STATUS_OK;
}

static enum status refuse_switch(struct runtime *runtime, const struct runtime_change *change,
                                 struct fault *fault)
{
    const struct flags_image *set = &flagset_current(runtime->set)->all.set;
    struct slice key = slice_of(change->key);
    struct flags_info info;
    const struct runtime_overlay_entry *entry = runtime_overlay_find(&runtime->overlay, key);
    bool laid_over = entry != NULL;
    // Defined a moment ago and not in force yet: what its variants are is seen when it is. A kill that names
    // none of them kills without it, with a warning.
    bool fresh =
        laid_over && entry->definition != NULL && flagset_current(runtime->set)->change < runtime->change;
    if (!flags_image_find(set, key, &info) && !laid_over)
        return fault_set(fault, STATUS_NOT_FOUND, "there is no flag \"%s\"", change->key);
    if (change->op == RUNTIME_UNSET && !laid_over)
        return fault_set(fault, STATUS_CONFLICT, "nothing was changed at runtime of flag \"%s\"",
                         change->key);
    struct runtime_split split;
    if (change->op == RUNTIME_UNSET && entry->definition != NULL &&
        runtime_split_find(runtime, key, &split) && split.active)
        return fault_set(fault, STATUS_CONFLICT,
                         "rollout %s is moving flag %s as it was defined at runtime; abort it or let "
                         "it end before the definition goes",
                         split.rollout, change->key);
    bool names = change->op == RUNTIME_OFF && change->variant != NULL && change->variant[0] != '\0';
    if (names && !fresh && !runtime_variant_exists(set, key, change->variant))
        return fault_set(fault, STATUS_INVALID, "flag \"%s\" has no variant \"%s\"", change->key,
                         change->variant);
    return STATUS_OK;
}

enum status runtime_change_append(const struct runtime_change *change, runtime_append *append, void *context,
                                  uint64_t *seq, struct fault *fault)
{
    enum status status = refuse_key(change->key, fault);
    if (status != STATUS_OK)
        return status;
    if (change->variant != NULL && strlen(change->variant) >= RUNTIME_NAME_BYTES)
        return fault_set(fault, STATUS_INVALID, "the variant's name is longer than %d bytes",
                         RUNTIME_NAME_BYTES - 1);
    struct wire_writer writer = {.data = heap_alloc(1, RUNTIME_OVERLAY_WIRE_BYTES_MAX),
                                 .cap = RUNTIME_OVERLAY_WIRE_BYTES_MAX};
    if (writer.data == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    runtime_overlay_encode(change, &writer);
    CHECK(!writer.full);
    struct fault journal;
    status = append(context, change->key, (struct slice){(const char *)writer.data, writer.len},
                    change->op == RUNTIME_OFF, seq, &journal);
    heap_free(writer.data);
    if (status != STATUS_OK)
        return fault_set(fault, status, "the journal cannot be written, so nothing is changed: %s",
                         journal.text);
    return STATUS_OK;
}

enum status runtime_apply(struct runtime *runtime, const struct runtime_change *change, uint64_t *number,
                          struct fault *fault)
{
    if (runtime->set == NULL)
        return fault_set(fault, STATUS_CONFLICT, "the file has no `flags`");
    if (runtime->draining)
        return fault_set(fault, STATUS_CONFLICT, "the daemon is shutting down");
    enum status status = refuse_key(change->key, fault);
    if (status == STATUS_OK)
        status = change->op == RUNTIME_SET ? refuse_set(runtime, change, fault)
                                           : refuse_switch(runtime, change, fault);
    if (status != STATUS_OK)
        return status;
    status = runtime_overlay_room(&runtime->overlay, change);
    if (status != STATUS_OK)
        return fault_set(fault, status,
                         status == STATUS_FULL ? "no more than %d flags can be changed at runtime, and "
                                                 "their definitions together have at most %d MiB"
                                               : "no memory left to change more flags",
                         RUNTIME_OVERLAY_MAX, RUNTIME_OVERLAY_BYTES_MAX >> 20);
    uint64_t seq = 0;
    status = runtime_change_append(change, runtime->parts.append, runtime->parts.context, &seq, fault);
    if (status != STATUS_OK)
        return status;
    status = runtime_overlay_take(&runtime->overlay, change, seq, io_loop_wall_ms(runtime->parts.loop));
    if (status != STATUS_OK)
        return fault_set(fault, status,
                         "the change is in the journal, but there is no memory to put it in force; it "
                         "will be after a restart");
    log_write(runtime->parts.log, LOG_INFO, "a flag was changed",
              LOG_FIELDS(LOG_TEXT("flag", change->key), LOG_TEXT("change", runtime_op_name(change->op)),
                         LOG_TEXT("variant", change->variant != NULL ? change->variant : ""),
                         LOG_TEXT("who", change->who), LOG_TEXT("from", change->from),
                         LOG_NUMBER("entry", seq)));
    runtime_refresh(runtime);
    *number = runtime->change;
    return STATUS_OK;
}

// ---- what the journal holds ----

enum status runtime_fold(struct runtime *runtime, uint64_t seq, int64_t time_ms, struct slice payload)
{
    struct runtime_overlay_texts texts;
    struct runtime_change change;
    enum status status = runtime_overlay_decode(payload, &texts, &change);
    if (status != STATUS_OK || runtime == NULL)
        return status;
    status = runtime_overlay_room(&runtime->overlay, &change);
    return status == STATUS_OK ? runtime_overlay_take(&runtime->overlay, &change, seq, time_ms) : status;
}

// ---- what people look at ----

void runtime_flag_get(const struct runtime *runtime, struct slice key, struct runtime_flag *flag)
{
    struct runtime_split split;
    *flag = (struct runtime_flag){.state = FLAGS_PATCH_AS_IS};
    if (runtime_split_find(runtime, key, &split))
        flag->rollout = split.rollout;
    const struct runtime_overlay_entry *entry = runtime_overlay_find(&runtime->overlay, key);
    if (entry == NULL)
        return;
    flag->defined = entry->definition != NULL;
    flag->state = entry->state;
    flag->killed = entry->killed;
    memcpy(flag->kill_variant, entry->kill_variant, sizeof flag->kill_variant);
}

uint32_t runtime_history_count(const struct runtime *runtime)
{
    uint64_t changes = runtime->overlay.changes;
    return changes < RUNTIME_CHANGES_KEPT ? (uint32_t)changes : RUNTIME_CHANGES_KEPT;
}

const struct runtime_entry *runtime_history(const struct runtime *runtime, uint32_t i)
{
    uint32_t count = runtime_history_count(runtime);
    CHECK(i < count);
    return &runtime->overlay.history[(runtime->overlay.changes - count + i) % RUNTIME_CHANGES_KEPT];
}
