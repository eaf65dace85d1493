// SPDX-License-Identifier: Apache-2.0
// flagd's evaluation and sync services, and gRPC's health service, whatever form they are spoken in. What
// flagd answers is answered here: a flag that is not there is not_found, one of another type
// invalid_argument, a rule that cannot be read data_loss, any other failure unknown; a disabled flag, and one
// without a default variant, is a success without value. As in flagd a rule that needs a targeting key and
// finds none yields the default variant.
#include <stdio.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/ofrep/ofrep_private.h"

static const struct ofrep_procedure PROCEDURES[] = {
    {OFREP_SERVICE_EVALUATION, {"ResolveBoolean", 14}, OFREP_PROCEDURE_RESOLVE, FLAGS_BOOLEAN},
    {OFREP_SERVICE_EVALUATION, {"ResolveString", 13}, OFREP_PROCEDURE_RESOLVE, FLAGS_STRING},
    {OFREP_SERVICE_EVALUATION, {"ResolveInt", 10}, OFREP_PROCEDURE_RESOLVE, FLAGS_INTEGER},
    {OFREP_SERVICE_EVALUATION, {"ResolveFloat", 12}, OFREP_PROCEDURE_RESOLVE, FLAGS_FLOAT},
    {OFREP_SERVICE_EVALUATION, {"ResolveObject", 13}, OFREP_PROCEDURE_RESOLVE, FLAGS_OBJECT},
    {OFREP_SERVICE_EVALUATION, {"ResolveAll", 10}, OFREP_PROCEDURE_ALL, FLAGS_ANY},
    {OFREP_SERVICE_EVALUATION, {"EventStream", 11}, OFREP_PROCEDURE_EVENTS, FLAGS_ANY},
    {OFREP_SERVICE_SYNC, {"FetchAllFlags", 13}, OFREP_PROCEDURE_FETCH, FLAGS_ANY},
    {OFREP_SERVICE_SYNC, {"SyncFlags", 9}, OFREP_PROCEDURE_SYNC, FLAGS_ANY},
    {OFREP_SERVICE_HEALTH, {"Check", 5}, OFREP_PROCEDURE_HEALTH, FLAGS_ANY},
};

bool ofrep_is_stream(const struct ofrep_procedure *procedure)
{
    return procedure->kind == OFREP_PROCEDURE_EVENTS || procedure->kind == OFREP_PROCEDURE_SYNC;
}

// ---- failures ----

// The codes in use: the HTTP status of each as Connect's table has it, and gRPC's number ("Status codes and
// their use in gRPC").
static const struct code {
    const char *name;
    unsigned status;
    unsigned number;
} CODES[] = {
    {"unknown", 500, 2},        {"invalid_argument", 400, 3},    {"deadline_exceeded", 504, 4},
    {"not_found", 404, 5},      {"permission_denied", 403, 7},   {"resource_exhausted", 429, 8},
    {"unimplemented", 501, 12}, {"failed_precondition", 400, 9}, {"internal", 500, 13},
    {"unavailable", 503, 14},   {"data_loss", 500, 15},          {"unauthenticated", 401, 16},
};

static const struct code *code_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(CODES); i++)
        if (strcmp(CODES[i].name, name) == 0)
            return &CODES[i];
    return &CODES[0];
}

unsigned ofrep_code_number(const char *code)
{
    return code_by_name(code)->number;
}

