// SPDX-License-Identifier: Apache-2.0
// What each address of the API means. One table of routes; everything that goes wrong is an answer with a
// code and a sentence.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/api/api_private.h"
#include "net/http/field.h"
#include "operate/metrics/exposition.h"

static const char JSON_TYPE[] = "application/json";

char *api_json_text(json_t *body, size_t *len)
{
    enum { FLAGS = JSON_COMPACT | JSON_REAL_PRECISION(12) };
    size_t size = body != NULL ? json_dumpb(body, NULL, 0, FLAGS) : 0;
    char *text = size > 0 ? heap_alloc(size + 1, 1) : NULL;
    if (text != NULL) {
        *len = json_dumpb(body, text, size, FLAGS);
        CHECK(*len == size);
    }
    json_decref(body);
    return text;
}

void api_answer_json(struct api_answer *answer, unsigned status, json_t *body)
{
    answer->status = status;
    answer->content_type = JSON_TYPE;
    answer->body = api_json_text(body, &answer->body_len);
    if (answer->body != NULL)
        answer->body[answer->body_len++] = '\n';
    else
        answer->status = 500;
}

void api_answer_error(struct api_answer *answer, unsigned status, const char *code, const char *message)
{
    api_answer_json(answer, status, json_pack("{s:{s:s, s:s}}", "error", "code", code, "message", message));
}

// ---- single resources ----

static void get_status(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    (void)request;
    api_answer_json(answer, 200, api_json_status(engine));
}

static void get_table(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    (void)request;
    api_answer_json(answer, 200, api_json_table(engine));
}

static void get_rollouts(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    (void)request;
    json_t *list = json_array();
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++)
        json_array_append_new(list, api_json_rollout(engine, i));
    api_answer_json(answer, 200, json_pack("{s:o}", "rollouts", list));
}

static void get_healthz(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    (void)engine;
    (void)request;
    api_answer_json(answer, 200, json_pack("{s:b}", "alive", 1));
}

static void get_readyz(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    (void)request;
    struct engine_health h;
    struct routing_health t;
    engine_health_get(engine, &h);
    routing_health_get(targets_of(engine)->routing, &t);
    json_t *reasons = json_array();
    if (!t.listening)
        json_array_append_new(reasons, json_string("the listeners are not open yet"));
    if (h.draining)
        json_array_append_new(reasons, json_string("draining: no new connections are taken"));
    if (h.journal_failing)
        json_array_append_new(
            reasons,
            json_sprintf(
                "the journal cannot be written, so no decision is taken; traffic goes on as it is: %s",
                h.journal_problem));
    bool ready = json_array_size(reasons) == 0;
    api_answer_json(answer, ready ? 200 : 503, json_pack("{s:b, s:o}", "ready", ready, "reasons", reasons));
}

static void get_metrics(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    (void)request;
    struct slice text;
    char *storage = heap_alloc(ENGINE_METRICS_BYTES_MAX, 1);
    if (storage == NULL ||
        engine_metrics_write(engine, storage, ENGINE_METRICS_BYTES_MAX, &text) != STATUS_OK) {
        heap_free(storage);
        api_answer_error(answer, 500, "full", "the metrics did not fit in their storage");
        return;
    }
    answer->status = 200;
    answer->content_type = METRICS_CONTENT_TYPE;
    memmove(storage, text.data, text.len);
    answer->body = storage;
    answer->body_len = text.len;
}

static const struct {
    struct slice path;
    void (*get)(struct engine *, const struct api_request *, struct api_answer *);
} SINGLES[] = {
    {SLICE("/v1/status"), get_status}, {SLICE("/v1/table"), get_table}, {SLICE("/v1/rollouts"), get_rollouts},
    {SLICE("/healthz"), get_healthz},  {SLICE("/readyz"), get_readyz},  {SLICE("/metrics"), get_metrics},
};

// ---- one rollout ----

