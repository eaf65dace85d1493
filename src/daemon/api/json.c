// SPDX-License-Identifier: Apache-2.0
// What control knows, as JSON. Names and units are the contract of docs/guide/api.md: shares are fractions,
// times are milliseconds since 1970, latencies are milliseconds.
#include <math.h>
#include <stdio.h>

#include "daemon/api/api_private.h"

static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *share_json(uint32_t weight)
{
    return json_real((double)weight / ROLLOUT_WEIGHT_FULL);
}

static json_t *count_json(uint64_t count)
{
    return json_integer((json_int_t)(count > INT64_MAX ? INT64_MAX : count));
}

static json_t *time_or_null(int64_t time_ms)
{
    return time_ms != 0 ? json_integer((json_int_t)time_ms) : json_null();
}

static double ratio(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

static json_t *verdict_json(const struct rollout_verdict *v)
{
    if (v->outcome == ROLLOUT_OUTCOME_NONE)
        return json_null();
    return json_pack(
        "{s:s, s:s, s:I, s:o, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "outcome",
        rollout_outcome_name(v->outcome), "text", v->text, "time_ms", (json_int_t)v->time_ms,
        "evidence_since_ms", time_or_null(v->evidence_since_ms), "stage", (int)v->stage + 1, "check",
        v->check, "log_e", real_or_null(v->log_e), "log_e_needed", real_or_null(v->log_e_needed), "ratio_low",
        v->ratio_low > 0 ? real_or_null(v->ratio_low) : json_null(), "canary_events",
        count_json(v->canary_events), "canary_total", count_json(v->canary_total), "baseline_events",
        count_json(v->baseline_events), "baseline_total", count_json(v->baseline_total));
}

static json_t *latency_json(const struct engine_arm *arm)
{
    if (arm->latency_count == 0)
        return json_pack("{s:i, s:n, s:n, s:n, s:n}", "count", 0, "p50", "p90", "p99", "p999");
    return json_pack("{s:o, s:f, s:f, s:f, s:f}", "count", count_json(arm->latency_count), "p50",
                     (double)arm->p50_us / 1e3, "p90", (double)arm->p90_us / 1e3, "p99",
                     (double)arm->p99_us / 1e3, "p999", (double)arm->p999_us / 1e3);
}

static json_t *arm_json(const struct engine_arm *arm)
{
    if (!arm->present)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:f, s:o, s:o, s:o}", "version", arm->version, "requests",
                     count_json(arm->sum.routed), "completed", count_json(arm->sum.completed), "errors",
                     count_json(arm->sum.errors), "error_rate", ratio(arm->sum.errors, arm->sum.completed),
                     "requests_per_second", real_or_null(arm->rate), "share", real_or_null(arm->share),
                     "latency_ms", latency_json(arm));
}

static json_t *stage_json(const struct rollout_stage *stage)
{
    if (stage->kind == ROLLOUT_STAGE_APPROVE)
        return json_pack("{s:s, s:s}", "kind", "approve", "by", stage->by);
    if (stage->kind == ROLLOUT_STAGE_SEGMENT)
        return json_pack("{s:s, s:s, s:I}", "kind", "segment", "segment", stage->segment, "for_ms",
                         (json_int_t)stage->min_ms);
    return json_pack("{s:s, s:o, s:I, s:I, s:I}", "kind", "weight", "weight", share_json(stage->weight),
                     "for_ms", (json_int_t)stage->min_ms, "horizon_ms", (json_int_t)stage->horizon_ms,
                     "soak_ms", (json_int_t)stage->soak_ms);
}

static json_t *stages_json(const struct rollout_spec *spec)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < spec->stage_count; i++)
        json_array_append_new(list, stage_json(&spec->stages[i]));
    return list;
}

static json_t *check_json(const struct rollout_check_view *c)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o}", "name", c->name, "log_e_bad",
                     real_or_null(c->log_e_bad), "log_e_good", real_or_null(c->log_e_good),
                     "log_e_good_needed", real_or_null(c->log_e_good_needed), "good", c->good,
                     "canary_events", count_json(c->canary_events), "canary_total",
                     count_json(c->canary_total), "baseline_events", count_json(c->baseline_events),
                     "baseline_total", count_json(c->baseline_total), "more_requests",
                     c->more_requests == UINT64_MAX ? json_null() : count_json(c->more_requests));
}

