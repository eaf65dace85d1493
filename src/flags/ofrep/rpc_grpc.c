// SPDX-License-Identifier: Apache-2.0
// gRPC over HTTP/2 ("gRPC over HTTP2"): each message in an envelope, in the wire format of Protocol Buffers,
// and how the call ended in the trailers; an answer without a message is a head alone. Messages are those of
// flagd's evaluation.proto and sync.proto, and of gRPC's health.proto. Compressed messages are not read, and
// the answer says so.
#include <stdio.h>

#include "base/protobuf.h"
#include "base/utf8.h"
#include "flags/ofrep/ofrep_private.h"
#include "net/http/field.h"

static const char GRPC_TYPE[] = "application/grpc";

enum { TIMEOUT_DIGITS_MAX = 8, MESSAGE_BYTES_MAX = 300 };

// "application/grpc" with "+proto", parameters or neither; "application/grpc-web" is something else.
bool ofrep_is_grpc(const struct web_request *request)
{
    const struct http_field *type =
        request->http2 ? http_fields_find(request->fields, HTTP_FIELD_CONTENT_TYPE) : NULL;
    if (type == NULL || !slice_starts_with(type->value, slice_of(GRPC_TYPE)))
        return false;
    struct slice rest = {type->value.data + sizeof GRPC_TYPE - 1, type->value.len + 1 - sizeof GRPC_TYPE};
    if (slice_starts_with(rest, SLICE("+proto")))
        rest = (struct slice){rest.data + 6, rest.len - 6};
    return rest.len == 0 || rest.data[0] == ';' || rest.data[0] == ' ';
}

// ---- ends ----

// The message percent-encoded, as "Status-Message" has it.
static void put_trailers(struct text *trailers, const char *code, const char *message)
{
    text_addf(trailers, "grpc-status: %u\r\ngrpc-message: ", ofrep_code_number(code));
    struct slice rest = utf8_cut(slice_of(message), MESSAGE_BYTES_MAX);
    rest.len -= rest.len > 0 && rest.data[rest.len - 1] == '\n';
    for (size_t i = 0; i < rest.len; i++) {
        unsigned char c = (unsigned char)rest.data[i];
        if (c < ' ' || c > '~' || c == '%')
            text_addf(trailers, "%%%02X", c);
        else
            text_add_char(trailers, (char)c);
    }
    text_add(trailers, SLICE("\r\n"));
}

static void refuse(struct ofrep_call *call, unsigned status, const char *code, const char *message)
{
    (void)status;
    put_trailers(&call->core->trailers, code, message);
    ofrep_finish(call, 200);
}

static void finish(struct ofrep_call *call)
{
    const struct text *trailers = &call->core->trailers;
    call->answer->status = 200;
    call->answer->content_type = GRPC_TYPE;
    call->answer->trailed = true;
    call->answer->trailers = trailers->len > 0 ? text_slice(trailers) : SLICE("grpc-status: 0\r\n");
}

static void end(struct json_out *event, struct web_connection *connection, const char *code,
                const char *message)
{
    char bytes[OFREP_TRAILER_BYTES];
    struct text trailers = text_over(bytes, sizeof bytes);
    (void)event;
    put_trailers(&trailers, code, message);
    web_stream_end_trailed(connection, text_slice(&trailers));
}

// ---- requests ----

// "Timeout": up to eight digits and a unit. False: it is none.
static bool read_timeout(struct slice value, uint64_t *us)
{
    static const struct {
        char unit;
        uint64_t us;
    } UNITS[] = {{'H', 3600000000}, {'M', 60000000}, {'S', 1000000}, {'m', 1000}, {'u', 1}};
    uint64_t number = 0;
    if (value.len < 2 || value.len > TIMEOUT_DIGITS_MAX + 1)
        return false;
    for (size_t i = 0; i + 1 < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(value.data[i] - '0');
    }
    char unit = value.data[value.len - 1];
    *us = number / 1000;
    if (unit == 'n')
        return true;
    for (size_t i = 0; i < ARRAY_LEN(UNITS); i++) {
        *us = number * UNITS[i].us;
        if (UNITS[i].unit == unit)
            return true;
    }
    return false;
}

