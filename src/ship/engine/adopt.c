// SPDX-License-Identifier: Apache-2.0
// How a file meets what rollouts have done: runs under way that fit it or not, versions that are stable over
// its word, and what a new file moves, said in the log.
#include <string.h>

#include "base/siphash.h"
#include "ship/engine/engine_private.h"

// ---- runs under way ----

static enum status run_fits(const struct engine *engine, const struct config *config,
                            const struct engine_rollout *rollout, struct fault *fault)
{
    if (!engine_rollout_active(rollout))
        return STATUS_OK;
    struct engine_route route;
    engine_route_take(rollout->record, &route);
    return engine->targets[route.spec.target]->fits(config, rollout->name, &route, fault);
}

enum status engine_config_fits(const struct engine *engine, const struct config *config, struct fault *fault)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        enum status status = run_fits(engine, config, &engine->rollouts[i], fault);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status engine_take_back_misfits(struct engine *engine, struct fault *fault)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        const struct engine_rollout *rollout = &engine->rollouts[i];
        enum status status = run_fits(engine, engine->config, rollout, fault);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_CONFLICT)
            return status;
        log_write(engine->log, LOG_ERROR, "a rollout under way does not fit the file: it is taken back",
                  LOG_FIELDS(LOG_TEXT("rollout", rollout->name), LOG_TEXT("why", fault->text)));
        status = engine_command(engine, rollout->name, ROLLOUT_COMMAND_ABORT, "sluice",
                                "a file that does not fit", fault);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// ---- undo ----

static const struct engine_rollout *under_way(const struct engine *engine, const char *service)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        const struct engine_route *route = &engine->rollouts[i].route;
        if (route->active && !route->back && route->spec.target == ROLLOUT_TARGET_VERSION &&
            strcmp(route->spec.service, service) == 0)
            return &engine->rollouts[i];
    }
    return NULL;
}

enum status engine_undo_fits(const struct engine *engine, const struct engine_rollout *rollout,
                             struct fault *fault)
{
    const struct rollout_spec *run = &rollout->route.spec;
    bool whole = rollout->route.run != 0 && !rollout->route.active && !rollout->route.back &&
                 run->target == ROLLOUT_TARGET_VERSION && rollout->route.weight == ROLLOUT_WEIGHT_FULL;
    if (!whole)
        return STATUS_OK;
    const struct config_service *service = config_service_find(engine->config, run->service);
    if (service == NULL || config_version_find(service, run->from) == NULL)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot undo: the file no longer has version %s of service %s", run->from,
                         run->service);
    const struct engine_rollout *other = under_way(engine, run->service);
    if (other != NULL)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot undo: rollout %s is moving service %s on from %s; abort it first",
                         other->name, run->service, other->route.spec.from);
    const struct engine_stable *stable = engine_stable_find(&engine->stables, run->service);
    const char *version = engine_stable_version(&engine->stables, service);
    if (stable != NULL && strcmp(stable->rollout, rollout->name) == 0 && strcmp(version, run->to) == 0)
        return STATUS_OK;
    return fault_set(
        fault, STATUS_CONFLICT,
        "cannot undo: service %s has gone on since; its stable version is %s, by %s%s", run->service, version,
        stable != NULL && strcmp(stable->version, version) == 0 && stable->rollout[0] != '\0' ? "rollout "
                                                                                              : "the file",
        stable != NULL && strcmp(stable->version, version) == 0 ? stable->rollout : "");
}

// ---- a file comes into force ----

static void tell_stable(struct engine *engine, const struct config_service *service,
                        const struct config_service *before)
{
    const struct engine_stable *stable = engine_stable_find(&engine->stables, service->name);
    const char *now = engine_stable_version(&engine->stables, service);
    const char *was = stable != NULL ? stable->version : now;
    if (before != NULL)
        was = engine_stable_version(&engine->stables, before);
    if (strcmp(was, now) != 0)
        log_write(engine->log, LOG_WARN, "the file moves the traffic of a service to another stable version",
                  LOG_FIELDS(LOG_TEXT("service", service->name), LOG_TEXT("from", was), LOG_TEXT("to", now)));
    else if (strcmp(now, service->stable) != 0)
        log_write(engine->log, LOG_INFO,
                  "a rollout moved this service since the file's `stable` was written: that version stays, "
                  "until the word is edited",
                  LOG_FIELDS(LOG_TEXT("service", service->name), LOG_TEXT("stable", now),
                             LOG_TEXT("file", service->stable), LOG_TEXT("rollout", stable->rollout)));
}