static json_t *edges_json(const struct rollout_edges *edges)
{
    if (edges->requests == 0)
        return json_null();
    return json_pack("{s:o, s:f, s:f, s:f, s:f}", "requests", count_json(edges->requests), "p50",
                     (double)edges->edge_us[0] / 1e3, "p90", (double)edges->edge_us[1] / 1e3, "p99",
                     (double)edges->edge_us[2] / 1e3, "p999", (double)edges->edge_us[3] / 1e3);
}

static json_t *evidence_json(const struct rollout_view *view)
{
    json_t *checks = json_array();
    for (uint32_t i = 0; i < view->check_count; i++)
        json_array_append_new(checks, check_json(&view->checks[i]));
    return json_pack("{s:{s:o, s:o}, s:{s:o, s:b}, s:o, s:o, s:o}", "rollback", "log_e",
                     real_or_null(view->log_e_bad), "log_e_needed", real_or_null(view->log_e_bad_needed),
                     "sample_ratio", "log_e", real_or_null(view->log_e_srm), "blocked", view->blocked,
                     "checks", checks, "edges_ms", edges_json(&view->edges), "spans_lost",
                     count_json(view->spans_lost));
}

// Wanted and measured share of the canary; with a control arm the measured one is still of all that was
// routed.
static json_t *weight_json(const struct rollout_view *view)
{
    uint64_t canary = view->stage_routed[ROLLOUT_ARM_CANARY];
    uint64_t all = canary + view->stage_routed[ROLLOUT_ARM_STABLE] + view->stage_routed[ROLLOUT_ARM_CONTROL];
    return json_pack("{s:o, s:o, s:o, s:o}", "wanted", share_json(view->weight), "measured",
                     all > 0 ? json_real(ratio(canary, all)) : json_null(), "stage_requests", count_json(all),
                     "stage_canary", count_json(canary));
}

json_t *api_json_rollout(struct engine *engine, uint32_t index)
{
    struct engine_view r;
    engine_view_get(engine, index, &r);
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:i, s:i, s:o, s:o}", "name", r.name, "service",
                  r.spec->service, "from", r.spec->from, "to", r.spec->to, "run", (int)r.run, "state",
                  rollout_state_name(r.view.state), "stage", (int)r.view.stage + 1, "stage_count",
                  (int)r.spec->stage_count, "stages", stages_json(r.spec), "weight", weight_json(&r.view));
    if (r.spec->target == ROLLOUT_TARGET_FLAG)
        json_object_set_new(body, "flag", json_string(r.spec->flag));
    json_object_set_new(body, "started_ms", time_or_null(r.view.started_ms));
    json_object_set_new(body, "stage_since_ms", time_or_null(r.view.stage_since_ms));
    json_object_set_new(body, "state_since_ms", time_or_null(r.view.state_since_ms));
    json_object_set_new(body, "arms",
                        json_pack("{s:o, s:o, s:o}", "stable", arm_json(&r.arms[ROLLOUT_ARM_STABLE]),
                                  "canary", arm_json(&r.arms[ROLLOUT_ARM_CANARY]), "control",
                                  arm_json(&r.arms[ROLLOUT_ARM_CONTROL])));
    json_object_set_new(body, "evidence", evidence_json(&r.view));
    json_object_set_new(body, "verdict", verdict_json(&r.view.last));
    json_object_set_new(body, "in_file", json_boolean(r.in_file));
    json_object_set_new(body, "file_differs", json_boolean(r.file_differs));
    return body;
}

static json_t *journal_json(const struct engine_health *h)
{
    return json_pack("{s:b, s:o, s:s, s:o, s:o, s:o}", "failing", h->journal_failing, "failing_since_ms",
                     time_or_null(h->journal_failing ? h->journal_failing_since_ms : 0), "problem",
                     h->journal_failing ? h->journal_problem : "", "failures",
                     count_json(h->journal_failures), "entries", count_json(h->journal_entries), "bytes",
                     count_json(h->journal_bytes));
}

