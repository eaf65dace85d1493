// SPDX-License-Identifier: Apache-2.0
// The rollouts that live in the engine: found by name, what may be put in force of them, and how they stand
// to the file.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/engine/engine_private.h"

struct engine_rollout *engine_rollout_find(const struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        if (strcmp(engine->rollouts[i].name, name) == 0)
            return &engine->rollouts[i];
    return NULL;
}

struct engine_rollout *engine_rollout_at(const struct engine *engine, uint32_t index)
{
    CHECK(index < engine->rollout_count);
    return &engine->rollouts[index];
}

struct engine_rollout *engine_rollout_place(struct engine *engine, const char *name)
{
    if (engine->rollout_count == ENGINE_ROLLOUTS_MAX)
        return NULL;
    struct engine_rollout *rollout = &engine->rollouts[engine->rollout_count++];
    memset(rollout, 0, sizeof *rollout);
    snprintf(rollout->name, sizeof rollout->name, "%s", name);
    return rollout;
}

void engine_rollout_deinit(struct engine *engine, struct engine_rollout *rollout)
{
    // What is kept as evidence is the source's that the latest run had.
    const struct engine_source *source = engine->sources[rollout->route.spec.source];
    if (rollout->evidence != NULL && source->forget != NULL)
        source->forget(rollout);
    engine_record_destroy(rollout->record);
    heap_free(rollout->latency_before);
    engine_baseline_forget(rollout);
}

void engine_rollouts_sort_out(struct engine *engine)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        struct engine_rollout *rollout = &engine->rollouts[i];
        if (rollout->record == NULL && config_rollout_find(engine->config, rollout->name) == NULL) {
            engine_rollout_deinit(engine, rollout);
            continue;
        }
        if (kept < i)
            engine->rollouts[kept] = *rollout;
        kept++;
    }
    engine->rollout_count = kept;
}

// What is in neither file puts nothing in force any more.
static bool may_be_forgotten(const struct engine *engine, const struct config *config,
                             const struct engine_rollout *rollout)
{
    return rollout->record != NULL && !engine_rollout_active(rollout) && !rollout->owed &&
           !rollout->publish_owed && config_rollout_find(config, rollout->name) == NULL &&
           config_rollout_find(engine->config, rollout->name) == NULL;
}

static enum status make_room(struct engine *engine, const struct config *config, struct fault *fault)
{
    struct engine_rollout *oldest = NULL;
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        struct engine_rollout *rollout = &engine->rollouts[i];
        if (may_be_forgotten(engine, config, rollout) &&
            (oldest == NULL || rollout->record->run_seq < oldest->record->run_seq))
            oldest = rollout;
    }
    if (oldest == NULL)
        return fault_set(fault, STATUS_FULL, "more than %d rollouts that are in the file or under way",
                         ENGINE_ROLLOUTS_MAX);
    enum status status = engine_journal_note(engine, JOURNAL_FORGOTTEN, oldest, "");
    if (status != STATUS_OK)
        return fault_set(fault, status, "the journal cannot be written: %s", engine->health.journal_problem);
    engine_rollout_deinit(engine, oldest);
    engine->rollout_count--;
    size_t behind = (size_t)(&engine->rollouts[engine->rollout_count] - oldest);
    memmove(oldest, oldest + 1, behind * sizeof *oldest);
    return STATUS_OK;
}

static bool is_crowded(const struct engine *engine, const struct config *config)
{
    uint32_t finished = 0;
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        finished += may_be_forgotten(engine, config, &engine->rollouts[i]);
    return finished >= ENGINE_FINISHED_MAX || engine->rollout_count == ENGINE_ROLLOUTS_MAX;
}

static enum status add(struct engine *engine, const struct config *config, const char *name,
                       struct fault *fault)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && is_crowded(engine, config))
        status = make_room(engine, config, fault);
    // While the journal cannot be written, more are kept, as long as there is a place.
    return engine_rollout_place(engine, name) != NULL ? STATUS_OK : status;
}

