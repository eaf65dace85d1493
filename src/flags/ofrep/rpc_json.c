// SPDX-License-Identifier: Apache-2.0
// Connect's JSON form of the services: a message alone is the body of a plain POST, those of streams are in
// envelopes, and a stream ends with a message of its own that says how.
#include <inttypes.h>
#include <stdio.h>

#include "flags/eval/json.h"
#include "flags/ofrep/ofrep_private.h"
#include "net/http/field.h"

static const char STREAM_TYPE[] = "application/connect+json";

// ---- failures ----

static void put_error(struct json_out *body, const char *code, const char *message)
{
    JSON_OUT(body, "{\"code\":");
    json_out_quote(body, slice_of(code));
    JSON_OUT(body, ",\"message\":");
    json_out_quote(body, slice_of(message));
    JSON_OUT(body, "}");
}

static void put_end(struct json_out *out, const char *code, const char *message)
{
    size_t begin = ofrep_envelope_begin(out, true);
    JSON_OUT(out, "{\"error\":");
    put_error(out, code, message);
    JSON_OUT(out, "}");
    ofrep_envelope_end(out, begin);
}

static void refuse(struct ofrep_call *call, unsigned status, const char *code, const char *message)
{
    put_error(&call->core->body, code, message);
    ofrep_finish(call, status);
}

// Under status 200: the end of the stream that did not come about.
static void fail_stream(struct ofrep_call *call, const char *code, const char *message)
{
    put_end(&call->core->body, code, message);
    ofrep_finish(call, 200);
    call->answer->content_type = STREAM_TYPE;
}

static void end(struct json_out *event, struct web_connection *connection, const char *code,
                const char *message)
{
    put_end(event, code, message);
    (void)web_stream_send(connection, json_out_slice(event));
    web_stream_end(connection);
}

// ---- requests ----

// A string member by its JSON name or its name in the schema; absent and null are empty, as in proto3.
static bool read_string(const struct flags_json *root, struct slice name, struct slice other,
                        struct slice *value)
{
    const struct flags_json *member = flags_json_member(root, name);
    if (member == NULL)
        member = flags_json_member(root, other);
    *value = (struct slice){"", 0};
    if (member == NULL || member->kind == FLAGS_JSON_NULL)
        return true;
    if (member->kind != FLAGS_JSON_STRING)
        return false;
    *value = member->text;
    return true;
}

// "application/json", with or without parameters.
static bool is_type(struct slice value, struct slice type)
{
    if (value.len < type.len || !slice_equal_nocase((struct slice){value.data, type.len}, type))
        return false;
    return value.len == type.len || value.data[type.len] == ';' || value.data[type.len] == ' ';
}

static bool speaks_connect(struct ofrep_call *call, const struct ofrep_procedure *procedure)
{
    const struct http_fields *fields = call->request->fields;
    const struct http_field *type = http_fields_find(fields, HTTP_FIELD_CONTENT_TYPE);
    struct slice wanted = ofrep_is_stream(procedure) ? slice_of(STREAM_TYPE) : SLICE("application/json");
    if (type == NULL || !is_type(type->value, wanted)) {
        ofrep_add_field(call, "Accept-Post", wanted);
        ofrep_refuse(call, 415, "unimplemented",
                     "spoken here are Connect's JSON form and, over HTTP/2, gRPC");
        return false;
    }
    const struct http_field *version = http_fields_find_name(fields, SLICE("connect-protocol-version"));
    if (version != NULL && !slice_equal(version->value, SLICE("1"))) {
        ofrep_fail(call, procedure, "invalid_argument", "Connect-Protocol-Version is not 1");
        return false;
    }
    return true;
}

static const struct flags_json *read_root(struct ofrep_call *call, const struct ofrep_procedure *procedure)
{
    struct slice body = call->request->body;
    const struct flags_json *root;
    const char *code;
    const char *bad = ofrep_is_stream(procedure) ? ofrep_envelope_open(&body, &code) : NULL;
    if (bad != NULL) {
        ofrep_fail(call, procedure, "invalid_argument", bad);
        return NULL;
    }
    enum status status = ofrep_read_body(call->core, body, &root);
    if (status != STATUS_OK) {
        ofrep_fail(call, procedure, status == STATUS_FULL ? "resource_exhausted" : "invalid_argument",
                   call->core->details);
        return NULL;
    }
    if (root->kind == FLAGS_JSON_OBJECT)
        return root;
    ofrep_fail(call, procedure, "invalid_argument", "the message is not an object");
    return NULL;
}

