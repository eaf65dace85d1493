// SPDX-License-Identifier: Apache-2.0
// The addresses about the daemon itself: how it is, what it routes, its metrics.
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "daemon/api/api_private.h"
#include "daemon/config/config.h"
#include "net/io/loop.h"
#include "net/names/names.h"
#include "operate/metrics/exposition.h"
#include "ship/engine/engine.h"
#include "ship/routing/routing.h"

static void write_journal(struct json_out *out, const struct engine_health *h)
{
    json_out_open(out, "journal", '{');
    json_out_bool(out, "failing", h->journal_failing);
    json_out_time(out, "failing_since_ms", h->journal_failing ? h->journal_failing_since_ms : 0);
    json_out_text(out, "problem", h->journal_failing ? h->journal_problem : "");
    json_out_count(out, "failures", h->journal_failures);
    json_out_count(out, "waiting", h->journal_waiting);
    json_out_count(out, "entries", h->journal_entries);
    json_out_count(out, "bytes", h->journal_bytes);
    json_out_close(out, '}');
}

// The stable version, and what it stands over when the file says another.
static void write_stable(struct json_out *out, struct engine *engine, const struct config_service *service)
{
    const struct engine_stables *stables = engine_stables_of(engine);
    const struct engine_stable *over = engine_stable_over(stables, service);
    json_out_text(out, "stable", engine_stable_version(stables, service));
    json_out_text(out, "stable_in_file", service->stable);
    if (over == NULL) {
        json_out_null(out, "stable_by");
        return;
    }
    json_out_open(out, "stable_by", '{');
    json_out_text(out, "rollout", over->rollout);
    json_out_bool(out, "undone", over->undone);
    json_out_time(out, "since_ms", over->since_ms);
    json_out_close(out, '}');
}

static void write_traffic(struct json_out *out, struct engine *engine, const struct config_service *service)
{
    struct routing_traffic t;
    routing_traffic_get(targets_of(engine)->routing, service->name, &t);
    json_out_open(out, NULL, '{');
    json_out_text(out, "name", service->name);
    write_stable(out, engine, service);
    json_out_count(out, "requests", t.requests);
    json_out_real(out, "requests_per_second", t.requests_per_second);
    json_out_real(out, "error_rate", t.error_rate);
    json_out_close(out, '}');
}