static bool within_time(struct ofrep_call *call, const struct ofrep_procedure *procedure)
{
    const struct web_request *request = call->request;
    const struct http_field *timeout = http_fields_find_name(request->fields, SLICE("grpc-timeout"));
    uint64_t us;
    if (timeout == NULL)
        return true;
    if (!read_timeout(timeout->value, &us)) {
        ofrep_fail(call, procedure, "invalid_argument", "grpc-timeout is malformed");
        return false;
    }
    call->due_us = request->begun_us + us;
    if (request->now_us < call->due_us)
        return true;
    ofrep_fail(call, procedure, "deadline_exceeded", "the request took longer than its time");
    return false;
}

static bool open_message(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                         struct slice *message)
{
    const char *code;
    *message = call->request->body;
    const char *bad = ofrep_envelope_open(message, &code);
    if (bad == NULL)
        return true;
    // Compressed without a word of how is the client's fault; otherwise it learns what is read here.
    bool compressed = call->request->body.len >= 5 && call->request->body.data[0] == 1;
    const struct http_field *coding = http_fields_find_name(call->request->fields, SLICE("grpc-encoding"));
    if (compressed && (coding == NULL || slice_equal(coding->value, SLICE("identity"))))
        code = "internal";
    else if (compressed)
        ofrep_add_field(call, "grpc-accept-encoding", SLICE("identity"));
    ofrep_fail(call, procedure, code, bad);
    return false;
}

// Where a procedure's message has its parts; 0: nowhere.
struct numbers {
    uint32_t key, context, selector, service;
};

static const struct numbers NUMBERS[] = {
    [OFREP_PROCEDURE_RESOLVE] = {.key = 1, .context = 2},
    [OFREP_PROCEDURE_ALL] = {.context = 1},
    [OFREP_PROCEDURE_EVENTS] = {0},
    [OFREP_PROCEDURE_FETCH] = {.selector = 2},
    [OFREP_PROCEDURE_SYNC] = {.selector = 2},
    [OFREP_PROCEDURE_HEALTH] = {.service = 1},
};

// NULL, or what is wrong. *context: its bytes; data is NULL when there is none.
static const char *read_fields(struct slice bytes, const struct numbers *numbers,
                               struct ofrep_message *message, struct slice *context)
{
    struct protobuf_reader reader = {.rest = bytes};
    struct protobuf_field field;
    *context = (struct slice){NULL, 0};
    while (protobuf_next(&reader, &field)) {
        if (field.type != PROTOBUF_BYTES)
            continue;
        if (field.number == numbers->key)
            message->key = field.bytes;
        else if (field.number == numbers->context)
            *context = field.bytes;
        else if (field.number == numbers->selector)
            message->selector = field.bytes;
        else if (field.number == numbers->service)
            message->service = field.bytes;
    }
    bool texts = utf8_valid(message->key) && utf8_valid(message->selector) && utf8_valid(message->service);
    return reader.bad ? "the message is broken" : texts ? NULL : "a text of the message is not UTF-8";
}

static bool read_context(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                         struct slice context, struct ofrep_message *message)
{
    struct ofrep_core *core = call->core;
    const char *wrong = ofrep_struct_read(context, &core->aside);
    if (wrong != NULL) {
        ofrep_fail(call, procedure, "invalid_argument", wrong);
        return false;
    }
    enum status status = ofrep_read_body(core, json_out_slice(&core->aside), &message->context);
    if (status == STATUS_OK)
        return true;
    ofrep_fail(call, procedure, status == STATUS_FULL ? "resource_exhausted" : "invalid_argument",
               core->details);
    return false;
}

