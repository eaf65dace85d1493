// SPDX-License-Identifier: Apache-2.0
#include "ship/engine/stable.h"

#include <stdio.h>
#include <string.h>

enum { EDIT_FORM = 1 }; // of an entry that tells of an edit

const struct engine_stable *engine_stable_find(const struct engine_stables *stables, const char *service)
{
    for (uint32_t i = 0; i < stables->count; i++)
        if (strcmp(stables->items[i].service, service) == 0)
            return &stables->items[i];
    return NULL;
}

static struct engine_stable *find(struct engine_stables *stables, const char *service)
{
    return (struct engine_stable *)(uintptr_t)engine_stable_find(stables, service);
}

static struct engine_stable *place(struct engine_stables *stables)
{
    if (stables->count < ENGINE_ROLLOUTS_MAX)
        return &stables->items[stables->count++];
    struct engine_stable *oldest = &stables->items[0];
    for (uint32_t i = 1; i < stables->count; i++)
        if (stables->items[i].since_ms < oldest->since_ms)
            oldest = &stables->items[i];
    return oldest;
}

static void set_name(char to[ROLLOUT_NAME_BYTES], const char *from)
{
    snprintf(to, ROLLOUT_NAME_BYTES, "%s", from);
}

// A run that comes from another version than is known follows the file's word, whatever came before.
static void begin(struct engine_stables *stables, const struct rollout_spec *spec, int64_t time_ms)
{
    struct engine_stable *stable = find(stables, spec->service);
    if (stable != NULL && strcmp(stable->version, spec->from) == 0)
        return;
    if (stable == NULL)
        stable = place(stables);
    *stable = (struct engine_stable){.since_ms = time_ms};
    set_name(stable->service, spec->service);
    set_name(stable->version, spec->from);
    set_name(stable->word, spec->from);
}

static void move(struct engine_stable *stable, const char *version, const char *rollout, bool undone,
                 int64_t time_ms)
{
    set_name(stable->version, version);
    set_name(stable->rollout, rollout);
    stable->undone = undone;
    stable->since_ms = time_ms;
}

bool engine_stable_fold(struct engine_stables *stables, const struct engine_record *record,
                        const struct rollout_effects *effects)
{
    const struct rollout_spec *spec =
        record->foreign.on ? &record->foreign.spec : rollout_spec_of(record->core);
    if (spec->target != ROLLOUT_TARGET_VERSION || effects->from == effects->to)
        return false;
    int64_t time_ms = effects->has_verdict ? effects->verdict.time_ms : record->run_ms;
    if (effects->from == ROLLOUT_PENDING)
        begin(stables, spec, time_ms);
    struct engine_stable *stable = find(stables, spec->service);
    if (stable == NULL)
        return false;
    bool complete = effects->to == ROLLOUT_COMPLETED && effects->weight == ROLLOUT_WEIGHT_FULL;
    bool undone = effects->from == ROLLOUT_COMPLETED && effects->weight == 0 &&
                  strcmp(stable->rollout, record->name) == 0 && strcmp(stable->version, spec->to) == 0;
    if (complete || undone)
        move(stable, complete ? spec->to : spec->from, record->name, undone, time_ms);
    return complete || undone;
}

void engine_stable_edit(const char *word, struct wire_writer *writer)
{
    wire_put_u64(writer, EDIT_FORM);
    wire_put_bytes(writer, slice_of(word));
}

// An edit that names the version that is stable anyway agrees with it; any other word counts from now on.
enum status engine_stable_fold_edit(struct engine_stables *stables, const struct journal_entry *entry)
{
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    uint64_t form = wire_get_u64(&reader);
    if (!reader.bad && form > EDIT_FORM)
        return STATUS_UNSUPPORTED;
    char word[ROLLOUT_NAME_BYTES];
    wire_get_string(&reader, word, sizeof word);
    if (!wire_done(&reader) || word[0] == '\0')
        return STATUS_CORRUPT;
    struct engine_stable *stable = find(stables, entry->subject);
    if (stable == NULL)
        return STATUS_OK; // forgotten as the oldest
    set_name(stable->word, word);
    if (strcmp(stable->version, word) != 0)
        move(stable, word, "", false, entry->time_ms);
    return STATUS_OK;
}

const struct engine_stable *engine_stable_over(const struct engine_stables *stables,
                                               const struct config_service *service)
{
    const struct engine_stable *stable = engine_stable_find(stables, service->name);
    bool stands = stable != NULL && strcmp(stable->word, service->stable) == 0 &&
                  strcmp(stable->version, service->stable) != 0 &&
                  config_version_find(service, stable->version) != NULL;
    return stands ? stable : NULL;
}

const char *engine_stable_version(const struct engine_stables *stables, const struct config_service *service)
{
    const struct engine_stable *over = engine_stable_over(stables, service);
    return over != NULL ? over->version : service->stable;
}

void engine_stable_fill(const struct engine_stables *stables, struct config *config)
{
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        struct rollout_spec *spec = &config->rollouts[i].spec;
        const struct config_service *service = config_service_find(config, spec->service);
        if (spec->target == ROLLOUT_TARGET_VERSION && service != NULL)
            set_name(spec->from, engine_stable_version(stables, service));
    }
}