static void answer_unknown_rollout(struct engine *engine, const char *name, struct api_answer *answer)
{
    char message[256];
    const char *nearest = engine_rollout_nearest(engine, name);
    if (nearest != NULL)
        snprintf(message, sizeof message, "there is no rollout '%s'; did you mean '%s'?", name, nearest);
    else
        snprintf(message, sizeof message, "there is no rollout '%s'", name);
    api_answer_error(answer, 404, "not_found", message);
}

static void copy_word(char *out, size_t cap, struct slice word)
{
    size_t n = word.len < cap - 1 ? word.len : cap - 1;
    // Never cut within a character: names come back in logs and verdicts.
    while (n < word.len && n > 0 && ((unsigned char)word.data[n] & 0xc0) == 0x80)
        n--;
    memcpy(out, word.data, n);
    out[n] = '\0';
}

// Who gives the command: the body's "who", else the X-Sluice-Who field, else "api". False when the body is no
// JSON object.
static bool read_who(const struct api_request *request, char who[ROLLOUT_WHO_BYTES])
{
    copy_word(who, ROLLOUT_WHO_BYTES, request->who.len > 0 ? request->who : SLICE("api"));
    if (request->body.len == 0)
        return true;
    json_error_t error;
    json_t *body = json_loadb(request->body.data, request->body.len, JSON_REJECT_DUPLICATES, &error);
    bool ok = json_is_object(body);
    const char *given = ok ? json_string_value(json_object_get(body, "who")) : NULL;
    if (given != NULL && *given != '\0')
        copy_word(who, ROLLOUT_WHO_BYTES, slice_of(given));
    json_decref(body);
    // It comes back in verdicts, on terminals too: nobody may move a cursor or begin a line by his name.
    for (char *at = who; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    return ok;
}

static unsigned status_of_refusal(enum status status, const char **code)
{
    switch (status) {
    case STATUS_NOT_FOUND:
        *code = "not_found";
        return 404;
    case STATUS_CONFLICT:
        *code = "conflict";
        return 409;
    case STATUS_DENIED:
        *code = "denied";
        return 403;
    default:
        *code = "journal";
        return 503;
    }
}

static void post_command(struct engine *engine, uint32_t index, const char *name, struct slice word,
                         const struct api_request *request, struct api_answer *answer)
{
    enum rollout_command command;
    char who[ROLLOUT_WHO_BYTES];
    if (rollout_command_parse(word, &command) != STATUS_OK) {
        api_answer_error(answer, 404, "not_found",
                         "no such command: start, pause, resume, promote, abort, undo and approve are known");
        return;
    }
    if (!read_who(request, who)) {
        api_answer_error(answer, 400, "invalid",
                         "the body must be empty or a JSON object such as {\"who\": \"ann\"}");
        return;
    }
    static struct fault fault;
    enum status status = engine_command(engine, name, command, who, request->from, &fault);
    if (status == STATUS_OK) {
        api_answer_json(answer, 200, api_json_rollout(engine, index));
        return;
    }
    const char *code;
    unsigned http = status_of_refusal(status, &code);
    api_answer_error(answer, http, code, fault.text);
}

static void answer_method(struct api_answer *answer, const char *allow)
{
    char message[96];
    snprintf(message, sizeof message, "this address answers %s", allow);
    api_answer_error(answer, 405, "method", message);
    answer->allow = allow;
}

static bool is_get(const struct api_request *request)
{
    return slice_equal(request->method, SLICE("GET")) || slice_equal(request->method, SLICE("HEAD"));
}

// rest: what follows "/v1/rollouts/".
static void handle_rollout(struct engine *engine, struct slice rest, const struct api_request *request,
                           struct api_answer *answer)
{
    const char *cut = memchr(rest.data, '/', rest.len);
    struct slice tail = cut != NULL ? (struct slice){cut + 1, rest.len - (size_t)(cut + 1 - rest.data)}
                                    : (struct slice){"", 0};
    struct slice head = cut != NULL ? (struct slice){rest.data, (size_t)(cut - rest.data)} : rest;
    char name[ROLLOUT_NAME_BYTES];
    copy_word(name, sizeof name, head);
    int index = head.len < sizeof name ? engine_view_find(engine, name) : -1;
    if (index < 0) {
        answer_unknown_rollout(engine, name, answer);
        return;
    }
    bool reads = tail.len == 0 || slice_equal(tail, SLICE("events")) || slice_equal(tail, SLICE("history"));
    if (reads != is_get(request)) {
        answer_method(answer, reads ? "GET, HEAD" : "POST");
        return;
    }
    if (tail.len == 0) {
        api_answer_json(answer, 200, api_json_rollout(engine, (uint32_t)index));
    } else if (slice_equal(tail, SLICE("history"))) {
        api_answer_json(answer, 200, api_json_history(engine, (uint32_t)index));
    } else if (reads) {
        answer->status = 200;
        answer->content_type = "text/event-stream";
        answer->stream = API_STREAM_EVENTS;
        memcpy(answer->subject, name, sizeof name);
    } else {
        post_command(engine, (uint32_t)index, name, tail, request, answer);
    }
}

// ---- the door ----

// A page of another site must not reach us through the browser of somebody on this machine: neither by its
// own origin nor by a name that it made point here (DNS rebinding).
static bool host_is_ours(struct slice authority)
{
    struct slice host;
    uint16_t port;
    if (authority.len == 0)
        return true; // HTTP/1.0 tools; browsers always send one
    if (!http_host_read(authority, &host, &port))
        return false;
    bool numeric = host.data[0] == '[';
    for (size_t i = 0; i < host.len && !numeric; i++)
        if (!((host.data[i] >= '0' && host.data[i] <= '9') || host.data[i] == '.'))
            return slice_equal_nocase(host, SLICE("localhost"));
    return true; // an address cannot be rebound
}

static const struct slice FLAGS = SLICE("/v1/flags");
static const struct slice EVENTS = SLICE("/v1/events");

static bool path_is_flags(struct slice path)
{
    return slice_starts_with(path, FLAGS) && (path.len == FLAGS.len || path.data[FLAGS.len] == '/');
}

bool api_path_has_large_bodies(struct slice path)
{
    return path_is_flags(path) || slice_equal(path, EVENTS);
}

void api_handle(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    static const struct slice ROLLOUT = SLICE("/v1/rollouts/");
    bool post = slice_equal(request->method, SLICE("POST"));
    *answer = (struct api_answer){0};
    if (!host_is_ours(request->host)) {
        api_answer_error(answer, 403, "host", "reach the admin address by its number or as localhost");
        return;
    }
    if (post && request->cross_site) {
        api_answer_error(answer, 403, "origin", "commands from web pages of other origins are refused");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(SINGLES); i++) {
        if (!slice_equal(request->path, SINGLES[i].path))
            continue;
        if (is_get(request))
            SINGLES[i].get(engine, request, answer);
        else
            answer_method(answer, "GET, HEAD");
        return;
    }
    if (slice_starts_with(request->path, ROLLOUT) && request->path.len > ROLLOUT.len) {
        struct slice rest = {request->path.data + ROLLOUT.len, request->path.len - ROLLOUT.len};
        handle_rollout(engine, rest, request, answer);
        return;
    }
    if (slice_equal(request->path, EVENTS)) {
        if (post)
            api_handle_events(engine, request, answer);
        else
            answer_method(answer, "POST");
        return;
    }
    if (path_is_flags(request->path)) {
        struct slice rest = {request->path.data + FLAGS.len, request->path.len - FLAGS.len};
        api_handle_flags(engine, rest, request, answer);
        return;
    }
    api_answer_error(answer, 404, "not_found",
                     "nothing here; see /v1/status, /v1/rollouts, /v1/flags, /v1/events, /v1/table, "
                     "/healthz, /readyz, /metrics");
}