// The edit counts at once; should its entry be lost, the next start or reload sees it again.
static void journal_edit(struct engine *engine, const struct config_service *service)
{
    const struct engine_stable *stable = engine_stable_find(&engine->stables, service->name);
    if (stable == NULL || strcmp(stable->word, service->stable) == 0 ||
        strcmp(stable->word, stable->version) == 0)
        return;
    uint8_t bytes[ROLLOUT_NAME_BYTES + 16];
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    engine_stable_edit(service->stable, &writer);
    struct journal_entry entry = {.time_ms = engine_wall_ms(engine),
                                  .payload = {(const char *)bytes, writer.len}};
    memcpy(entry.subject, service->name, sizeof service->name);
    struct fault fault;
    if (engine_journal_append(engine, JOURNAL_STABLE, service->name, entry.payload, false, NULL, &fault) ==
        STATUS_OK)
        (void)!engine_stable_fold_edit(&engine->stables, &entry);
}

// The share that a rollout left standing below 100 % ends with its entry.
static void tell_shares(struct engine *engine, const struct config *before)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        const struct engine_rollout *rollout = &engine->rollouts[i];
        const struct rollout_spec *run = &rollout->route.spec;
        if (rollout->route.active || rollout->route.weight == 0 ||
            !engine_run_applies(engine, before, rollout->record) ||
            engine_run_applies(engine, engine->config, rollout->record))
            continue;
        log_write(engine->log, LOG_WARN,
                  "the file ends the share of traffic that a completed rollout had left",
                  LOG_FIELDS(LOG_TEXT("rollout", rollout->name), LOG_TEXT("from", run->to),
                             LOG_TEXT("to", run->from)));
    }
}

uint64_t engine_errors_id(const struct config *config, const struct rollout_spec *spec)
{
    static const struct siphash_key key = {0x736c75696365, 0x6572726f7273};
    const struct config_service *service = config_service_find(config, spec->service);
    if (service == NULL)
        return 0;
    char line[CONFIG_ERROR_LINE_BYTES];
    struct text text = text_over(line, sizeof line);
    config_service_errors_write(&service->errors, &text);
    return siphash(key, line, strlen(line)) | 1;
}

// Requests are counted by the definition in force when they are answered, in all arms alike: what was counted
// before is of the other one, and is no evidence any more.
static void tell_errors(struct engine *engine, const struct config_service *service,
                        const struct config_service *before)
{
    char was[CONFIG_ERROR_LINE_BYTES], now[CONFIG_ERROR_LINE_BYTES];
    struct text text = text_over(was, sizeof was);
    config_service_errors_write(&before->errors, &text);
    text = text_over(now, sizeof now);
    config_service_errors_write(&service->errors, &text);
    if (strcmp(was, now) == 0)
        return;
    log_write(
        engine->log, LOG_WARN,
        "what counts as an error of a service has changed: a rollout under way gathers its evidence afresh",
        LOG_FIELDS(LOG_TEXT("service", service->name), LOG_TEXT("from", was), LOG_TEXT("to", now)));
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        if (engine_rollout_active(&engine->rollouts[i]) &&
            strcmp(engine->rollouts[i].route.spec.service, service->name) == 0)
            engine->rollouts[i].redefined_table = engine->host->table_version(engine->world);
}

void engine_config_adopted(struct engine *engine, const struct config *before)
{
    if (before != NULL)
        tell_shares(engine, before);
    for (uint32_t i = 0; i < engine->config->service_count; i++) {
        const struct config_service *service = &engine->config->services[i];
        const struct config_service *was = before != NULL ? config_service_find(before, service->name) : NULL;
        tell_stable(engine, service, was);
        if (was != NULL)
            tell_errors(engine, service, was);
        journal_edit(engine, service);
    }
}