void ofrep_fail(struct ofrep_call *call, const struct ofrep_procedure *procedure, const char *code,
                const char *message)
{
    if (!ofrep_is_stream(procedure) || call->form->fail_stream == NULL) {
        ofrep_refuse(call, code_by_name(code)->status, code, message);
        return;
    }
    json_out_reset(&call->core->body);
    call->form->fail_stream(call, code, message);
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

static void fail_flag(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                      enum flags_error error, struct slice text)
{
    char message[256];
    snprintf(message, sizeof message, "%s: " SLICE_FMT, flags_error_name(error), SLICE_ARG(text));
    ofrep_fail(call, procedure, code_of(error), message);
}

// ---- messages ----

const char *ofrep_envelope_open(struct slice *body, const char **code)
{
    *code = "unimplemented"; // another number of messages than one
    if (body->len == 0)
        return "the request has no message";
    *code = "internal";
    if (body->len < 5)
        return "the request is no enveloped message";
    const unsigned char *head = (const unsigned char *)body->data;
    uint32_t len = (uint32_t)head[0 + 1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 | head[4];
    if (head[0] == 1) {
        *code = "unimplemented";
        return "compressed messages are not read";
    }
    if (head[0] != 0)
        return "the envelope has flags that are not known";
    if (len > OFREP_CONTEXT_BYTES_MAX) {
        *code = "resource_exhausted";
        return "the message is too large";
    }
    if (len > body->len - 5)
        return "the message is shorter than its envelope says";
    if (len < body->len - 5) {
        *code = "unimplemented";
        return "the request has more than one message";
    }
    *body = (struct slice){body->data + 5, len};
    return NULL;
}

// Writing the answer's message; `end` gets what `begin` gave.
static size_t begin_message(struct ofrep_call *call, const struct ofrep_procedure *procedure)
{
    bool enveloped = call->form->enveloped || ofrep_is_stream(procedure);
    return enveloped ? ofrep_envelope_begin(&call->core->body, false) : SIZE_MAX;
}

static void end_message(struct ofrep_call *call, size_t begin)
{
    if (begin != SIZE_MAX)
        ofrep_envelope_end(&call->core->body, begin);
}

static void finish_message(struct ofrep_call *call, size_t begin)
{
    end_message(call, begin);
    ofrep_finish(call, 200);
}

static struct flags_context context_of(const struct ofrep_call *call, const struct ofrep_message *message)
{
    return (struct flags_context){.tree = message->context,
                                  .time_s = (uint64_t)(call->request->wall_ms / 1000)};
}

// ---- evaluation ----

static void answer_resolve(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                           const struct ofrep_message *message)
{
    struct flags_context context = context_of(call, message);
    struct flags_result result;
    int64_t integer = 0;
    if (!call->matched) {
        fail_flag(call, procedure, FLAGS_ERROR_FLAG_NOT_FOUND, SLICE("nothing matches the selector"));
        return;
    }
    ofrep_evaluate(call, message->key, procedure->type, &context, true, &result);
    if (result.error != FLAGS_ERROR_NONE) {
        fail_flag(call, procedure, result.error, result.error_text);
        return;
    }
    if (procedure->type == FLAGS_INTEGER && result.has_value && !flags_result_integer(&result, &integer)) {
        fail_flag(call, procedure, FLAGS_ERROR_TYPE_MISMATCH, SLICE("the number is no 64-bit integer"));
        return;
    }
    size_t begin = begin_message(call, procedure);
    call->form->put_resolved(&call->core->body, procedure->type, &result, integer);
    finish_message(call, begin);
}

// A flag in error is there with reason ERROR and no value.
static void answer_all(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                       const struct ofrep_message *message)
{
    struct json_out *body = &call->core->body;
    struct flags_context context = context_of(call, message);
    struct flags_result result;
    struct flags_info info;
    uint32_t cursor = 0;
    size_t begin = begin_message(call, procedure);
    call->form->put_all_begin(body);
    while (call->matched && body->status == STATUS_OK && flags_image_next(&call->view.set, &cursor, &info)) {
        ofrep_evaluate(call, info.key, FLAGS_ANY, &context, false, &result);
        call->form->put_flag(body, info.key, &result);
    }
    call->form->put_all_end(body,
                            call->matched ? flags_image_metadata(&call->view.set) : (struct slice){"", 0});
    finish_message(call, begin);
}

static void open_stream(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                        enum ofrep_stream_kind kind)
{
    if (ofrep_stream_begin(call, kind, call->form->stream_type))
        call->answer->body = json_out_slice(&call->core->body);
    else
        ofrep_fail(call, procedure, "unavailable", "too many streams");
}

static void answer_events(struct ofrep_call *call, const struct ofrep_procedure *procedure)
{
    size_t begin = begin_message(call, procedure);
    call->form->put_event(&call->core->body, "provider_ready", (struct slice){"", 0});
    end_message(call, begin);
    open_stream(call, procedure, OFREP_STREAM_EVENTS);
}

// ---- sync ----

// The message's own selector counts where no header gave one; it may not leave a token's environment.
static bool take_selector(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                          struct slice selector)
{
    if (selector.len > sizeof call->core->selector) {
        ofrep_fail(call, procedure, "invalid_argument", "the selector is too long");
        return false;
    }
    if (selector.len == 0 || slice_equal(selector, call->selector))
        return true;
    if (call->selector.len > 0) {
        ofrep_fail(call, procedure, "permission_denied", "the selector is another than the request's");
        return false;
    }
    memcpy(call->core->selector, selector.data, selector.len);
    call->selector = (struct slice){call->core->selector, selector.len};
    return true;
}

static void answer_sync(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                        const struct ofrep_message *message)
{
    struct ofrep_core *core = call->core;
    if (!call->definitions) {
        ofrep_fail(call, procedure, "permission_denied", "definitions need a server token");
        return;
    }
    if (!take_selector(call, procedure, message->selector))
        return;
    size_t begin = begin_message(call, procedure);
    enum status status = ofrep_put_configuration(&core->body, call->form, core->snapshot, call->selector);
    if (status == STATUS_CONFLICT)
        ofrep_fail(call, procedure, "failed_precondition",
                   "documents choose different generations of fractional: select one of them");
    else if (status != STATUS_OK || core->body.status != STATUS_OK)
        ofrep_fail(call, procedure, "resource_exhausted", "the definitions do not fit an answer");
    else if (procedure->kind == OFREP_PROCEDURE_FETCH)
        finish_message(call, begin);
    else {
        end_message(call, begin);
        open_stream(call, procedure, OFREP_STREAM_SYNC);
    }
}

// ---- health ----

// Of the whole server (no name), or of one of its services; for all of them flags are what they need.
static void answer_health(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                          const struct ofrep_message *message)
{
    static const struct slice NAMES[] = {
        {"", 0},
        {"flagd.evaluation.v1.Service", 27},
        {"flagd.evaluation.v2.Service", 27},
        {"flagd.sync.v1.FlagSyncService", 29},
    };
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        if (!slice_equal(NAMES[i], message->service))
            continue;
        size_t begin = begin_message(call, procedure);
        call->form->put_health(&call->core->body, call->core->snapshot != NULL);
        finish_message(call, begin);
        return;
    }
    ofrep_fail(call, procedure, "not_found", "there is no such service");
}

// ---- all ----

static const struct ofrep_procedure *find_procedure(const struct ofrep_call *call)
{
    for (size_t i = 0; i < ARRAY_LEN(PROCEDURES); i++)
        if (PROCEDURES[i].service == call->service && slice_equal(PROCEDURES[i].name, call->rest))
            return &PROCEDURES[i];
    return NULL;
}

void ofrep_answer_rpc(struct ofrep_call *call)
{
    const struct ofrep_procedure *procedure = find_procedure(call);
    struct ofrep_message message = {.key = {"", 0}, .selector = {"", 0}, .service = {"", 0}};
    if (procedure == NULL) {
        ofrep_refuse(call, 404, "unimplemented", "the service has no such procedure");
        return;
    }
    if (!call->form->read(call, procedure, &message))
        return;
    switch (procedure->kind) {
    case OFREP_PROCEDURE_RESOLVE:
        answer_resolve(call, procedure, &message);
        return;
    case OFREP_PROCEDURE_ALL:
        answer_all(call, procedure, &message);
        return;
    case OFREP_PROCEDURE_EVENTS:
        answer_events(call, procedure);
        return;
    case OFREP_PROCEDURE_HEALTH:
        answer_health(call, procedure, &message);
        return;
    default:
        answer_sync(call, procedure, &message);
    }
}