static bool read_context(const struct flags_json *root, const struct flags_json **context)
{
    const struct flags_json *tree = flags_json_member(root, SLICE("context"));
    *context = tree != NULL && tree->kind != FLAGS_JSON_NULL ? tree : NULL;
    return *context == NULL || tree->kind == FLAGS_JSON_OBJECT;
}

static bool read(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                 struct ofrep_message *message)
{
    const struct flags_json *root;
    if (!speaks_connect(call, procedure) || (root = read_root(call, procedure)) == NULL)
        return false;
    if (read_string(root, SLICE("flagKey"), SLICE("flag_key"), &message->key) &&
        read_string(root, SLICE("selector"), SLICE("selector"), &message->selector) &&
        read_string(root, SLICE("service"), SLICE("service"), &message->service) &&
        read_context(root, &message->context))
        return true;
    ofrep_fail(call, procedure, "invalid_argument",
               "flagKey, selector or service is no string, or context no object");
    return false;
}

// ---- answers ----

static void put_details(struct json_out *body, const struct flags_result *result)
{
    JSON_OUT(body, "\"reason\":\"");
    json_out_bytes(body, slice_of(flags_reason_name(result->reason)));
    JSON_OUT(body, "\"");
    if (result->has_value) {
        JSON_OUT(body, ",\"variant\":");
        json_out_quote(body, result->variant);
    }
    if (result->metadata.len > 0) {
        JSON_OUT(body, ",\"metadata\":");
        json_out_bytes(body, result->metadata);
    }
}

static void put_resolved(struct json_out *body, enum flags_type type, const struct flags_result *result,
                         int64_t integer)
{
    char text[24];
    JSON_OUT(body, "{");
    if (result->has_value) {
        // An int64 is a string in the JSON form of protocol buffers.
        int len = snprintf(text, sizeof text, "\"%" PRId64 "\"", integer);
        JSON_OUT(body, "\"value\":");
        json_out_bytes(body, type == FLAGS_INTEGER ? (struct slice){text, (size_t)len} : result->json);
        JSON_OUT(body, ",");
    }
    put_details(body, result);
    JSON_OUT(body, "}");
}

static void put_any(struct json_out *body, const struct flags_result *result)
{
    static const char *const NAMES[] = {
        [FLAGS_BOOLEAN] = "\"boolValue\":",   [FLAGS_STRING] = "\"stringValue\":",
        [FLAGS_FLOAT] = "\"doubleValue\":",   [FLAGS_OBJECT] = "\"objectValue\":",
        [FLAGS_INTEGER] = "\"doubleValue\":",
    };
    JSON_OUT(body, "{");
    if (result->has_value && result->type != FLAGS_ANY) {
        json_out_bytes(body, slice_of(NAMES[result->type]));
        json_out_bytes(body, result->json);
        JSON_OUT(body, ",");
    }
    put_details(body, result);
    JSON_OUT(body, "}");
}

static void put_all_begin(struct json_out *body)
{
    JSON_OUT(body, "{\"flags\":");
    json_out_open(body, NULL, '{');
}

static void put_flag(struct json_out *body, struct slice key, const struct flags_result *result)
{
    if (body->comma)
        JSON_OUT(body, ",");
    body->comma = true;
    json_out_quote(body, key);
    JSON_OUT(body, ":");
    put_any(body, result);
}

static void put_all_end(struct json_out *body, struct slice metadata)
{
    json_out_close(body, '}');
    if (metadata.len > 0) {
        JSON_OUT(body, ",\"metadata\":");
        json_out_bytes(body, metadata);
    }
    JSON_OUT(body, "}");
}

static void put_configuration(struct json_out *body, struct slice json)
{
    JSON_OUT(body, "{\"flagConfiguration\":");
    json_out_quote(body, json);
    JSON_OUT(body, "}");
}

static void put_health(struct json_out *body, bool serving)
{
    JSON_OUT(body, "{\"status\":");
    json_out_quote(body, serving ? SLICE("SERVING") : SLICE("NOT_SERVING"));
    JSON_OUT(body, "}");
}

static void put_event(struct json_out *event, const char *type, struct slice data)
{
    JSON_OUT(event, "{\"type\":");
    json_out_quote(event, slice_of(type));
    if (data.len > 0) {
        JSON_OUT(event, ",\"data\":");
        json_out_bytes(event, data);
    }
    JSON_OUT(event, "}");
}

const struct ofrep_form OFREP_FORM_JSON = {
    .stream_type = STREAM_TYPE,
    .read = read,
    .refuse = refuse,
    .fail_stream = fail_stream,
    .put_resolved = put_resolved,
    .put_all_begin = put_all_begin,
    .put_flag = put_flag,
    .put_all_end = put_all_end,
    .put_configuration = put_configuration,
    .put_health = put_health,
    .put_event = put_event,
    .end = end,
};
