// SPDX-License-Identifier: Apache-2.0
// The addresses under /v1/rollouts. Names and units are the contract of docs/guide/api.md: shares are
// fractions, times are milliseconds since 1970, latencies are milliseconds.
#include <math.h>
#include <stdio.h>

#include "base/utf8.h"
#include "daemon/api/api_private.h"
#include "ship/engine/engine.h"
#include "ship/engine/record.h"
#include "ship/rollout/rollout.h"
#include "ship/rollout/spec.h"

// ---- one rollout ----

static const double UNKNOWN = (double)NAN; // null

static double ratio(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

static void write_verdict(struct json_out *out, const char *member, const struct rollout_verdict *v,
                          const char *failures)
{
    if (v->outcome == ROLLOUT_OUTCOME_NONE) {
        json_out_null(out, member);
        return;
    }
    json_out_open(out, member, '{');
    json_out_text(out, "outcome", rollout_outcome_name(v->outcome));
    json_out_text(out, "text", v->text);
    if (failures[0] != '\0')
        json_out_text(out, "failures", failures);
    else
        json_out_null(out, "failures");
    json_out_integer(out, "time_ms", v->time_ms);
    json_out_time(out, "evidence_since_ms", v->evidence_since_ms);
    json_out_integer(out, "stage", (int)v->stage + 1);
    json_out_text(out, "check", v->check);
    json_out_real(out, "log_e", v->log_e);
    json_out_real(out, "log_e_needed", v->log_e_needed);
    json_out_real(out, "ratio_low", v->ratio_low > 0 ? v->ratio_low : UNKNOWN);
    json_out_count(out, "canary_events", v->canary_events);
    json_out_count(out, "canary_total", v->canary_total);
    json_out_count(out, "baseline_events", v->baseline_events);
    json_out_count(out, "baseline_total", v->baseline_total);
    json_out_close(out, '}');
}

static void write_quantiles(struct json_out *out, const uint64_t us[4], bool known)
{
    static const char *const names[] = {"p50", "p90", "p99", "p999"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        json_out_real(out, names[i], known ? (double)us[i] / 1e3 : UNKNOWN);
    json_out_close(out, '}');
}

// Journals of the first form know attempts alone. An answer that breaks off when its span is over is an error
// of a request that was counted before.
static uint64_t requests_failed(const struct engine_arm_sum *sum)
{
    uint64_t failed = sum->failed > 0 ? sum->failed : sum->errors;
    return failed < sum->completed ? failed : sum->completed;
}

static void write_arm(struct json_out *out, const char *member, const struct engine_arm *arm)
{
    if (!arm->present) {
        json_out_null(out, member);
        return;
    }
    json_out_open(out, member, '{');
    json_out_text(out, "version", arm->version);
    json_out_count(out, "requests", arm->sum.routed);
    json_out_count(out, "completed", arm->sum.completed);
    uint64_t failed = requests_failed(&arm->sum);
    json_out_count(out, "errors", failed);
    json_out_real(out, "error_rate", ratio(failed, arm->sum.completed));
    json_out_count(out, "failed_attempts", arm->sum.errors);
    json_out_real(out, "requests_per_second", arm->rate);
    json_out_real(out, "share", arm->share);
    json_out_open(out, "latency_ms", '{');
    json_out_count(out, "count", arm->latency_count);
    write_quantiles(out, (const uint64_t[]){arm->p50_us, arm->p90_us, arm->p99_us, arm->p999_us},
                    arm->latency_count > 0);
    json_out_close(out, '}');
}

static void write_share(struct json_out *out, const char *member, uint32_t weight)
{
    json_out_real(out, member, (double)weight / ROLLOUT_WEIGHT_FULL);
}

static void write_stage(struct json_out *out, const struct rollout_stage *stage)
{
    json_out_open(out, NULL, '{');
    if (stage->kind == ROLLOUT_STAGE_APPROVE) {
        json_out_text(out, "kind", "approve");
        json_out_text(out, "by", stage->by);
    } else if (stage->kind == ROLLOUT_STAGE_SEGMENT) {
        json_out_text(out, "kind", "segment");
        json_out_text(out, "segment", stage->segment);
        json_out_integer(out, "for_ms", (int64_t)stage->min_ms);
    } else if (stage->kind == ROLLOUT_STAGE_SHADOW) {
        json_out_text(out, "kind", "shadow");
        write_share(out, "share", stage->shadow.share);
        write_share(out, "secondary", stage->shadow.secondary);
        json_out_count(out, "compared", stage->shadow.compared);
        json_out_integer(out, "for_ms", (int64_t)stage->min_ms);
        json_out_integer(out, "horizon_ms", (int64_t)stage->horizon_ms);
    } else {
        json_out_text(out, "kind", "weight");
        write_share(out, "weight", stage->weight);
        json_out_integer(out, "for_ms", (int64_t)stage->min_ms);
        json_out_integer(out, "horizon_ms", (int64_t)stage->horizon_ms);
        json_out_integer(out, "soak_ms", (int64_t)stage->soak_ms);
    }
    json_out_close(out, '}');
}

static void write_check(struct json_out *out, const struct rollout_check_view *c)
{
    json_out_open(out, NULL, '{');
    json_out_text(out, "name", c->name);
    json_out_real(out, "log_e_bad", c->log_e_bad);
    json_out_real(out, "log_e_good", c->log_e_good);
    json_out_real(out, "log_e_good_needed", c->log_e_good_needed);
    json_out_bool(out, "good", c->good);
    json_out_count(out, "canary_events", c->canary_events);
    json_out_count(out, "canary_total", c->canary_total);
    json_out_count(out, "baseline_events", c->baseline_events);
    json_out_count(out, "baseline_total", c->baseline_total);
    if (c->more_requests == UINT64_MAX)
        json_out_null(out, "more_requests");
    else
        json_out_count(out, "more_requests", c->more_requests);
    json_out_close(out, '}');
}

static void write_evidence(struct json_out *out, const struct rollout_view *view)
{
    json_out_open(out, "evidence", '{');
    json_out_open(out, "rollback", '{');
    json_out_real(out, "log_e", view->log_e_bad);
    json_out_real(out, "log_e_needed", view->log_e_bad_needed);
    json_out_close(out, '}');
    json_out_open(out, "sample_ratio", '{');
    json_out_real(out, "log_e", view->log_e_srm);
    json_out_bool(out, "blocked", view->blocked);
    json_out_close(out, '}');
    json_out_open(out, "checks", '[');
    for (uint32_t i = 0; i < view->check_count; i++)
        write_check(out, &view->checks[i]);
    json_out_close(out, ']');
    if (view->edges.requests == 0) {
        json_out_null(out, "edges_ms");
    } else {
        json_out_open(out, "edges_ms", '{');
        json_out_count(out, "requests", view->edges.requests);
        write_quantiles(out, view->edges.edge_us, true);
    }
    json_out_count(out, "spans_lost", view->spans_lost);
    json_out_close(out, '}');
}

// What copies of requests showed; null when the run was in no shadow.
static void write_shadow(struct json_out *out, const struct rollout_shadow_view *shadow)
{
    if (!shadow->has_been) {
        json_out_null(out, "shadow");
        return;
    }
    json_out_open(out, "shadow", '{');
    json_out_bool(out, "on", shadow->on);
    json_out_count(out, "sent", shadow->sent);
    json_out_count(out, "compared", shadow->compared);
    json_out_count(out, "compared_needed", shadow->compared_needed);
    json_out_count(out, "asked_three_times", shadow->triples);
    json_out_count(out, "uncompared", shadow->uncompared);
    json_out_count(out, "dropped", shadow->dropped);
    json_out_count(out, "candidate_errors", shadow->candidate_errors);
    json_out_count(out, "primary_errors", shadow->primary_errors);
    json_out_count(out, "paths", shadow->paths);
    json_out_count(out, "paths_different", shadow->different);
    json_out_count(out, "paths_noisy", shadow->noisy);
    json_out_count(out, "paths_suspected", shadow->suspected);
    json_out_real(out, "log_e", shadow->log_e);
    json_out_real(out, "log_e_needed", shadow->log_e_needed);
    json_out_real(out, "found_share", shadow->found <= 1.0 ? shadow->found : UNKNOWN);
    json_out_close(out, '}');
}

// Wanted and measured share of the canary; with a control arm the measured one is still of all that was
// routed.
static void write_weight(struct json_out *out, const struct rollout_view *view)
{
    uint64_t canary = view->stage_routed[ROLLOUT_ARM_CANARY];
    uint64_t all = canary + view->stage_routed[ROLLOUT_ARM_STABLE] + view->stage_routed[ROLLOUT_ARM_CONTROL];
    json_out_open(out, "weight", '{');
    write_share(out, "wanted", view->weight);
    json_out_real(out, "measured", all > 0 ? ratio(canary, all) : UNKNOWN);
    json_out_count(out, "stage_requests", all);
    json_out_count(out, "stage_canary", canary);
    json_out_close(out, '}');
}

static void write_failed(struct json_out *out, const char *member, const char *what,
                         const struct rollout_failure kept[ROLLOUT_FAILURES_KEPT])
{
    const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN];
    uint32_t count = rollout_failures_top(kept, top);
    json_out_open(out, member, '[');
    for (uint32_t i = 0; i < count; i++) {
        json_out_open(out, NULL, '{');
        json_out_text(out, what, top[i]->what);
        json_out_count(out, "canary", top[i]->arms[ROLLOUT_ARM_CANARY]);
        json_out_count(out, "stable", top[i]->arms[ROLLOUT_ARM_STABLE]);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

static void write_failures(struct json_out *out, const char *member, const struct rollout_failures *failures,
                           const struct rollout_spec *spec)
{
    if (failures == NULL) {
        json_out_null(out, member);
        return;
    }
    json_out_open(out, member, '{');
    for (int kind = 0; kind < ROLLOUT_FAILINGS; kind++) {
        const struct rollout_failed *failed = &failures->kinds[kind];
        json_out_open(out, rollout_failing_name(kind), '{');
        json_out_count(out, "canary", failed->arms[ROLLOUT_ARM_CANARY]);
        json_out_count(out, "stable", failed->arms[ROLLOUT_ARM_STABLE]);
        json_out_count(out, "control", failed->arms[ROLLOUT_ARM_CONTROL]);
        json_out_count(out, "canary_addresses", rollout_failures_addresses(failed));
        char sentence[ROLLOUT_FAILURES_TEXT_BYTES];
        struct text text = text_over(sentence, sizeof sentence);
        rollout_failures_sentence(failures, kind, spec->to, spec->from, &text);
        json_out_text(out, "text", sentence);
        write_failed(out, "routes", "route", failed->routes);
        write_failed(out, "addresses", "address", failed->addresses);
        json_out_close(out, '}');
    }
    json_out_close(out, '}');
}

// What counts as an error of the service that it is judged by; null without one.
static void write_errors(struct json_out *out, struct engine *engine, const struct engine_view *r)
{
    const struct config_service *service = config_service_find(engine_config(engine), r->spec->service);
    char line[CONFIG_ERROR_LINE_BYTES];
    struct text text = text_over(line, sizeof line);
    if (service == NULL) {
        json_out_null(out, "errors");
        return;
    }
    config_service_errors_write(&service->errors, &text);
    json_out_text(out, "errors", line);
    json_out_time(out, "errors_changed_ms", r->view.redefined_ms);
}

static void write_rollout(struct json_out *out, struct engine *engine, uint32_t index)
{
    struct engine_view r;
    engine_view_get(engine, index, &r);
    json_out_text(out, "name", r.name);
    json_out_text(out, "service", r.spec->service);
    json_out_text(out, "from", r.spec->from);
    json_out_text(out, "to", r.spec->to);
    write_errors(out, engine, &r);
    json_out_integer(out, "run", r.run);
    json_out_text(out, "state", rollout_state_name(r.view.state));
    json_out_integer(out, "stage", (int)r.view.stage + 1);
    json_out_integer(out, "stage_count", r.spec->stage_count);
    json_out_open(out, "stages", '[');
    for (uint32_t i = 0; i < r.spec->stage_count; i++)
        write_stage(out, &r.spec->stages[i]);
    json_out_close(out, ']');
    write_weight(out, &r.view);
    if (r.spec->target == ROLLOUT_TARGET_FLAG)
        json_out_text(out, "flag", r.spec->flag);
    json_out_time(out, "started_ms", r.view.started_ms);
    json_out_integer(out, "warmup_ms", (int64_t)r.spec->warmup_ms);
    json_out_time(out, "stage_since_ms", r.view.stage_since_ms);
    json_out_time(out, "state_since_ms", r.view.state_since_ms);
    json_out_open(out, "arms", '{');
    write_arm(out, "stable", &r.arms[ROLLOUT_ARM_STABLE]);
    write_arm(out, "canary", &r.arms[ROLLOUT_ARM_CANARY]);
    write_arm(out, "control", &r.arms[ROLLOUT_ARM_CONTROL]);
    json_out_close(out, '}');
    write_shadow(out, &r.view.shadow);
    write_evidence(out, &r.view);
    write_verdict(out, "verdict", &r.view.last, r.failures);
    write_failures(out, "failures", engine_failures(engine, index), r.spec);
    json_out_bool(out, "in_file", r.in_file);
    json_out_bool(out, "file_differs", r.file_differs);
}

void api_write_rollout(struct json_out *out, const char *member, struct engine *engine, uint32_t index)
{
    json_out_open(out, member, '{');
    write_rollout(out, engine, index);
    json_out_close(out, '}');
}

void api_write_decision(struct json_out *out, const char *rollout, const struct engine_decision *d)
{
    static const struct rollout_verdict none = {.outcome = ROLLOUT_OUTCOME_NONE};
    const struct rollout_effects *e = &d->effects;
    json_out_open(out, NULL, '{');
    json_out_text(out, "rollout", rollout);
    json_out_count(out, "seq", d->seq);
    json_out_integer(out, "time_ms", d->time_ms);
    json_out_integer(out, "run", d->run);
    json_out_text(out, "from", rollout_state_name(e->from));
    json_out_text(out, "to", rollout_state_name(e->to));
    json_out_integer(out, "stage", (int)e->stage + 1);
    write_share(out, "weight", e->weight);
    write_verdict(out, "verdict", e->has_verdict ? &e->verdict : &none, d->failures);
    json_out_close(out, '}');
}

// ---- the addresses ----

static void get_rollouts(struct api_call *call)
{
    json_out_open(&call->out, NULL, '{');
    json_out_open(&call->out, "rollouts", '[');
    for (uint32_t i = 0; i < engine_rollout_count(call->engine); i++)
        api_write_rollout(&call->out, NULL, call->engine, i);
    json_out_close(&call->out, ']');
    json_out_close(&call->out, '}');
}

// The rollout that the path names. False: it has answered.
static bool find(struct api_call *call, uint32_t *index)
{
    const char *name = call->words[0];
    char message[2 * API_WORD_BYTES + 64];
    int found = engine_view_find(call->engine, name);
    *index = (uint32_t)found;
    if (found >= 0)
        return true;
    const char *nearest = engine_rollout_nearest(call->engine, name);
    if (nearest != NULL)
        snprintf(message, sizeof message, "there is no rollout '%s'; did you mean '%s'?", name, nearest);
    else
        snprintf(message, sizeof message, "there is no rollout '%s'", name);
    api_error(call, 404, "not_found", message);
    return false;
}

static void get_rollout(struct api_call *call)
{
    uint32_t index;
    if (find(call, &index))
        api_write_rollout(&call->out, NULL, call->engine, index);
}

static void get_history(struct api_call *call)
{
    struct engine_view r;
    uint32_t index;
    if (!find(call, &index))
        return;
    engine_view_get(call->engine, index, &r);
    uint64_t count = r.record != NULL ? r.record->history_count : 0;
    uint64_t kept = count < ENGINE_HISTORY ? count : ENGINE_HISTORY;
    json_out_open(&call->out, NULL, '{');
    json_out_text(&call->out, "name", r.name);
    json_out_count(&call->out, "older", count - kept);
    json_out_open(&call->out, "decisions", '[');
    for (uint64_t i = kept; i > 0; i--)
        api_write_decision(&call->out, r.name, engine_record_decision(r.record, i - 1));
    json_out_close(&call->out, ']');
    json_out_close(&call->out, '}');
}

static void get_diff(struct api_call *call)
{
    uint32_t index;
    if (find(call, &index))
        api_answer_diff(call, SLICE(""), slice_of(call->words[0]));
}

static void get_events(struct api_call *call)
{
    uint32_t index;
    if (!find(call, &index))
        return;
    call->content_type = "text/event-stream";
    utf8_copy(call->subject, sizeof call->subject, slice_of(call->words[0]));
}

// Only an approval is denied; whoever was denied must know whom to ask.
static void refuse_approval(struct api_call *call, uint32_t index, const char *who)
{
    char message[2 * ROLLOUT_NAME_BYTES + ROLLOUT_WHO_BYTES + 96];
    struct engine_view r;
    engine_view_get(call->engine, index, &r);
    snprintf(message, sizeof message,
             "the approval of %s is for %s to give, not for %s; whoever may, names the role: --who %s",
             r.name, r.spec->stages[r.view.stage].by, who, r.spec->stages[r.view.stage].by);
    api_refuse(call, STATUS_DENIED, message);
}

// already: why there was nothing to do, or NULL.
static void write_commanded(struct api_call *call, uint32_t index, const char *already)
{
    json_out_open(&call->out, NULL, '{');
    write_rollout(&call->out, call->engine, index);
    if (already != NULL)
        json_out_text(&call->out, "already", already);
    json_out_close(&call->out, '}');
}

static void post_command(struct api_call *call)
{
    static struct fault fault;
    enum rollout_command command;
    struct api_body body;
    char who[ROLLOUT_WHO_BYTES];
    uint32_t index;
    if (!find(call, &index))
        return;
    if (rollout_command_parse(slice_of(call->words[1]), &command) != STATUS_OK) {
        api_error(call, 404, "not_found",
                  "no such command: start, pause, resume, promote, abort, undo and approve are known");
        return;
    }
    if (!api_body_read(call, &body))
        return;
    api_who(call, body.root, who);
    api_body_free(&body);
    enum status status = engine_command(call->engine, call->words[0], command, who, call->from, &fault);
    if (status == STATUS_OK || status == STATUS_EXISTS)
        write_commanded(call, index, status == STATUS_OK ? NULL : fault.text);
    else if (status == STATUS_DENIED)
        refuse_approval(call, index, who);
    else
        api_refuse(call, status, fault.text);
}

static const struct api_route ROUTES[] = {
    {"GET", "/v1/rollouts", API_READ, get_rollouts, "all rollouts"},
    {"GET", "/v1/rollouts/NAME", API_READ, get_rollout, "one rollout, whole"},
    {"GET", "/v1/rollouts/NAME/history", API_READ, get_history,
     "its decisions, oldest first; `older` says how many more the journal holds"},
    {"GET", "/v1/rollouts/NAME/diff", API_READ, get_diff,
     "how the new version's answers differ while it is in the shadow; `?path=` leaves out paths that do not fit it"},
    {"GET", "/v1/rollouts/NAME/events", API_READ, get_events,
     "server-sent events: `state` at once and each second, `decision` when one is taken"},
    {"POST", "/v1/rollouts/NAME/COMMAND", API_OPERATE, post_command,
     "the rollout after the command: `start`, `pause`, `resume`, `promote`, `abort`, `undo` or `approve`; "
     "`already` says why there was nothing to do"},
};

const struct api_part api_rollouts_part = {.prefix = SLICE("/v1/rollouts"),
                                           .body_bytes_max = API_BODY_BYTES_MAX,
                                           .routes = ROUTES,
                                           .route_count = ARRAY_LEN(ROUTES)};