enum status engine_rollouts_add(struct engine *engine, const struct config *config, struct fault *fault)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < config->rollout_count && status == STATUS_OK; i++)
        if (engine_rollout_find(engine, config->rollouts[i].spec.name) == NULL)
            status = add(engine, config, config->rollouts[i].spec.name, fault);
    return status;
}

bool engine_rollout_active(const struct engine_rollout *rollout)
{
    return rollout->record != NULL && engine_record_active(rollout->record);
}

const char *engine_arm_name(const struct rollout_spec *spec, int arm)
{
    if (arm == ROLLOUT_ARM_CONTROL)
        return spec->control ? "(control)" : NULL;
    return arm == ROLLOUT_ARM_STABLE ? spec->from : spec->to;
}

void engine_rollout_run_began(struct engine *engine, struct engine_rollout *rollout)
{
    if (rollout->latency_before == NULL)
        rollout->latency_before = heap_alloc(ROLLOUT_ARMS, sizeof *rollout->latency_before);
    const struct rollout_spec *spec = rollout_spec_of(rollout->record->core);
    for (int arm = 0; rollout->latency_before != NULL && arm < ROLLOUT_ARMS; arm++) {
        const char *name = engine_arm_name(spec, arm);
        memset(&rollout->latency_before[arm], 0, sizeof rollout->latency_before[arm]);
        rollout->latency_since[arm] = 0;
        if (name != NULL)
            (void)engine->targets[spec->target]->latency(
                engine->world, spec, name, &rollout->latency_before[arm], &rollout->latency_since[arm]);
    }
    engine_baseline_forget(rollout);
    memset(rollout->rate_ring, 0, sizeof rollout->rate_ring);
    memset(rollout->rate_sum, 0, sizeof rollout->rate_sum);
    rollout->rate_ticks = 0;
}

// ---- what may be put in force ----

void engine_route_take(const struct engine_record *record, struct engine_route *route)
{
    memset(route, 0, sizeof *route);
    if (record == NULL || record->run == 0)
        return;
    struct rollout_view view;
    rollout_view_get(record->core, &view);
    route->run = record->run;
    route->run_seq = record->run_seq;
    route->spec = *rollout_spec_of(record->core);
    route->active = engine_record_active(record);
    route->back = view.state == ROLLOUT_ROLLING_BACK || view.state == ROLLOUT_ROLLED_BACK;
    route->weight = view.weight;
    route->ring_stages = view.ring_stages;
    rollout_yardstick_get(record->core, &route->yardstick);
}

bool engine_run_applies(const struct engine *engine, const struct config *config,
                        const struct engine_record *record)
{
    struct engine_route route;
    engine_route_take(record, &route);
    return route.run != 0 && engine->targets[route.spec.target]->applies(config, record->name, &route);
}

// ---- and the file ----

// But for what is the run's alone.
static bool spec_equal(const struct rollout_spec *of_file, const struct rollout_spec *b)
{
    struct rollout_spec salted = *of_file;
    const struct rollout_spec *a = &salted;
    memcpy(salted.salt, b->salt, sizeof salted.salt);
    salted.errors_id = b->errors_id;
    uint8_t bytes[2][ROLLOUT_SPEC_WIRE_BYTES_MAX];
    struct wire_writer writers[2] = {{.data = bytes[0], .cap = sizeof bytes[0]},
                                     {.data = bytes[1], .cap = sizeof bytes[1]}};
    rollout_spec_encode(a, &writers[0]);
    rollout_spec_encode(b, &writers[1]);
    return writers[0].len == writers[1].len && memcmp(bytes[0], bytes[1], writers[0].len) == 0;
}

bool engine_rollout_file_differs(const struct engine *engine, const struct engine_rollout *rollout)
{
    const struct config_rollout *entry = config_rollout_find(engine->config, rollout->name);
    return entry != NULL && engine_rollout_active(rollout) &&
           !spec_equal(&entry->spec, rollout_spec_of(rollout->record->core));
}
