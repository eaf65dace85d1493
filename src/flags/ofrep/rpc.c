// SPDX-License-Identifier: Apache-2.0
// flagd's evaluation and sync services in Connect's JSON form over HTTP/1.1: unary calls as plain POSTs,
// streams in envelopes. What flagd answers by gRPC is answered here: a flag that is not there is not_found,
// one of another type invalid_argument, a rule that cannot be read data_loss, any other failure unknown; a
// disabled flag, and one without a default variant, is a success without value. As in flagd a rule that needs
// a targeting key and finds none yields the default variant.
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/eval/json.h"
#include "flags/ofrep/ofrep_private.h"
#include "net/http/field.h"

static const char STREAM_TYPE[] = "application/connect+json";

enum procedure_kind { PROCEDURE_RESOLVE, PROCEDURE_ALL, PROCEDURE_EVENTS, PROCEDURE_FETCH, PROCEDURE_SYNC };

struct procedure {
    enum ofrep_service service;
    struct slice name;
    enum procedure_kind kind;
    enum flags_type type;
};

static const struct procedure PROCEDURES[] = {
    {OFREP_SERVICE_EVALUATION, {"ResolveBoolean", 14}, PROCEDURE_RESOLVE, FLAGS_BOOLEAN},
    {OFREP_SERVICE_EVALUATION, {"ResolveString", 13}, PROCEDURE_RESOLVE, FLAGS_STRING},
    {OFREP_SERVICE_EVALUATION, {"ResolveInt", 10}, PROCEDURE_RESOLVE, FLAGS_INTEGER},
    {OFREP_SERVICE_EVALUATION, {"ResolveFloat", 12}, PROCEDURE_RESOLVE, FLAGS_FLOAT},
    {OFREP_SERVICE_EVALUATION, {"ResolveObject", 13}, PROCEDURE_RESOLVE, FLAGS_OBJECT},
    {OFREP_SERVICE_EVALUATION, {"ResolveAll", 10}, PROCEDURE_ALL, FLAGS_ANY},
    {OFREP_SERVICE_EVALUATION, {"EventStream", 11}, PROCEDURE_EVENTS, FLAGS_ANY},
    {OFREP_SERVICE_SYNC, {"FetchAllFlags", 13}, PROCEDURE_FETCH, FLAGS_ANY},
    {OFREP_SERVICE_SYNC, {"SyncFlags", 9}, PROCEDURE_SYNC, FLAGS_ANY},
};

static bool is_stream(const struct procedure *procedure)
{
    return procedure->kind == PROCEDURE_EVENTS || procedure->kind == PROCEDURE_SYNC;
}

// ---- failures ----

static void put_error(struct json_out *body, const char *code, const char *message)
{
    JSON_OUT(body, "{\"code\":");
    json_out_quote(body, slice_of(code));
    JSON_OUT(body, ",\"message\":");
    json_out_quote(body, slice_of(message));
    JSON_OUT(body, "}");
}

