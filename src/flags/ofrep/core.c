// SPDX-License-Identifier: Apache-2.0
// From a request to the part that answers it: path, preflight, token, rate, method, selector, in this order.
// Nothing here waits, and the common path touches no heap.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/eval/json.h"
#include "flags/ofrep/ofrep_private.h"
#include "net/http/field.h"

static const char JSON_TYPE[] = "application/json";

enum status ofrep_core_init(struct ofrep_core *core, const struct ofrep_config *config)
{
    *core = (struct ofrep_core){.cors_origin = config->cors_origin, .strict_reasons = config->strict_reasons};
    core->body.max = core->event.max = core->aside.max = OFREP_ANSWER_BYTES_MAX;
    list_init(&core->streams);
    core->space = (struct flags_json_space){
        .nodes = heap_alloc(flags_json_node_need(OFREP_CONTEXT_NODES_MAX), sizeof(struct flags_json)),
        .node_cap = (uint32_t)flags_json_node_need(OFREP_CONTEXT_NODES_MAX),
        .chars = heap_alloc(OFREP_CONTEXT_BYTES_MAX, 1),
        .char_cap = OFREP_CONTEXT_BYTES_MAX,
        .last_wins = true,
    };
    core->scratch = (struct flags_scratch){heap_alloc(OFREP_SCRATCH_BYTES, 1), OFREP_SCRATCH_BYTES};
    if (config->exposures)
        core->exposures = ofrep_exposures_create();
    struct text cors = text_over(core->cors_bytes, sizeof core->cors_bytes);
    if (config->cors_origin != NULL) {
        text_addf(&cors, "Access-Control-Allow-Origin: %s\r\n", config->cors_origin);
        text_addf(&cors, "Access-Control-Expose-Headers: ETag, Retry-After\r\n");
        if (strcmp(config->cors_origin, "*") != 0)
            text_addf(&cors, "Vary: Origin\r\n");
    }
    core->cors = text_slice(&cors);
    if (core->space.nodes == NULL || core->space.chars == NULL || core->scratch.data == NULL ||
        (config->exposures && core->exposures == NULL) || !json_out_grow(&core->body, OFREP_ANSWER_BYTES) ||
        !json_out_grow(&core->event, OFREP_ANSWER_BYTES)) {
        ofrep_core_deinit(core);
        return STATUS_NO_MEMORY;
    }
    if (cors.cut || !http_value_valid(slice_of(config->cors_origin != NULL ? config->cors_origin : ""))) {
        ofrep_core_deinit(core);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

void ofrep_core_deinit(struct ofrep_core *core)
{
    CHECK(list_empty(&core->streams));
    heap_free(core->space.nodes);
    heap_free(core->space.chars);
    heap_free(core->scratch.data);
    ofrep_exposures_destroy(core->exposures);
    json_out_free(&core->body);
    json_out_free(&core->event);
    json_out_free(&core->aside);
}

// ---- small tools ----

void ofrep_add_field(struct ofrep_call *call, const char *name, struct slice value)
{
    text_addf(&call->core->fields, "%s: " SLICE_FMT "\r\n", name, SLICE_ARG(value));
    CHECK(!call->core->fields.cut);
}

void ofrep_finish(struct ofrep_call *call, unsigned status)
{
    struct ofrep_core *core = call->core;
    if (core->body.status != STATUS_OK) {
        json_out_reset(&core->body);
        ofrep_refuse(call, 500, "resource_exhausted", "the answer is too large");
        return;
    }
    if (core->fields.len > 0)
        text_add(&core->fields, core->cors);
    call->answer->fields = core->fields.len > 0 ? text_slice(&core->fields) : core->cors;
    call->answer->status = status;
    call->answer->body = json_out_slice(&core->body);
    call->answer->content_type = core->body.len > 0 ? JSON_TYPE : NULL;
    if (call->form != NULL && call->form->finish != NULL)
        call->form->finish(call);
}

void ofrep_refuse(struct ofrep_call *call, unsigned status, const char *code, const char *message)
{
    struct json_out *body = &call->core->body;
    json_out_reset(body);
    if (call->form != NULL) {
        call->form->refuse(call, status, code, message);
        return;
    }
    JSON_OUT(body, "{\"errorDetails\":");
    json_out_quote(body, slice_of(message));
    JSON_OUT(body, "}");
    ofrep_finish(call, status);
}

enum status ofrep_read_body(struct ofrep_core *core, struct slice body, const struct flags_json **root)
{
    struct flags_json *tree;
    struct flags_json_error fault;
    core->space.node_count = 0;
    core->space.char_count = 0;
    enum status status = flags_json_parse(body, &core->space, &tree, &fault);
    if (status == STATUS_OK) {
        *root = tree;
        return STATUS_OK;
    }
    if (status == STATUS_INVALID)
        snprintf(core->details, sizeof core->details, "the body is not valid JSON: %s at byte %zu",
                 fault.what, fault.at);
    else
        snprintf(core->details, sizeof core->details, "the body holds more than %d values",
                 OFREP_CONTEXT_NODES_MAX);
    return status == STATUS_INVALID ? STATUS_INVALID : STATUS_FULL;
}

// ---- evaluation ----

// Where the outcome of a view counts in the whole set: the flag may have come from another document there.
static uint32_t whole_counter(const struct ofrep_call *call, struct slice key,
                              const struct flags_result *result)
{
    struct flags_info info;
    struct slice name;
    struct slice json;
    const struct flags_image *whole = &call->core->snapshot->all.set;
    if (result->error == FLAGS_ERROR_FLAG_NOT_FOUND || !flags_image_find(whole, key, &info))
        return 0;
    if (result->error != FLAGS_ERROR_NONE)
        return info.first_counter + info.variant_count + 1;
    if (!result->has_value)
        return info.first_counter + info.variant_count;
    for (uint32_t i = 0; i < info.variant_count; i++)
        if (flags_image_variant_get(whole, key, i, &name, &json) && slice_equal(name, result->variant))
            return info.first_counter + i;
    return 0;
}

static void note_exposure(struct ofrep_call *call, struct slice key, const struct flags_context *context,
                          const struct flags_result *result)
{
    static const struct slice NAME = {"targetingKey", 12};
    const struct flags_json *who = context->tree != NULL ? flags_json_member(context->tree, NAME) : NULL;
    if (who != NULL && who->kind == FLAGS_JSON_STRING && who->text.len > 0)
        ofrep_exposures_note(call->core->exposures, call->core->snapshot, key, result->variant, who->text,
                             call->request->wall_ms);
}

void ofrep_evaluate(struct ofrep_call *call, struct slice key, enum flags_type type,
                    const struct flags_context *context, bool exposure, struct flags_result *result)
{
    struct ofrep_core *core = call->core;
    flags_evaluate(&call->view.set, key, type, context, core->scratch, result);
    ofrep_count(&core->counts.evaluations);
    if (result->error != FLAGS_ERROR_NONE)
        ofrep_count(&core->counts.errors);
    if (core->tally != NULL) {
        struct flags_result counted = {.counter = result->counter};
        if (call->view.index != 0)
            counted.counter = whole_counter(call, key, result);
        flags_tally_note(core->tally, &counted);
    }
    if (exposure && core->exposures != NULL && result->has_value && result->error == FLAGS_ERROR_NONE)
        note_exposure(call, key, context, result);
}

// ---- routes ----

static bool under(struct slice path, struct slice prefix, struct slice *rest)
{
    if (!slice_starts_with(path, prefix))
        return false;
    *rest = (struct slice){path.data + prefix.len, path.len - prefix.len};
    return true;
}

static void find_route(struct ofrep_call *call)
{
    static const struct {
        struct slice prefix;
        enum ofrep_service service;
    } SERVICES[] = {
        {{"flagd.evaluation.v1.Service/", 28}, OFREP_SERVICE_EVALUATION},
        {{"flagd.evaluation.v2.Service/", 28}, OFREP_SERVICE_EVALUATION},
        {{"schema.v1.Service/", 18}, OFREP_SERVICE_EVALUATION},
        {{"flagd.sync.v1.FlagSyncService/", 30}, OFREP_SERVICE_SYNC},
        {{"grpc.health.v1.Health/", 22}, OFREP_SERVICE_HEALTH},
    };
    struct slice rest;
    call->route = OFREP_ROUTE_NONE;
    if (under(call->request->path, SLICE("/ofrep/v1/"), &rest)) {
        if (under(rest, SLICE("evaluate/flags"), &call->rest)) {
            // With and without the slash at the end, as flagd has it.
            if (call->rest.len <= 1 && (call->rest.len == 0 || call->rest.data[0] == '/'))
                call->route = OFREP_ROUTE_BULK;
            else if (under(call->rest, SLICE("/"), &call->rest))
                call->route = OFREP_ROUTE_SINGLE;
        } else if (slice_equal(rest, SLICE("stream"))) {
            call->route = OFREP_ROUTE_STREAM;
        }
        return;
    }
    if (!under(call->request->path, SLICE("/"), &rest))
        return;
    for (size_t i = 0; i < ARRAY_LEN(SERVICES); i++)
        if (under(rest, SERVICES[i].prefix, &call->rest)) {
            call->route = OFREP_ROUTE_RPC;
            call->service = SERVICES[i].service;
            call->form = &OFREP_FORM_JSON;
            return;
        }
    if (slice_equal(rest, SLICE("healthz")))
        call->route = OFREP_ROUTE_HEALTH;
    else if (slice_equal(rest, SLICE("readyz")))
        call->route = OFREP_ROUTE_READY;
}

// What is no call of OFREP may be one of gRPC, also of a service that is not here.
static void find_form(struct ofrep_call *call)
{
    bool open = call->route == OFREP_ROUTE_RPC || call->route == OFREP_ROUTE_NONE;
    if (!open || !ofrep_is_grpc(call->request))
        return;
    call->form = &OFREP_FORM_GRPC;
    call->core->trailers = text_over(call->core->trailer_bytes, sizeof call->core->trailer_bytes);
}

// ---- who asks ----

static struct slice field_value(const struct http_fields *fields, enum http_field_id id)
{
    const struct http_field *field = http_fields_find(fields, id);
    return field != NULL ? field->value : (struct slice){"", 0};
}

static struct slice named_value(const struct http_fields *fields, struct slice name)
{
    const struct http_field *field = http_fields_find_name(fields, name);
    return field != NULL ? field->value : (struct slice){"", 0};
}

// Challenges (RFC 6750 section 3).
static void refuse_caller(struct ofrep_call *call, unsigned status, struct slice error, const char *message)
{
    char challenge[128];
    snprintf(challenge, sizeof challenge, "Bearer realm=\"flags\"%s" SLICE_FMT "%s",
             error.len > 0 ? ", error=\"" : "", SLICE_ARG(error), error.len > 0 ? "\"" : "");
    ofrep_count(&call->core->counts.unauthorized);
    ofrep_add_field(call, "WWW-Authenticate", slice_of(challenge));
    ofrep_refuse(call, status, status == 401 ? "unauthenticated" : "permission_denied", message);
}

// Whose requests are counted together: a token's, or an address's. Of an IPv6 address the first half counts
// (RFC 4291 2.5.4), because the other half is the caller's to choose; but one that stands for an IPv4 address
// (2.5.5.2), as a listener for both hears them, counts as that. bytes holds what is no text.
static struct slice caller_of(const struct web_request *request, const struct token *token,
                              struct in6_addr *bytes)
{
    char text[INET6_ADDRSTRLEN];
    struct slice host = request->from_host;
    if (token != NULL)
        return slice_of(token->name);
    if (host.len >= sizeof text || memchr(host.data, ':', host.len) == NULL)
        return host;
    memcpy(text, host.data, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET6, text, bytes) != 1)
        return host;
    if (IN6_IS_ADDR_V4MAPPED(bytes))
        return (struct slice){(const char *)bytes, sizeof *bytes};
    return (struct slice){(const char *)bytes, 8};
}

static bool within_rate(struct ofrep_call *call, const struct token *token)
{
    uint32_t wait_s;
    char seconds[16];
    struct in6_addr bytes;
    struct ofrep_limit *limit = call->core->limit;
    if (limit == NULL ||
        ofrep_limit_take(limit, caller_of(call->request, token, &bytes), call->request->now_us, &wait_s))
        return true;
    snprintf(seconds, sizeof seconds, "%u", wait_s);
    ofrep_count(&call->core->counts.limited);
    ofrep_add_field(call, "Retry-After", slice_of(seconds));
    ofrep_refuse(call, 429, "resource_exhausted", "too many requests");
    return false;
}

// A token of an environment sees that environment and nothing else, whatever it selects.
static bool within_environment(struct ofrep_call *call, const struct token *token)
{
    char own[TOKENS_ENVIRONMENT_BYTES + 16];
    bool all = strcmp(token->environment, "*") == 0;
    if (all)
        return true;
    int len = snprintf(own, sizeof own, "flagSetId=%s", token->environment);
    struct slice wanted = {own, (size_t)len};
    if (call->selector.len > 0 && !slice_equal(call->selector, wanted)) {
        refuse_caller(call, 403, SLICE("insufficient_scope"), "the token is for another environment");
        return false;
    }
    CHECK(wanted.len <= sizeof call->core->selector);
    memcpy(call->core->selector, wanted.data, wanted.len);
    call->selector = (struct slice){call->core->selector, wanted.len};
    return true;
}

// The header goes before the query, because a provider sets it and a stream's URL cannot.
static bool read_selector(struct ofrep_call *call)
{
    const struct web_request *request = call->request;
    struct slice raw;
    call->selector = named_value(request->fields, SLICE("flagd-selector"));
    bool good = call->selector.len <= sizeof call->core->selector;
    if (call->selector.len == 0 && request->query.len > 0 &&
        http_query_find(request->query, SLICE("selector"), &raw) == STATUS_OK) {
        call->selector.data = call->core->selector;
        good = web_path_decode(raw, call->core->selector, sizeof call->core->selector, &call->selector.len) ==
               STATUS_OK;
    }
    if (!good)
        ofrep_refuse(call, 400, "invalid_argument", "the selector is malformed or too long");
    return good;
}

static bool admit(struct ofrep_call *call)
{
    struct ofrep_core *core = call->core;
    const struct token *token = NULL;
    struct slice secret = {"", 0};
    if (core->tokens != NULL) {
        secret = tokens_of_fields(field_value(call->request->fields, HTTP_FIELD_AUTHORIZATION),
                                  named_value(call->request->fields, SLICE("x-api-key")));
        if (secret.len > 0)
            token = tokens_find(core->tokens, secret);
    }
    // Before the verdict on the token: guessing one costs as much as using one.
    if (!within_rate(call, token))
        return false;
    if (core->tokens != NULL && token == NULL) {
        refuse_caller(call, 401, secret.len > 0 ? SLICE("invalid_token") : SLICE(""),
                      secret.len > 0 ? "the token is not known" : "a token is needed");
        return false;
    }
    if (!read_selector(call))
        return false;
    // Without tokens the listener itself is the guard.
    call->definitions = token == NULL || token->kind == TOKEN_SERVER;
    return token == NULL || within_environment(call, token);
}

// ---- one request ----

static void answer_preflight(struct ofrep_call *call)
{
    ofrep_add_field(call, "Access-Control-Allow-Methods", SLICE("GET, POST, OPTIONS"));
    ofrep_add_field(call, "Access-Control-Allow-Headers",
                    SLICE("Authorization, X-API-Key, Content-Type, If-None-Match, Flagd-Selector, Prefer, "
                          "Last-Event-ID, Cache-Control, Connect-Protocol-Version, Connect-Timeout-Ms"));
    ofrep_add_field(call, "Access-Control-Max-Age", SLICE("600"));
    ofrep_finish(call, 204);
}

static void answer_health(struct ofrep_call *call)
{
    bool ready = call->route == OFREP_ROUTE_HEALTH || call->core->snapshot != NULL;
    if (!ready) {
        ofrep_refuse(call, 503, "unavailable", "no flags yet");
        return;
    }
    JSON_OUT(&call->core->body, "{\"status\":\"ok\"}");
    ofrep_finish(call, 200);
}

static bool method_fits(struct ofrep_call *call)
{
    struct slice method = call->request->method;
    bool reads = call->route == OFREP_ROUTE_HEALTH || call->route == OFREP_ROUTE_READY;
    if (call->route == OFREP_ROUTE_STREAM || reads) {
        if (slice_equal(method, SLICE("GET")) || (reads && slice_equal(method, SLICE("HEAD"))))
            return true;
        ofrep_add_field(call, "Allow", reads ? SLICE("GET, HEAD") : SLICE("GET"));
    } else {
        if (slice_equal(method, SLICE("POST")))
            return true;
        ofrep_add_field(call, "Allow", SLICE("POST"));
    }
    ofrep_refuse(call, 405, "unimplemented", "the method is not for this path");
    return false;
}

static void answer_not_ready(struct ofrep_call *call)
{
    struct json_out *body = &call->core->body;
    ofrep_add_field(call, "Retry-After", SLICE("1"));
    if (call->route == OFREP_ROUTE_RPC) {
        ofrep_refuse(call, 503, "unavailable", "no flags yet");
        return;
    }
    JSON_OUT(body, "{\"errorCode\":\"PROVIDER_NOT_READY\",\"errorDetails\":\"no flags yet\"}");
    ofrep_finish(call, 503);
}

static void find_view(struct ofrep_call *call)
{
    const struct flagset_snapshot *snapshot = call->core->snapshot;
    call->matched = true;
    if (call->selector.len == 0)
        call->view = snapshot->all;
    else
        call->matched = flagset_snapshot_view(snapshot, call->selector, &call->view);
}

static void answer_admitted(struct ofrep_call *call)
{
    if (!method_fits(call))
        return;
    if (call->core->snapshot == NULL) {
        answer_not_ready(call);
        return;
    }
    if (call->request->body.len > OFREP_CONTEXT_BYTES_MAX) {
        ofrep_refuse(call, 413, "resource_exhausted", "the body is too large");
        return;
    }
    const struct http_field *coding = http_fields_find(call->request->fields, HTTP_FIELD_CONTENT_ENCODING);
    if (coding != NULL && !slice_equal_nocase(coding->value, SLICE("identity"))) {
        ofrep_refuse(call, call->route == OFREP_ROUTE_RPC ? 501 : 415, "unimplemented",
                     "compressed bodies are not read");
        return;
    }
    find_view(call);
    if (call->route == OFREP_ROUTE_SINGLE)
        ofrep_answer_single(call);
    else if (call->route == OFREP_ROUTE_BULK)
        ofrep_answer_bulk(call);
    else if (call->route == OFREP_ROUTE_STREAM)
        ofrep_answer_stream(call);
    else
        ofrep_answer_rpc(call);
}

static void begin_call(struct ofrep_call *call)
{
    struct ofrep_core *core = call->core;
    core->fields = text_over(core->field_bytes, sizeof core->field_bytes);
    json_out_reset(&core->body);
    call->due_us = UINT64_MAX;
    find_route(call);
    find_form(call);
}

bool ofrep_core_refuse(struct ofrep_core *core, const struct web_request *request, unsigned status,
                       const char *sentence, struct web_answer *answer)
{
    struct ofrep_call call = {.core = core, .request = request, .answer = answer};
    begin_call(&call);
    if (call.form != &OFREP_FORM_GRPC)
        return false;
    ofrep_refuse(&call, status,
                 status == 413   ? "resource_exhausted"
                 : status == 408 ? "deadline_exceeded"
                                 : "unavailable",
                 sentence);
    return true;
}

void ofrep_core_answer(struct ofrep_core *core, const struct web_request *request, struct web_answer *answer)
{
    struct ofrep_call call = {.core = core, .request = request, .answer = answer};
    begin_call(&call);
    ofrep_count(&core->counts.requests);
    if (call.service == OFREP_SERVICE_HEALTH) {
        if (method_fits(&call))
            ofrep_answer_rpc(&call);
        return;
    }
    if (call.route == OFREP_ROUTE_HEALTH || call.route == OFREP_ROUTE_READY) {
        if (method_fits(&call))
            answer_health(&call);
        return;
    }
    if (core->cors_origin != NULL && slice_equal(request->method, SLICE("OPTIONS"))) {
        answer_preflight(&call);
        return;
    }
    if (!admit(&call))
        return;
    if (call.route == OFREP_ROUTE_NONE)
        ofrep_refuse(&call, 404, "unimplemented", "no such path");
    else
        answer_admitted(&call);
}
