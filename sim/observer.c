// SPDX-License-Identifier: Apache-2.0
// The observer: what must hold whatever happens. It reads the table in force, the counters, the journal's own
// entries and what origins and clients saw, and compares them with each other.
#include <inttypes.h>
#include <math.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "net/http/http1.h"
#include "net/proxy/proxy_private.h"
#include "world.h"

enum {
    // A new table is taken up by a worker's next turn, at once in virtual time; what was routed before stays.
    SWITCH_US = 2 * WORLD_SLICE_US,
    // A request routed before a switch reaches its origin at the latest after its attempts' timeouts.
    STRAGGLE_US = 8000000,
    STRAGGLE_CLEAN_US = 200000,
    PASS_SPANS = 4096,
};

// ---- what origins see ----

static uint64_t parse_id(struct slice text)
{
    uint64_t id = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        id = id << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return id == 0 ? 1 : id;
}

static struct world_sighting *sighting_of(struct world *world, uint64_t id)
{
    uint64_t at = id & (WORLD_SIGHTINGS - 1);
    while (world->sightings[at].id != 0 && world->sightings[at].id != id)
        at = (at + 1) & (WORLD_SIGHTINGS - 1);
    struct world_sighting *found = &world->sightings[at];
    if (found->id == 0)
        world->sighting_count++;
    CHECK(world->sighting_count < WORLD_SIGHTINGS / 4 * 3);
    found->id = id;
    return found;
}

static uint32_t service_of(const struct world *world, struct slice path)
{
    for (uint32_t i = 1; i < world->plan.services; i++)
        if (slice_starts_with((struct slice){path.data + 1, path.len - 1}, slice_of(plan_service_name(i))))
            return i;
    return 0;
}

// A session that came to the canary stays there as long as its weight does not fall, and while the weight
// stands none comes.
static void observe_session(struct world *world, const struct http_request *request, uint32_t bit)
{
    const struct http_field *cookie = http_fields_find_name(&request->fields, SLICE("cookie"));
    uint32_t session = 0;
    if (cookie == NULL || !slice_starts_with(cookie->value, SLICE("sid=user")))
        return;
    for (size_t i = 8; i < cookie->value.len; i++)
        session = session * 10 + (uint32_t)(cookie->value.data[i] - '0');
    struct world_service *service = &world->services[service_of(world, request->path)];
    uint64_t *seen_us = &service->canary_seen_us[session % PLAN_SESSIONS];
    uint64_t now_us = world_now_us(world);
    bool canary = bit == 1u << PLAN_CANARY;
    if (canary && *seen_us == 0 && service->weight != 0)
        *seen_us = now_us;
    uint64_t straggle_us = plan_is_clean(&world->plan) ? STRAGGLE_CLEAN_US : STRAGGLE_US;
    uint64_t *stable_under_us = &service->stable_under_us[session % PLAN_SESSIONS];
    bool settled = now_us - service->weight_since_us > straggle_us;
    if (canary && settled && service->weight != 0 && *stable_under_us == service->weight_since_us + 1)
        world_fail(world, "session %u moved to the canary while the weight stood at %u", session,
                   service->weight);
    if (!canary && settled && service->weight != 0)
        *stable_under_us = service->weight_since_us + 1;
    if (!canary && *seen_us != 0 && now_us - *seen_us > straggle_us)
        world_fail(world, "session %u came to the canary %.1f s ago, and back to the old version", session,
                   (double)(now_us - *seen_us) / 1e6);
}