// The HTTP status of a code, as the protocol's table has it (of the codes in use).
static unsigned status_of_code(const char *code)
{
    static const struct {
        const char *code;
        unsigned status;
    } TABLE[] = {
        {"invalid_argument", 400},    {"not_found", 404},     {"permission_denied", 403},
        {"resource_exhausted", 429},  {"unimplemented", 501}, {"unavailable", 503},
        {"unauthenticated", 401},     {"data_loss", 500},     {"unknown", 500},
        {"failed_precondition", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(TABLE); i++)
        if (strcmp(TABLE[i].code, code) == 0)
            return TABLE[i].status;
    return 500;
}

// A stream's failure is its last message, under status 200.
static void fail(struct ofrep_call *call, const struct procedure *procedure, const char *code,
                 const char *message)
{
    struct json_out *body = &call->core->body;
    json_out_reset(body);
    if (!is_stream(procedure)) {
        ofrep_refuse(call, status_of_code(code), code, message);
        return;
    }
    size_t begin = ofrep_envelope_begin(body, true);
    JSON_OUT(body, "{\"error\":");
    put_error(body, code, message);
    JSON_OUT(body, "}");
    ofrep_envelope_end(body, begin);
    ofrep_finish(call, 200);
    call->answer->content_type = STREAM_TYPE;
}

static const char *code_of(enum flags_error error)
{
    switch (error) {
    case FLAGS_ERROR_FLAG_NOT_FOUND:
        return "not_found";
    case FLAGS_ERROR_TYPE_MISMATCH:
    case FLAGS_ERROR_INVALID_CONTEXT:
    case FLAGS_ERROR_TARGETING_KEY_MISSING:
        return "invalid_argument";
    case FLAGS_ERROR_PARSE_ERROR:
        return "data_loss";
    default:
        return "unknown";
    }
}

static void fail_flag(struct ofrep_call *call, const struct procedure *procedure, enum flags_error error,
                      struct slice text)
{
    char message[256];
    snprintf(message, sizeof message, "%s: " SLICE_FMT, flags_error_name(error), SLICE_ARG(text));
    fail(call, procedure, code_of(error), message);
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

static bool read_context(struct ofrep_call *call, const struct flags_json *root,
                         struct flags_context *context)
{
    const struct flags_json *tree = flags_json_member(root, SLICE("context"));
    *context = (struct flags_context){.time_s = (uint64_t)(call->request->wall_ms / 1000)};
    if (tree == NULL || tree->kind == FLAGS_JSON_NULL)
        return true;
    if (tree->kind != FLAGS_JSON_OBJECT)
        return false;
    context->tree = tree;
    return true;
}

// The one message of a stream's request, out of its envelope. NULL when it is good.
static const char *open_envelope(struct slice *body)
{
    if (body->len < 5)
        return "the request is no enveloped message";
    const unsigned char *head = (const unsigned char *)body->data;
    uint32_t len = (uint32_t)head[0 + 1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 | head[4];
    if (head[0] != 0)
        return "compressed messages are not read";
    if (len != body->len - 5)
        return "the envelope's length is not the message's";
    *body = (struct slice){body->data + 5, len};
    return NULL;
}

static bool read_request(struct ofrep_call *call, const struct procedure *procedure,
                         const struct flags_json **root)
{
    struct slice body = call->request->body;
    const char *bad = is_stream(procedure) ? open_envelope(&body) : NULL;
    if (bad != NULL) {
        fail(call, procedure, "invalid_argument", bad);
        return false;
    }
    enum status status = ofrep_read_body(call->core, body, root);
    if (status != STATUS_OK) {
        fail(call, procedure, status == STATUS_FULL ? "resource_exhausted" : "invalid_argument",
             call->core->details);
        return false;
    }
    if ((*root)->kind != FLAGS_JSON_OBJECT) {
        fail(call, procedure, "invalid_argument", "the message is not an object");
        return false;
    }
    return true;
}

// "application/json", with or without parameters.
static bool is_type(struct slice value, struct slice type)
{
    if (value.len < type.len || !slice_equal_nocase((struct slice){value.data, type.len}, type))
        return false;
    return value.len == type.len || value.data[type.len] == ';' || value.data[type.len] == ' ';
}

static bool speaks_connect(struct ofrep_call *call, const struct procedure *procedure)
{
    const struct http_fields *fields = call->request->fields;
    const struct http_field *type = http_fields_find(fields, HTTP_FIELD_CONTENT_TYPE);
    struct slice wanted = is_stream(procedure) ? slice_of(STREAM_TYPE) : SLICE("application/json");
    if (type == NULL || !is_type(type->value, wanted)) {
        ofrep_add_field(call, "Accept-Post", wanted);
        ofrep_refuse(call, 415, "unimplemented", "Connect's JSON form is all that is spoken here");
        return false;
    }
    const struct http_field *version = http_fields_find_name(fields, SLICE("connect-protocol-version"));
    if (version != NULL && !slice_equal(version->value, SLICE("1"))) {
        fail(call, procedure, "invalid_argument", "Connect-Protocol-Version is not 1");
        return false;
    }
    return true;
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

// An int64 is a string in the JSON form of protocol buffers.
static bool put_int(struct json_out *body, const struct flags_result *result)
{
    char text[24];
    int64_t number;
    if (!flags_result_integer(result, &number))
        return false;
    int len = snprintf(text, sizeof text, "\"%" PRId64 "\"", number);
    json_out_bytes(body, (struct slice){text, (size_t)len});
    return true;
}

static void answer_resolve(struct ofrep_call *call, const struct procedure *procedure,
                           const struct flags_json *root)
{
    struct json_out *body = &call->core->body;
    struct flags_context context;
    struct flags_result result;
    struct slice key;
    if (!read_string(root, SLICE("flagKey"), SLICE("flag_key"), &key) ||
        !read_context(call, root, &context)) {
        fail(call, procedure, "invalid_argument", "flagKey is no string, or context no object");
        return;
    }
    if (!call->matched) {
        fail_flag(call, procedure, FLAGS_ERROR_FLAG_NOT_FOUND, SLICE("nothing matches the selector"));
        return;
    }
    ofrep_evaluate(call, key, procedure->type, &context, true, &result);
    if (result.error != FLAGS_ERROR_NONE) {
        fail_flag(call, procedure, result.error, result.error_text);
        return;
    }
    JSON_OUT(body, "{");
    if (result.has_value) {
        JSON_OUT(body, "\"value\":");
        if (procedure->type != FLAGS_INTEGER)
            json_out_bytes(body, result.json);
        else if (!put_int(body, &result)) {
            fail_flag(call, procedure, FLAGS_ERROR_TYPE_MISMATCH, SLICE("the number is no 64-bit integer"));
            return;
        }
        JSON_OUT(body, ",");
    }
    put_details(body, &result);
    JSON_OUT(body, "}");
    ofrep_finish(call, 200);
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

// A flag in error is there with reason ERROR and no value.
static void answer_all(struct ofrep_call *call, const struct procedure *procedure,
                       const struct flags_json *root)
{
    struct json_out *body = &call->core->body;
    struct flags_context context;
    struct flags_result result;
    struct flags_info info;
    uint32_t cursor = 0;
    bool first = true;
    if (!read_context(call, root, &context)) {
        fail(call, procedure, "invalid_argument", "the context is no object");
        return;
    }
    JSON_OUT(body, "{\"flags\":{");
    while (call->matched && body->status == STATUS_OK && flags_image_next(&call->view.set, &cursor, &info)) {
        ofrep_evaluate(call, info.key, FLAGS_ANY, &context, false, &result);
        if (!first)
            JSON_OUT(body, ",");
        first = false;
        json_out_quote(body, info.key);
        JSON_OUT(body, ":");
        put_any(body, &result);
    }
    JSON_OUT(body, "}");
    struct slice metadata = call->matched ? flags_image_metadata(&call->view.set) : (struct slice){"", 0};
    if (metadata.len > 0) {
        JSON_OUT(body, ",\"metadata\":");
        json_out_bytes(body, metadata);
    }
    JSON_OUT(body, "}");
    ofrep_finish(call, 200);
}

static void answer_events(struct ofrep_call *call, const struct procedure *procedure)
{
    if (!ofrep_stream_begin(call, OFREP_STREAM_EVENTS, STREAM_TYPE)) {
        fail(call, procedure, "unavailable", "too many streams");
        return;
    }
    ofrep_put_provider_ready(&call->core->body);
    call->answer->body = json_out_slice(&call->core->body);
}

// ---- sync ----

// The message's own selector counts where no header gave one; it may not leave a token's environment.
static bool read_selector(struct ofrep_call *call, const struct procedure *procedure,
                          const struct flags_json *root)
{
    struct slice selector;
    if (!read_string(root, SLICE("selector"), SLICE("selector"), &selector) ||
        selector.len > sizeof call->core->selector) {
        fail(call, procedure, "invalid_argument", "the selector is no string, or too long");
        return false;
    }
    if (selector.len == 0 || slice_equal(selector, call->selector))
        return true;
    if (call->selector.len > 0) {
        fail(call, procedure, "permission_denied", "the selector is another than the request's");
        return false;
    }
    memcpy(call->core->selector, selector.data, selector.len);
    call->selector = (struct slice){call->core->selector, selector.len};
    return true;
}

static void answer_sync(struct ofrep_call *call, const struct procedure *procedure,
                        const struct flags_json *root)
{
    struct ofrep_core *core = call->core;
    if (!call->definitions) {
        fail(call, procedure, "permission_denied", "definitions need a server token");
        return;
    }
    if (!read_selector(call, procedure, root))
        return;
    size_t begin = is_stream(procedure) ? ofrep_envelope_begin(&core->body, false) : 0;
    enum status status = ofrep_put_configuration(&core->body, core->snapshot, call->selector);
    if (status != STATUS_OK || core->body.status != STATUS_OK) {
        if (status == STATUS_CONFLICT)
            fail(call, procedure, "failed_precondition",
                 "documents choose different generations of fractional: select one of them");
        else
            fail(call, procedure, "resource_exhausted", "the definitions do not fit an answer");
        return;
    }
    if (!is_stream(procedure)) {
        ofrep_finish(call, 200);
        return;
    }
    ofrep_envelope_end(&core->body, begin);
    if (!ofrep_stream_begin(call, OFREP_STREAM_SYNC, STREAM_TYPE)) {
        fail(call, procedure, "unavailable", "too many streams");
        return;
    }
    call->answer->body = json_out_slice(&core->body);
}

void ofrep_answer_rpc(struct ofrep_call *call)
{
    const struct procedure *procedure = NULL;
    const struct flags_json *root;
    for (size_t i = 0; i < ARRAY_LEN(PROCEDURES) && procedure == NULL; i++)
        if (PROCEDURES[i].service == call->service && slice_equal(PROCEDURES[i].name, call->rest))
            procedure = &PROCEDURES[i];
    if (procedure == NULL) {
        ofrep_refuse(call, 404, "unimplemented", "the service has no such procedure");
        return;
    }
    if (!speaks_connect(call, procedure) || !read_request(call, procedure, &root))
        return;
    switch (procedure->kind) {
    case PROCEDURE_RESOLVE:
        answer_resolve(call, procedure, root);
        return;
    case PROCEDURE_ALL:
        answer_all(call, procedure, root);
        return;
    case PROCEDURE_EVENTS:
        answer_events(call, procedure);
        return;
    default:
        answer_sync(call, procedure, root);
    }
}