json_t *api_json_status(struct engine *engine)
{
    struct engine_health h;
    struct routing_health t;
    engine_health_get(engine, &h);
    routing_health_get(targets_of(engine)->routing, &t);
    json_t *rollouts = json_array();
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++)
        json_array_append_new(rollouts, api_json_rollout(engine, i));
    json_t *services = json_array();
    const struct config *config = engine_config(engine);
    for (uint32_t i = 0; i < config->service_count; i++) {
        struct routing_traffic traffic;
        routing_traffic_get(targets_of(engine)->routing, config->services[i].name, &traffic);
        json_array_append_new(
            services, json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", config->services[i].name, "stable",
                                config->services[i].stable, "requests", count_json(traffic.requests),
                                "requests_per_second", real_or_null(traffic.requests_per_second),
                                "error_rate", real_or_null(traffic.error_rate)));
    }
    return json_pack(
        "{s:s, s:I, s:I, s:b, s:b, s:o, s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o, s:o, s:o}, s:o, s:o}", "version",
        SLUICE_VERSION, "time_ms", (json_int_t)engine_wall_ms(engine), "started_ms", (json_int_t)h.started_ms,
        "listening", t.listening, "draining", h.draining, "journal", journal_json(&h), "table", "version",
        count_json(t.table_version), "acknowledged", count_json(t.table_acknowledged), "switch_us",
        count_json(t.table_switch_us), "switch_us_max", count_json(t.table_switch_us_max), "ticks", "count",
        count_json(h.ticks), "late", count_json(h.ticks_late), "last_us", count_json(h.tick_us), "max_us",
        count_json(h.tick_us_max), "services", services, "rollouts", rollouts);
}

static json_t *endpoints_json(const struct config_address *endpoints, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(endpoints[i].text));
    return list;
}

static json_t *service_json(struct engine *engine, const struct config_service *s)
{
    json_t *versions = json_array();
    json_t *routes = json_array();
    for (uint32_t i = 0; i < s->version_count; i++)
        json_array_append_new(
            versions, json_pack("{s:s, s:o}", "name", s->versions[i].name, "endpoints",
                                endpoints_json(s->versions[i].endpoints, s->versions[i].endpoint_count)));
    for (uint32_t i = 0; i < s->route_count; i++)
        json_array_append_new(routes,
                              json_pack("{s:s, s:s}", "host", s->routes[i].host, "path", s->routes[i].path));
    json_t *body =
        json_pack("{s:s, s:s, s:n, s:f, s:o, s:o, s:o}", "name", s->name, "stable", s->stable, "canary",
                  "weight", 0.0, "versions", versions, "routes", routes, "control_endpoints",
                  endpoints_json(s->engine_endpoints, s->engine_endpoint_count));
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_view r;
        engine_view_get(engine, i, &r);
        if (!r.in_file || strcmp(r.spec->service, s->name) != 0)
            continue;
        json_object_set_new(body, "canary", json_string(r.spec->to));
        json_object_set_new(body, "weight", share_json(r.view.weight));
        json_object_set_new(body, "rollout", json_string(r.name));
    }
    return body;
}

json_t *api_json_table(struct engine *engine)
{
    struct engine_health h;
    struct routing_health t;
    engine_health_get(engine, &h);
    routing_health_get(targets_of(engine)->routing, &t);
    const struct config *config = engine_config(engine);
    json_t *services = json_array();
    for (uint32_t i = 0; i < config->service_count; i++)
        json_array_append_new(services, service_json(engine, &config->services[i]));
    return json_pack("{s:o, s:o, s:o}", "version", count_json(t.table_version), "acknowledged",
                     count_json(t.table_acknowledged), "services", services);
}

json_t *api_json_decision(const char *name, const struct engine_decision *d)
{
    const struct rollout_effects *e = &d->effects;
    return json_pack("{s:s, s:o, s:i, s:s, s:s, s:i, s:o, s:o}", "rollout", name, "seq", count_json(d->seq),
                     "run", (int)d->run, "from", rollout_state_name(e->from), "to", rollout_state_name(e->to),
                     "stage", (int)e->stage + 1, "weight", share_json(e->weight), "verdict",
                     e->has_verdict ? verdict_json(&e->verdict) : json_null());
}

json_t *api_json_history(struct engine *engine, uint32_t index)
{
    struct engine_view r;
    engine_view_get(engine, index, &r);
    json_t *list = json_array();
    uint64_t count = r.record != NULL ? r.record->history_count : 0;
    uint64_t kept = count < ENGINE_HISTORY ? count : ENGINE_HISTORY;
    for (uint64_t i = kept; i > 0; i--)
        json_array_append_new(list, api_json_decision(r.name, engine_record_decision(r.record, i - 1)));
    return json_pack("{s:s, s:o, s:o}", "name", r.name, "older", count_json(count - kept), "decisions", list);
}