void world_seen(void *context, const struct http_request *request)
{
    struct world_origin *host = context;
    struct world *world = host->world;
    const struct http_field *field = http_fields_find_name(&request->fields, SLICE("x-request-id"));
    if (field == NULL || field->value.len != 16) {
        world_fail(world, "a request reached an origin without its X-Request-Id");
        return;
    }
    struct world_sighting *seen = sighting_of(world, parse_id(field->value));
    seen->origins |= (uint8_t)host->bit;
    seen->times++;
    if ((seen->origins & (seen->origins - 1)) != 0)
        world_fail(world, "request " SLICE_FMT " reached two versions", SLICE_ARG(field->value));
    if (request->method_id == HTTP_METHOD_POST && seen->times > 1)
        world_fail(world, "POST " SLICE_FMT " reached an origin twice", SLICE_ARG(field->value));
    if (world->plan.keyed)
        observe_session(world, request, host->bit);
}

// ---- the table in force ----

// Of all traffic, by the table: once a rollout is complete its version is the stable one.
static uint32_t new_share(const struct proxy_service *service)
{
    bool promoted = strcmp(service->arms[ROLLOUT_ARM_STABLE]->name, "v2") == 0;
    return promoted ? ROLLOUT_WEIGHT_FULL : service->weight;
}

bool world_table(const struct world *world, uint32_t weights[PLAN_SERVICES_MAX], uint64_t *version)
{
    const struct proxy_table *table = world->daemon.proxy->newest;
    if (table == NULL)
        return false;
    CHECK(table->service_count == world->plan.services);
    for (uint32_t i = 0; i < table->service_count; i++)
        weights[i] = new_share(&table->services[i]);
    *version = table->version;
    return true;
}

static uint32_t service_of_rollout(const char *rollout)
{
    return strcmp(rollout, plan_rollout_name(0)) == 0 ? 0 : 1;
}

// The weights of the newest decisions in the journal.
static bool journal_weights(struct world *world, uint32_t weights[PLAN_SERVICES_MAX])
{
    struct fault problem;
    struct journal_cursor *cursor;
    if (journal_cursor_open(world->daemon.journal, &cursor, &problem) != STATUS_OK)
        return false;
    struct journal_entry entry;
    enum status status;
    while ((status = journal_cursor_next(cursor, &entry, &problem)) == STATUS_OK) {
        static struct rollout_effects effects;
        struct wire_reader reader = {.data = (const uint8_t *)entry.payload.data, .len = entry.payload.len};
        if (entry.kind == JOURNAL_DECISION && rollout_effects_decode(&reader, &effects) == STATUS_OK)
            weights[service_of_rollout(entry.subject)] = effects.weight;
    }
    journal_cursor_close(cursor);
    return status == STATUS_NOT_FOUND;
}

static void note_weight(struct world *world, uint32_t index, uint32_t weight)
{
    struct world_service *service = &world->services[index];
    if (weight == service->weight)
        return;
    if (weight < service->weight)
        memset(service->canary_seen_us, 0, sizeof service->canary_seen_us);
    service->weight_since_us = world_now_us(world);
    service->weight = weight;
}

// A weight shows in a table only after the journal has it; one that is lower may be ahead of a journal that
// fails.
static void observe_table(struct world *world)
{
    struct world_daemon *daemon = &world->daemon;
    uint32_t weights[PLAN_SERVICES_MAX] = {0}, recorded[PLAN_SERVICES_MAX] = {0};
    uint64_t version;
    if (!world_table(world, weights, &version) || version == daemon->table_version)
        return;
    daemon->table_version = version;
    for (uint32_t i = 0; i < world->plan.services; i++)
        note_weight(world, i, weights[i]);
    if (fault_vfs_counts_get().off)
        return; // nothing can be asked of a disk without power
    if (!journal_weights(world, recorded))
        world_fail(world, "the journal cannot be read while the daemon writes it");
    struct engine_health health;
    engine_health_get(daemon->engine, &health);
    for (uint32_t i = 0; i < world->plan.services; i++)
        if (weights[i] != recorded[i] && !(health.journal_waiting > 0 && weights[i] < recorded[i]))
            world_fail(world, "the table's weight of %s is %u, the journal's newest decision says %u",
                       plan_rollout_name(i), weights[i], recorded[i]);
}