static bool read(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                 struct ofrep_message *message)
{
    struct slice bytes;
    struct slice context;
    if (!within_time(call, procedure) || !open_message(call, procedure, &bytes))
        return false;
    const char *wrong = read_fields(bytes, &NUMBERS[procedure->kind], message, &context);
    if (wrong != NULL) {
        ofrep_fail(call, procedure, "internal", wrong);
        return false;
    }
    return context.data == NULL || read_context(call, procedure, context, message);
}

// ---- answers ----

// A value by its type.
static void put_value(struct json_out *body, uint32_t number, enum flags_type type,
                      const struct flags_result *result, int64_t integer)
{
    if (type == FLAGS_BOOLEAN)
        protobuf_put_varint(body, number, result->boolean);
    else if (type == FLAGS_STRING)
        protobuf_put_bytes(body, number, result->text);
    else if (type == FLAGS_INTEGER)
        protobuf_put_varint(body, number, (uint64_t)integer);
    else if (type == FLAGS_FLOAT)
        protobuf_put_double(body, number, result->number);
    else
        ofrep_struct_put(body, number, result->json);
}

static void put_reason(struct json_out *body, uint32_t number, const struct flags_result *result)
{
    protobuf_put_bytes(body, number, slice_of(flags_reason_name(result->reason)));
    if (result->has_value)
        protobuf_put_bytes(body, number + 1, result->variant);
}

static void put_metadata(struct json_out *body, uint32_t number, struct slice metadata)
{
    if (metadata.len > 0)
        ofrep_struct_put(body, number, metadata);
}

// ResolveBooleanResponse and its like: value, reason, variant, metadata. The value is written also where it
// is the zero of its type: v2 tells that from none.
static void put_resolved(struct json_out *body, enum flags_type type, const struct flags_result *result,
                         int64_t integer)
{
    if (result->has_value)
        put_value(body, 1, type, result, integer);
    put_reason(body, 2, result);
    put_metadata(body, 4, result->metadata);
}

static void put_all_begin(struct json_out *body)
{
    (void)body;
}

// AnyFlag: reason, variant, one of four kinds of value, metadata.
static void put_flag(struct json_out *body, struct slice key, const struct flags_result *result)
{
    static const uint32_t KINDS[] = {
        [FLAGS_BOOLEAN] = 3, [FLAGS_STRING] = 4, [FLAGS_INTEGER] = 5, [FLAGS_FLOAT] = 5, [FLAGS_OBJECT] = 6};
    size_t entry = protobuf_open(body, 1);
    protobuf_put_bytes(body, 1, key);
    size_t flag = protobuf_open(body, 2);
    put_reason(body, 1, result);
    if (result->has_value && result->type != FLAGS_ANY)
        put_value(body, KINDS[result->type], result->type == FLAGS_INTEGER ? FLAGS_FLOAT : result->type,
                  result, 0);
    put_metadata(body, 7, result->metadata);
    protobuf_close(body, flag);
    protobuf_close(body, entry);
}

static void put_all_end(struct json_out *body, struct slice metadata)
{
    put_metadata(body, 2, metadata);
}

static void put_configuration(struct json_out *body, struct slice json)
{
    protobuf_put_bytes(body, 1, json);
}

static void put_health(struct json_out *body, bool serving)
{
    protobuf_put_varint(body, 1, serving ? 1 : 2);
}

static void put_event(struct json_out *event, const char *type, struct slice data)
{
    protobuf_put_bytes(event, 1, slice_of(type));
    if (data.len > 0)
        ofrep_struct_put(event, 2, data);
}

const struct ofrep_form OFREP_FORM_GRPC = {
    .stream_type = GRPC_TYPE,
    .enveloped = true,
    .read = read,
    .refuse = refuse,
    .finish = finish,
    .put_resolved = put_resolved,
    .put_all_begin = put_all_begin,
    .put_flag = put_flag,
    .put_all_end = put_all_end,
    .put_configuration = put_configuration,
    .put_health = put_health,
    .put_event = put_event,
    .end = end,
};
