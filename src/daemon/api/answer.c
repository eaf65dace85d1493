// SPDX-License-Identifier: Apache-2.0
// What all parts do alike: refuse, read queries and bodies, learn who asks.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "base/utf8.h"
#include "daemon/api/api_private.h"
#include "net/web/web.h"

// ---- refusals ----

void api_error(struct api_call *call, unsigned status, const char *code, const char *message)
{
    json_out_reset(&call->out);
    call->status = status;
    json_out_open(&call->out, NULL, '{');
    json_out_open(&call->out, "error", '{');
    json_out_text(&call->out, "code", code);
    json_out_text(&call->out, "message", message);
    json_out_close(&call->out, '}');
    json_out_close(&call->out, '}');
}

void api_refuse(struct api_call *call, enum status status, const char *message)
{
    static const struct {
        enum status status;
        unsigned http;
        const char *code;
    } table[] = {
        {STATUS_INVALID, 400, "invalid"},     {STATUS_RANGE, 400, "invalid"},
        {STATUS_NOT_FOUND, 404, "not_found"}, {STATUS_CONFLICT, 409, "conflict"},
        {STATUS_DENIED, 403, "denied"},       {STATUS_FULL, 409, "full"},
        {STATUS_NO_MEMORY, 503, "memory"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].status == status) {
            api_error(call, table[i].http, table[i].code, message);
            return;
        }
    }
    api_error(call, 503, "journal", message);
}

// ---- queries ----

bool api_query_value(struct slice query, struct slice name, char *out, size_t cap)
{
    size_t len = 0;
    if (web_query_find(query, name, out, cap - 1, &len) != STATUS_OK || memchr(out, '\0', len) != NULL)
        return false;
    out[len] = '\0';
    return true;
}

bool api_query_given(struct slice query, struct slice name)
{
    char value[8];
    return api_query_value(query, name, value, sizeof value) &&
           (value[0] == '\0' || strcmp(value, "1") == 0 || strcmp(value, "true") == 0);
}

// ---- bodies ----

void api_body_free(struct api_body *body)
{
    heap_free(body->nodes);
    heap_free(body->chars);
    *body = (struct api_body){0};
}

static void say_unreadable(struct api_call *call, struct slice source, const struct flags_json_error *fault)
{
    char message[200];
    uint32_t line, column;
    flags_json_position(source, fault->at, &line, &column);
    snprintf(message, sizeof message, "the body is no JSON: line %u, column %u: %s", line, column,
             fault->what);
    api_error(call, 400, "invalid", message);
}

bool api_body_read(struct api_call *call, struct api_body *body)
{
    struct slice source = call->body.len > 0 ? call->body : SLICE("{}");
    // Every value but the first stands behind a bracket, a comma or a colon of its own.
    uint32_t node_cap = (uint32_t)flags_json_node_need(source.len / 2 + 2);
    *body = (struct api_body){.nodes = heap_alloc(node_cap, sizeof *body->nodes),
                              .chars = heap_alloc(source.len + 1, 1)};
    struct flags_json_space space = {.nodes = body->nodes,
                                     .node_cap = node_cap,
                                     .chars = body->chars,
                                     .char_cap = source.len,
                                     .last_wins = true};
    struct flags_json_error fault = {0};
    enum status status = body->nodes != NULL && body->chars != NULL
                             ? flags_json_parse(source, &space, &body->root, &fault)
                             : STATUS_NO_MEMORY;
    if (status == STATUS_INVALID)
        say_unreadable(call, source, &fault);
    else if (status != STATUS_OK)
        api_refuse(call, STATUS_NO_MEMORY, "no memory is left for this body");
    else if (body->root->kind != FLAGS_JSON_OBJECT)
        api_error(call, 400, "invalid", "the body must be empty or a JSON object such as {\"who\": \"ann\"}");
    else
        return true;
    api_body_free(body);
    return false;
}

void api_who(const struct api_call *call, const struct flags_json *root, char who[ROLLOUT_WHO_BYTES])
{
    const struct flags_json *given = root != NULL ? flags_json_member(root, SLICE("who")) : NULL;
    struct slice name = call->who.len > 0 ? call->who : SLICE("api");
    if (given != NULL && given->kind == FLAGS_JSON_STRING && given->text.len > 0)
        name = given->text;
    name = utf8_cut(name, ROLLOUT_WHO_BYTES - 1);
    size_t len = 0;
    for (size_t at = 0; at < name.len;) {
        size_t n = utf8_length((struct slice){name.data + at, name.len - at});
        if (n == 0 || utf8_acts((struct slice){name.data + at, n}))
            who[len++] = '?';
        else
            for (size_t i = 0; i < n; i++)
                who[len++] = name.data[at + i];
        at += n > 0 ? n : 1;
    }
    who[len] = '\0';
}