void world_decided(struct engine_watcher *watcher, const char *name, const struct engine_decision *decision)
{
    struct world *world = CONTAINER_OF(watcher, struct world, daemon.watcher);
    uint32_t weights[PLAN_SERVICES_MAX] = {0};
    uint64_t version = 0;
    uint32_t weight_wanted = decision->effects.weight;
    world_count_up(world, WORLD_DECISIONS, 1);
    enum rollout_state to = decision->effects.to;
    bool back = to == ROLLOUT_ROLLING_BACK || to == ROLLOUT_ROLLED_BACK || to == ROLLOUT_PAUSED;
    if (decision->seq == 0 ? !back : decision->seq > journal_count(world->daemon.journal))
        world_fail(world, "decision %" PRIu64 " took effect and the journal ends at %" PRIu64, decision->seq,
                   journal_count(world->daemon.journal));
    if (!world_table(world, weights, &version) || weights[service_of_rollout(name)] != weight_wanted)
        world_fail(world, "%s: decided weight %u, and the table in force has %u", name, weight_wanted,
                   weights[service_of_rollout(name)]);
    if (decision->seq > 0)
        world->daemon.acted_seq = decision->seq;
    note_weight(world, service_of_rollout(name), weights[service_of_rollout(name)]);
    if (decision->effects.from != decision->effects.to) {
        world_count_up(world, WORLD_COMPLETED, decision->effects.to == ROLLOUT_COMPLETED);
        world_count_up(world, WORLD_ROLLED_BACK, decision->effects.to == ROLLOUT_ROLLED_BACK);
    }
}

static uint64_t version_requests(const struct world *world, uint32_t service, const char *version)
{
    uint64_t counts[PROXY_VERSION_COUNTERS];
    uint16_t slot = routing_version_slot(world->daemon.targets->routing, plan_service_name(service), version);
    CHECK(slot != PROXY_SLOT_NONE);
    proxy_version_counts(world->daemon.proxy, slot, counts);
    return counts[PROXY_VERSION_REQUESTS];
}

// No request goes where the weight in force sends nobody.
static void observe_share(struct world *world, uint32_t index)
{
    struct world_service *service = &world->services[index];
    uint64_t since_us = world_now_us(world) - service->weight_since_us;
    uint64_t requests[2] = {version_requests(world, index, "v1"), version_requests(world, index, "v2")};
    if (since_us > SWITCH_US && service->weight == 0 && requests[1] != service->requests[1])
        world_fail(world,
                   "%" PRIu64 " requests went to the new version %" PRIu64 " ms after its weight was 0",
                   requests[1] - service->requests[1], since_us / 1000);
    if (since_us > SWITCH_US && service->weight == ROLLOUT_WEIGHT_FULL && requests[0] != service->requests[0])
        world_fail(world, "requests went to the old version at weight 100 %%");
    service->requests[0] = requests[0];
    service->requests[1] = requests[1];
}

void world_observe_start(struct world *world)
{
    world->daemon.table_version = 0;
    for (uint32_t i = 0; i < world->plan.services; i++) {
        world->services[i].weight_since_us = world_now_us(world);
        world->services[i].requests[0] = world->services[i].requests[1] = 0;
    }
}