// What is known of the names that the file has for endpoints.
static void write_names(struct json_out *out, struct engine *engine)
{
    const struct names_answers *names = routing_names(targets_of(engine)->routing);
    json_out_open(out, "names", '[');
    for (uint32_t i = 0; i < names->count; i++) {
        const struct names_answer *answer = &names->items[i];
        json_out_open(out, NULL, '{');
        json_out_text(out, "name", answer->text);
        json_out_text(out, "state", names_state_name(answer->state));
        json_out_text(out, "problem", answer->problem);
        json_out_open(out, "addresses", '[');
        for (uint32_t j = 0; j < answer->address_count; j++) {
            char address[IO_ADDR_TEXT_BYTES];
            io_addr_format(&answer->addresses[j], address);
            json_out_text(out, NULL, address);
        }
        json_out_close(out, ']');
        json_out_count(out, "left_out", answer->left_out);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

// Files with the endpoints of versions.
static void write_lists(struct json_out *out, struct engine *engine)
{
    const struct routing *routing = targets_of(engine)->routing;
    json_out_open(out, "endpoint_lists", '[');
    for (uint32_t i = 0; i < routing_lists_count(routing); i++) {
        const struct routing_list list = routing_list_get(routing, i);
        json_out_open(out, NULL, '{');
        json_out_text(out, "service", list.service);
        json_out_text(out, "version", list.version);
        json_out_text(out, "file", list.file);
        json_out_text(out, "state", routing_list_state_name(list.state));
        json_out_text(out, "problem", list.problem);
        json_out_count(out, "endpoints", list.endpoint_count);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

static void write_supervisor(struct json_out *out, const struct api_program *program)
{
    struct api_supervisor supervisor = {.present = false};
    if (program != NULL)
        program->supervisor(program->context, &supervisor);
    if (!supervisor.present) {
        json_out_null(out, "supervisor");
        return;
    }
    json_out_open(out, "supervisor", '{');
    json_out_bool(out, "upgraded", supervisor.upgraded);
    json_out_count(out, "deaths", supervisor.deaths);
    json_out_text(out, "why", supervisor.why);
    json_out_count(out, "upgrades_refused", supervisor.refused);
    json_out_text(out, "refusal", supervisor.refusal);
    json_out_close(out, '}');
}

static void get_status(struct api_call *call)
{
    struct json_out *out = &call->out;
    struct engine *engine = call->engine;
    const struct config *config = engine_config(engine);
    struct engine_health h;
    struct routing_state table;
    engine_health_get(engine, &h);
    routing_state_get(targets_of(engine)->routing, &table);
    json_out_open(out, NULL, '{');
    json_out_text(out, "version", SLUICE_VERSION);
    json_out_integer(out, "time_ms", engine_wall_ms(engine));
    json_out_integer(out, "started_ms", h.started_ms);
    json_out_bool(out, "listening", table.listening);
    json_out_bool(out, "draining", h.draining);
    json_out_bool(out, "careful", h.careful);
    json_out_count(out, "process", (uint64_t)getpid());
    write_supervisor(out, call->program);
    write_journal(out, &h);
    json_out_open(out, "table", '{');
    json_out_count(out, "version", table.table_version);
    json_out_count(out, "acknowledged", table.table_acknowledged);
    json_out_count(out, "switch_us", table.table_switch_us);
    json_out_count(out, "switch_us_max", table.table_switch_us_max);
    json_out_close(out, '}');
    json_out_open(out, "ticks", '{');
    json_out_count(out, "count", h.ticks);
    json_out_count(out, "late", h.ticks_late);
    json_out_count(out, "last_us", h.tick_us);
    json_out_count(out, "max_us", h.tick_us_max);
    json_out_close(out, '}');
    json_out_open(out, "services", '[');
    for (uint32_t i = 0; i < config->service_count; i++)
        write_traffic(out, engine, &config->services[i]);
    json_out_close(out, ']');
    write_names(out, engine);
    write_lists(out, engine);
    json_out_open(out, "rollouts", '[');
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++)
        api_write_rollout(out, NULL, engine, i);
    json_out_close(out, ']');
    json_out_close(out, '}');
}

// ---- the routing table ----

static void write_endpoints(struct json_out *out, const char *member, const struct config_endpoint *endpoints,
                            uint32_t count)
{
    json_out_open(out, member, '[');
    for (uint32_t i = 0; i < count; i++)
        json_out_text(out, NULL, endpoints[i].address.text);
    json_out_close(out, ']');
}

// The rollout of this service that the file has; false when there is none.
static bool rollout_of(struct engine *engine, const struct config_service *service, struct engine_view *r)
{
    for (uint32_t i = engine_rollout_count(engine); i > 0; i--) {
        engine_view_get(engine, i - 1, r);
        if (r->in_file && strcmp(r->spec->service, service->name) == 0)
            return true;
    }
    return false;
}

enum { HEALTH_SHOWN_MAX = 512 };

// Of a version whose endpoints are protected: who is in use, and why the others are not.
static void write_health(struct json_out *out, struct engine *engine, const char *service,
                         const char *version)
{
    const struct routing *routing = targets_of(engine)->routing;
    struct routing_endpoint *shown = heap_alloc(HEALTH_SHOWN_MAX, sizeof *shown);
    uint32_t count =
        shown == NULL ? 0 : routing_endpoints(routing, service, version, shown, HEALTH_SHOWN_MAX);
    if (count > 0) {
        json_out_text(out, "breaker", routing_breaker(routing, service, version));
        json_out_open(out, "health", '[');
    }
    for (uint32_t i = 0; i < count; i++) {
        json_out_open(out, NULL, '{');
        json_out_text(out, "address", shown[i].address);
        json_out_bool(out, "in_use", shown[i].in_use);
        json_out_bool(out, "healthy", shown[i].healthy);
        json_out_bool(out, "ejected", shown[i].ejected);
        json_out_text(out, "problem", shown[i].why != NULL ? shown[i].why : "");
        json_out_close(out, '}');
    }
    if (count > 0)
        json_out_close(out, ']');
    heap_free(shown);
}

static void write_service(struct json_out *out, struct engine *engine, const struct config_service *s)
{
    struct engine_view r;
    const char *stable = engine_stable_version(engine_stables_of(engine), s);
    bool of_service = rollout_of(engine, s, &r);
    bool moving = of_service && strcmp(r.spec->to, stable) != 0;
    json_out_open(out, NULL, '{');
    json_out_text(out, "name", s->name);
    write_stable(out, engine, s);
    json_out_text(out, "canary", moving ? r.spec->to : NULL);
    json_out_real(out, "weight", moving ? (double)r.view.weight / ROLLOUT_WEIGHT_FULL : 0);
    json_out_open(out, "versions", '[');
    for (uint32_t i = 0; i < s->version_count; i++) {
        json_out_open(out, NULL, '{');
        json_out_text(out, "name", s->versions[i].name);
        uint32_t listed;
        const struct config_endpoint *endpoints =
            routing_listed(targets_of(engine)->routing, s, &s->versions[i], &listed);
        write_endpoints(out, "endpoints", endpoints, listed);
        write_health(out, engine, s->name, s->versions[i].name);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
    json_out_open(out, "routes", '[');
    for (uint32_t i = 0; i < s->route_count; i++) {
        json_out_open(out, NULL, '{');
        json_out_text(out, "host", s->routes[i].host);
        json_out_text(out, "path", s->routes[i].path.text);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
    write_endpoints(out, "control_endpoints", s->control_endpoints, s->control_endpoint_count);
    if (of_service)
        json_out_text(out, "rollout", r.name);
    json_out_close(out, '}');
}

static void get_table(struct api_call *call)
{
    const struct config *config = engine_config(call->engine);
    struct routing_state table;
    routing_state_get(targets_of(call->engine)->routing, &table);
    json_out_open(&call->out, NULL, '{');
    json_out_count(&call->out, "version", table.table_version);
    json_out_count(&call->out, "acknowledged", table.table_acknowledged);
    json_out_open(&call->out, "services", '[');
    for (uint32_t i = 0; i < config->service_count; i++)
        write_service(&call->out, call->engine, &config->services[i]);
    json_out_close(&call->out, ']');
    write_names(&call->out, call->engine);
    json_out_close(&call->out, '}');
}

// ---- for machines ----

static void get_healthz(struct api_call *call)
{
    json_out_raw(&call->out, NULL, SLICE("{\"alive\":true}"));
}

static void get_readyz(struct api_call *call)
{
    struct engine_health h;
    struct routing_state table;
    engine_health_get(call->engine, &h);
    routing_state_get(targets_of(call->engine)->routing, &table);
    bool ready = table.listening && !h.draining && !h.journal_failing;
    call->status = ready ? 200 : 503;
    json_out_open(&call->out, NULL, '{');
    json_out_bool(&call->out, "ready", ready);
    json_out_open(&call->out, "reasons", '[');
    if (!table.listening)
        json_out_text(&call->out, NULL, "the listeners are not open yet");
    if (h.draining)
        json_out_text(&call->out, NULL, "draining: no new connections are taken");
    if (h.journal_failing) {
        char why[sizeof h.journal_problem + 128];
        struct text text = text_over(why, sizeof why);
        text_addf(&text,
                  "the journal cannot be written, so no decision is taken; traffic goes on as it is: %s",
                  h.journal_problem);
        json_out_string(&call->out, NULL, text_slice(&text));
    }
    json_out_close(&call->out, ']');
    json_out_close(&call->out, '}');
}

static void get_metrics(struct api_call *call)
{
    struct slice text;
    char *storage = heap_alloc(ENGINE_METRICS_BYTES_MAX, 1);
    if (storage == NULL ||
        engine_metrics_write(call->engine, storage, ENGINE_METRICS_BYTES_MAX, &text) != STATUS_OK) {
        api_error(call, 500, "full", "the metrics did not fit in their storage");
    } else {
        call->content_type = METRICS_CONTENT_TYPE;
        json_out_bytes(&call->out, text);
    }
    heap_free(storage);
}

// ---- the file, once more ----

static void reload_into(struct api_call *call, char *storage)
{
    struct text told = text_over(storage, API_RELOAD_BYTES_MAX);
    if (call->program->reload(call->program->context, &told) != STATUS_OK) {
        api_error(call, 409, "conflict", storage);
        return;
    }
    json_out_open(&call->out, NULL, '{');
    json_out_bool(&call->out, "in_force", true);
    json_out_text(&call->out, "told", storage);
    json_out_close(&call->out, '}');
}

static void post_reload(struct api_call *call)
{
    if (call->program == NULL) {
        api_error(call, 409, "conflict", "this daemon was not started from a file");
        return;
    }
    char *storage = heap_alloc(API_RELOAD_BYTES_MAX, 1);
    if (storage != NULL)
        reload_into(call, storage);
    else
        api_refuse(call, STATUS_NO_MEMORY, "no memory is left to read the file");
    heap_free(storage);
}

static void post_upgrade(struct api_call *call)
{
    if (call->program == NULL || call->program->upgrade(call->program->context) != STATUS_OK) {
        api_error(call, 409, "conflict", "no supervisor can start another binary: serve with --supervise");
        return;
    }
    json_out_open(&call->out, NULL, '{');
    json_out_count(&call->out, "process", (uint64_t)getpid());
    json_out_close(&call->out, '}');
}

static const struct api_route ROUTES[] = {
    {"GET", "/v1/status", API_READ, get_status,
     "the daemon, its journal, its table, all services, names and lists of endpoints, and rollouts"},
    {"GET", "/v1/table", API_READ, get_table,
     "the routing table in force; `names` has the addresses of endpoints by name"},
    {"POST", "/v1/reload", API_OPERATE, post_reload,
     "reads the file again: it is in force, and `told` has what waits for a restart; or 409 with the reasons, and nothing "
     "changed"},
    {"POST", "/v1/upgrade", API_OPERATE, post_upgrade,
     "asks the supervisor for the binary that is installed now; `process` is the one that serves yet. How it went: "
     "`process` and `supervisor` of the status"},
    {"GET", "/healthz", API_READ, get_healthz, "200 as long as the process runs"},
    {"GET", "/readyz", API_READ, get_readyz,
     "200, or 503 with reasons: listeners not open, draining, journal not writable"},
    {"GET", "/metrics", API_READ, get_metrics, "Prometheus text"},
};

const struct api_part api_daemon_part = {
    .body_bytes_max = API_BODY_BYTES_MAX, .routes = ROUTES, .route_count = ARRAY_LEN(ROUTES)};