static void observe_workers(struct world *world)
{
    for (uint32_t i = 0; i < world->plan.workers; i++) {
        uint64_t c[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(world->daemon.proxy, i, c);
        if (c[PROXY_WORKER_RECEIVED] < c[PROXY_WORKER_ANSWERED] + c[PROXY_WORKER_ABORTED])
            world_fail(world, "worker %u answered more than it received", i);
    }
}

void world_observe(struct world *world)
{
    if (!world->daemon.up || world->stopping)
        return;
    observe_table(world);
    for (uint32_t i = 0; i < world->plan.services; i++)
        observe_share(world, i);
    observe_workers(world);
}

// ---- replay before a start ----

void world_replay(struct world *world, struct journal *journal, struct world_expected *expected)
{
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    CHECK(replay != NULL);
    struct fault problem;
    enum status status = engine_replay_run(journal, replay, &problem);
    if (status != STATUS_OK && !fault_vfs_counts_get().off) // without power the start fails soon
        world_fail(world, "the journal does not replay (%s): %s", status_name(status), problem.text);
    else if (status == STATUS_OK && replay->differs)
        world_fail(world, "entry %" PRIu64 " derives differently: %s; %s", replay->difference_seq,
                   replay->recorded, replay->derived);
    if (world->daemon.acted_seq > journal_count(journal))
        world_fail(world, "decision %" PRIu64 " took effect and is lost: the journal ends at %" PRIu64,
                   world->daemon.acted_seq, journal_count(journal));
    for (uint32_t i = 0; i < world->plan.services && status == STATUS_OK; i++) {
        const struct engine_record *record = engine_replay_find(replay, plan_rollout_name(i));
        struct rollout_view view;
        if (record == NULL || record->run == 0)
            continue;
        rollout_view_get(record->core, &view);
        expected->weights[i] = view.weight;
    }
    world_count_up(world, WORLD_OWED_AT_RESTART, replay->owed_count);
    engine_replay_deinit(replay);
    heap_free(replay);
}

// ---- clients ----

static uint64_t version_errors(const struct world *world, uint32_t service, const char *version)
{
    uint64_t counts[PROXY_VERSION_COUNTERS];
    uint16_t slot = routing_version_slot(world->daemon.targets->routing, plan_service_name(service), version);
    proxy_version_counts(world->daemon.proxy, slot, counts);
    return counts[PROXY_VERSION_ERRORS] - counts[PROXY_VERSION_ERROR_5XX];
}

// Where nothing but the new version can fail, clients see its failures and no others.
static void check_clean_load(struct world *world, const struct load_totals *t)
{
    uint64_t made = 0;
    for (int i = 0; i < PLAN_ORIGINS; i++)
        made += load_origin_counts(world->origins[i].origin)->errors;
    for (uint32_t i = 0; i < world->plan.services; i++)
        made += version_errors(world, i, "v2");
    uint64_t cut = world->plan.nature == PLAN_CUTS ? 0 : t->failures[LOAD_FAILED_RESET];
    uint64_t other = t->failures[LOAD_FAILED_CONNECT] + t->failures[LOAD_FAILED_TIMEOUT] +
                     t->failures[LOAD_FAILED_SHED] + cut;
    if (other != 0 || t->retried != 0)
        world_fail(world, "clients: %" PRIu64 " failures and %" PRIu64 " second tries that nothing explains",
                   other, t->retried);
    if (t->failures[LOAD_FAILED_STATUS] > made)
        world_fail(world, "clients got %" PRIu64 " errors, and only %" PRIu64 " were made",
                   t->failures[LOAD_FAILED_STATUS], made);
}

void world_check_load(struct world *world, const struct load_totals *t)
{
    uint64_t sum = t->answers + t->failed - t->failures[LOAD_FAILED_STATUS] + t->pending;
    if (t->scheduled != sum)
        world_fail(world, "clients: %" PRIu64 " scheduled, %" PRIu64 " accounted for", t->scheduled, sum);
    if (t->mismatched != 0)
        world_fail(world, "%" PRIu64 " clients got another request's answer", t->mismatched);
    if (t->failures[LOAD_FAILED_FRAMING] != 0)
        world_fail(world, "%" PRIu64 " answers were no HTTP", t->failures[LOAD_FAILED_FRAMING]);
    if (plan_is_clean(&world->plan) && world->daemon.up)
        check_clean_load(world, t);
    for (uint32_t i = 0; i < t->version_count; i++) {
        const char *name = t->versions[i].name;
        if (name[0] != '\0' && strcmp(name, "v1") != 0 && strcmp(name, "v2") != 0)
            world_fail(world, "an answer of version \"%s\"", name);
    }
}

// ---- accounts ----

static void check_version(struct world *world, uint32_t service, const char *version)
{
    uint64_t c[PROXY_VERSION_COUNTERS];
    uint16_t slot = routing_version_slot(world->daemon.targets->routing, plan_service_name(service), version);
    if (slot == PROXY_SLOT_NONE)
        return;
    proxy_version_counts(world->daemon.proxy, slot, c);
    if (c[PROXY_VERSION_REQUESTS] != c[PROXY_VERSION_COMPLETED])
        world_fail(world, "%s: %" PRIu64 " requests, %" PRIu64 " completed, at rest", version,
                   c[PROXY_VERSION_REQUESTS], c[PROXY_VERSION_COMPLETED]);
    uint64_t errors = 0;
    for (int k = PROXY_VERSION_ERROR_5XX; k <= PROXY_VERSION_ERROR_OPEN; k++)
        errors += c[k];
    if (errors != c[PROXY_VERSION_ERRORS])
        world_fail(world, "%s: %" PRIu64 " errors, the kinds sum to %" PRIu64, version,
                   c[PROXY_VERSION_ERRORS], errors);
    if (c[PROXY_VERSION_GOOD] > c[PROXY_VERSION_COMPLETED])
        world_fail(world, "%s: more good than completed", version);
    bool faultless = plan_is_clean(&world->plan) && strcmp(version, "v2") != 0;
    if (faultless && errors != c[PROXY_VERSION_ERROR_5XX])
        world_fail(world, "%s: %" PRIu64 " errors that the origin did not make", version,
                   errors - c[PROXY_VERSION_ERROR_5XX]);
}

void world_check_accounts(struct world *world)
{
    for (uint32_t i = 0; i < world->plan.services; i++) {
        check_version(world, i, "v1");
        check_version(world, i, "v2");
        check_version(world, i, "(control)");
    }
    for (uint32_t i = 0; i < world->plan.workers; i++) {
        uint64_t c[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(world->daemon.proxy, i, c);
        if (c[PROXY_WORKER_RECEIVED] != c[PROXY_WORKER_ANSWERED] + c[PROXY_WORKER_ABORTED])
            world_fail(world, "worker %u: received %" PRIu64 ", answered %" PRIu64 ", aborted %" PRIu64, i,
                       c[PROXY_WORKER_RECEIVED], c[PROXY_WORKER_ANSWERED], c[PROXY_WORKER_ABORTED]);
        if (c[PROXY_WORKER_REJECTED] != 0 || c[PROXY_WORKER_UNROUTED] != 0)
            world_fail(world, "worker %u refused a good request", i);
    }
}

void world_check_closed(struct world *world)
{
    for (uint32_t i = 0; i < world->plan.workers; i++) {
        uint64_t c[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(world->daemon.proxy, i, c);
        if (c[PROXY_WORKER_ACCEPTED] != c[PROXY_WORKER_REFUSED] + c[PROXY_WORKER_CLIENTS_CLOSED])
            world_fail(world, "worker %u: clients accepted and closed differ after the end", i);
        if (c[PROXY_WORKER_UPSTREAM_OPENED] != c[PROXY_WORKER_UPSTREAM_CLOSED])
            world_fail(world, "worker %u: %" PRIu64 " upstream connections opened, %" PRIu64 " closed", i,
                       c[PROXY_WORKER_UPSTREAM_OPENED], c[PROXY_WORKER_UPSTREAM_CLOSED]);
    }
}

// ---- the journal as a whole ----

// One span as the journal tells it. Of a later tick the table is never older, so few share a place.
struct pass_span {
    uint64_t tick, table;
    struct rollout_counts arms[ROLLOUT_ARMS];
    bool whole; // its beginning was told
};

struct journal_pass {
    uint32_t run, weight, stage;
    enum rollout_state state;
    double wanted, variance; // of the canary's share, over all spans
    uint64_t routed, canary;
    struct pass_span spans[PASS_SPANS];
};

// No request of a span is completed twice, or in a span other than its own.
static void pass_span(struct world *world, const struct journal_entry *entry,
                      const struct rollout_span_delta *delta, struct journal_pass *pass)
{
    struct pass_span *span = &pass->spans[(delta->tick * 7 + delta->table) % PASS_SPANS];
    if (span->tick != delta->tick || span->table != delta->table) {
        *span = (struct pass_span){.tick = delta->tick, .table = delta->table};
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
            span->whole |= delta->arms[arm].routed > 0;
    }
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        struct rollout_counts *sum = &span->arms[arm];
        sum->routed += delta->arms[arm].routed;
        sum->completed += delta->arms[arm].completed;
        sum->good += delta->arms[arm].good;
        if (span->whole && (sum->completed > sum->routed || sum->good > sum->completed))
            world_fail(world, "input %" PRIu64 ": of %u requests of a span %u are completed, %u good",
                       entry->seq, sum->routed, sum->completed, sum->good);
    }
}

static void pass_decision(struct world *world, const struct journal_entry *entry, struct journal_pass *pass)
{
    static struct rollout_effects effects;
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    if (rollout_effects_decode(&reader, &effects) != STATUS_OK) {
        world_fail(world, "decision %" PRIu64 " cannot be read", entry->seq);
        return;
    }
    bool fresh = entry->run != pass->run || pass->state == ROLLOUT_ROLLED_BACK;
    if (effects.from != pass->state && !fresh)
        world_fail(world, "decision %" PRIu64 " leaves %s, and the one before it led to %s", entry->seq,
                   rollout_state_name(effects.from), rollout_state_name(pass->state));
    if (!fresh && effects.weight != 0 && (effects.weight < pass->weight || effects.stage < pass->stage))
        world_fail(world, "decision %" PRIu64 " goes back from weight %u to %u", entry->seq, pass->weight,
                   effects.weight);
    if (!fresh && pass->weight == 0 && pass->stage > 0 && effects.weight != 0)
        world_fail(world, "decision %" PRIu64 " goes forward again after a rollback", entry->seq);
    pass->run = entry->run;
    pass->state = effects.to;
    pass->stage = effects.stage;
    pass->weight = effects.weight;
}

static void pass_input(struct world *world, const struct journal_entry *entry, struct journal_pass *pass)
{
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    struct rollout_input input;
    if (rollout_input_decode(&reader, world->room, &input) != STATUS_OK) {
        world_fail(world, "input %" PRIu64 " cannot be read", entry->seq);
        return;
    }
    for (uint32_t i = 0; input.kind == ROLLOUT_INPUT_TICK && i < input.tick.span_count; i++) {
        const struct rollout_span_delta *span = &input.tick.spans[i];
        pass_span(world, entry, span, pass);
        uint64_t routed = 0;
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
            routed += span->arms[arm].routed;
        double share = (double)span->weight / ROLLOUT_WEIGHT_FULL;
        pass->wanted += (double)routed * share;
        pass->variance += (double)routed * share * (1.0 - share);
        pass->routed += routed;
        pass->canary += span->arms[ROLLOUT_ARM_CANARY].routed;
    }
}

static void pass_journal(struct world *world, struct journal *journal,
                         struct journal_pass passes[PLAN_SERVICES_MAX])
{
    struct fault problem;
    struct journal_cursor *cursor;
    CHECK(journal_cursor_open(journal, &cursor, &problem) == STATUS_OK);
    struct journal_entry entry;
    enum status status;
    while ((status = journal_cursor_next(cursor, &entry, &problem)) == STATUS_OK) {
        uint64_t *hash = &world->result->journal_hash;
        const struct siphash_key key = {*hash, (uint64_t)entry.time_ms};
        *hash = siphash(key, entry.payload.data, entry.payload.len) + entry.seq + (uint64_t)entry.kind;
        struct journal_pass *pass = &passes[service_of_rollout(entry.subject)];
        if (entry.kind == JOURNAL_PROCESS) // ticks and tables begin anew
            for (int i = 0; i < PLAN_SERVICES_MAX; i++)
                memset(passes[i].spans, 0, sizeof passes[i].spans);
        if (entry.kind == JOURNAL_DECISION)
            pass_decision(world, &entry, pass);
        else if (entry.kind == JOURNAL_INPUT)
            pass_input(world, &entry, pass);
    }
    if (status != STATUS_NOT_FOUND)
        world_fail(world, "the journal's chain breaks (%s): %s", status_name(status), problem.text);
    journal_cursor_close(cursor);
}

static void compare_replay(struct world *world, struct engine_replay *replay, uint32_t service)
{
    struct rollout_view live, derived;
    uint32_t run;
    world_view(world, service, &live, &run);
    const struct engine_record *record = engine_replay_find(replay, plan_rollout_name(service));
    if (record == NULL || run == 0) {
        if ((record != NULL && record->run > 0) != (run > 0))
            world_fail(world, "the journal and the daemon differ in whether the rollout ever ran");
        return;
    }
    rollout_view_get(record->core, &derived);
    if (record->run != run || derived.state != live.state || derived.stage != live.stage ||
        derived.weight != live.weight || derived.log_e_bad != live.log_e_bad ||
        derived.routed[ROLLOUT_ARM_CANARY] != live.routed[ROLLOUT_ARM_CANARY])
        world_fail(world, "replayed: run %u, %s, weight %u; live: run %u, %s, weight %u", record->run,
                   rollout_state_name(derived.state), derived.weight, run, rollout_state_name(live.state),
                   live.weight);
    if (replay->owed_count != 0)
        world_fail(world, "a decision is not in the journal at rest");
}

// Where one process gathered everything and the canary never outlived its rollout, the journal's evidence
// holds every request that the proxy sent to it.
static void check_evidence(struct world *world, const struct journal_pass *pass, uint32_t service)
{
    bool whole =
        world->daemon.starts == 1 && !world->plan.disk_faults && world->result->counts[WORLD_COMPLETED] == 0;
    uint64_t requests = version_requests(world, service, "v2");
    if (whole && pass->canary != requests)
        world_fail(world, "%s: the canary got %" PRIu64 " requests, and the journal's evidence has %" PRIu64,
                   plan_rollout_name(service), requests, pass->canary);
    world_count_up(world, WORLD_EVIDENCE_WHOLE, whole && requests > 0);
}

static void check_split(struct world *world, const struct journal_pass *pass)
{
    // Six sigmas: once in five hundred million honest seeds.
    if (!world->plan.keyed && fabs((double)pass->canary - pass->wanted) > 6.0 * sqrt(pass->variance) + 3.0)
        world_fail(world, "the canary got %" PRIu64 " of %" PRIu64 " requests, %.1f were its share",
                   pass->canary, pass->routed, pass->wanted);
}

void world_check_journal(struct world *world)
{
    struct fault problem;
    struct journal *journal;
    enum status status = journal_open(world->path, JOURNAL_READ, &journal, &problem);
    if (status != STATUS_OK) {
        world_fail(world, "the journal does not open for reading: %s", problem.text);
        return;
    }
    static struct journal_pass passes[PLAN_SERVICES_MAX];
    memset(passes, 0, sizeof passes);
    pass_journal(world, journal, passes);
    for (uint32_t i = 0; i < world->plan.services; i++) {
        check_split(world, &passes[i]);
        check_evidence(world, &passes[i], i);
    }
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    CHECK(replay != NULL);
    status = engine_replay_run(journal, replay, &problem);
    if (status != STATUS_OK || replay->differs)
        world_fail(world, "the journal does not replay: %s %s %s", status != STATUS_OK ? problem.text : "",
                   replay->recorded, replay->derived);
    for (uint32_t i = 0; i < world->plan.services && !world->result->failed; i++)
        compare_replay(world, replay, i);
    engine_replay_deinit(replay);
    heap_free(replay);
    journal_close(journal);
}
