// SPDX-License-Identifier: Apache-2.0
// OFREP 0.3: single and bulk evaluation.
//
// Reasons: the published schema lists STATIC, TARGETING_MATCH, SPLIT, DISABLED and UNKNOWN. The protocol's
// own decision record on code defaults and flagd's OFREP say DEFAULT as well, providers hand the word
// through, and to call a known reason UNKNOWN would take it from the application. So DEFAULT is said, unless
// strict reasons are configured or the request has "Prefer: handling=strict" (RFC 7240): then it is UNKNOWN.
//
// Targeting key: the schema requires one in every context, yet a flag that needs none has one right answer
// without it, and for one that does flagd's scenarios expect its default variant. So TARGETING_KEY_MISSING is
// the answer of a flag that uses the key when there is nothing else to go by: an empty context, or no default
// variant.
#include <stdio.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/eval/json.h"
#include "flags/ofrep/ofrep_private.h"
#include "net/http/field.h"

// What is wrong with a whole request.
struct refusal {
    unsigned status;
    const char *code; // NULL: errorDetails alone
    const char *details;
};

static bool read_context(struct ofrep_call *call, struct flags_context *context, struct refusal *fault)
{
    const struct flags_json *root;
    struct ofrep_core *core = call->core;
    *context = (struct flags_context){.time_s = (uint64_t)(call->request->wall_ms / 1000)};
    enum status status = ofrep_read_body(core, call->request->body, &root);
    if (status != STATUS_OK) {
        bool full = status == STATUS_FULL;
        *fault = (struct refusal){full ? 413 : 400, full ? NULL : "PARSE_ERROR", core->details};
        return false;
    }
    const struct flags_json *tree =
        root->kind == FLAGS_JSON_OBJECT ? flags_json_member(root, SLICE("context")) : NULL;
    if (tree == NULL || tree->kind != FLAGS_JSON_OBJECT) {
        *fault = (struct refusal){400, "INVALID_CONTEXT",
                                  tree == NULL ? "the body has no context" : "the context is not an object"};
        return false;
    }
    context->tree = tree;
    context->key_required = tree->count == 0;
    return true;
}

static void resolve(struct ofrep_call *call, struct slice key, const struct flags_context *context,
                    bool exposed, struct flags_result *result)
{
    ofrep_evaluate(call, key, FLAGS_ANY, context, exposed, result);
    if (result->has_value || result->reason != FLAGS_REASON_DEFAULT)
        return;
    struct flags_context strict = *context;
    struct flags_result again;
    strict.key_required = true;
    flags_evaluate(&call->view.set, key, FLAGS_ANY, &strict, call->core->scratch, &again);
    if (again.error == FLAGS_ERROR_TARGETING_KEY_MISSING)
        *result = again;
}

static bool wants_strict(const struct ofrep_call *call)
{
    const struct http_field *prefer;
    if (call->core->strict_reasons)
        return true;
    prefer = http_fields_find_name(call->request->fields, SLICE("prefer"));
    return prefer != NULL && http_list_has(prefer->value, SLICE("handling=strict"));
}

static void put_metadata(struct json_out *body, struct slice metadata)
{
    if (metadata.len == 0)
        return;
    JSON_OUT(body, ",\"metadata\":");
    json_out_bytes(body, metadata);
}

static void put_result(struct ofrep_call *call, struct slice key, const struct flags_result *result)
{
    struct json_out *body = &call->core->body;
    JSON_OUT(body, "{\"key\":");
    json_out_quote(body, key);
    if (result->error != FLAGS_ERROR_NONE) {
        JSON_OUT(body, ",\"errorCode\":");
        json_out_quote(body, slice_of(flags_error_name(result->error)));
        JSON_OUT(body, ",\"errorDetails\":");
        json_out_quote(body, result->error_text);
    } else {
        bool unknown = call->strict && result->reason == FLAGS_REASON_DEFAULT;
        JSON_OUT(body, ",\"reason\":\"");
        json_out_bytes(body, slice_of(unknown ? "UNKNOWN" : flags_reason_name(result->reason)));
        JSON_OUT(body, "\"");
        // Without a value the caller's own default answers (protocol decision record 6).
        if (result->has_value) {
            JSON_OUT(body, ",\"variant\":");
            json_out_quote(body, result->variant);
            JSON_OUT(body, ",\"value\":");
            json_out_bytes(body, result->json);
        }
    }
    put_metadata(body, result->metadata);
    JSON_OUT(body, "}");
}

static unsigned status_of(enum flags_error error)
{
    if (error == FLAGS_ERROR_NONE)
        return 200;
    return error == FLAGS_ERROR_FLAG_NOT_FOUND ? 404 : 400;
}

static void fail_single(struct ofrep_call *call, struct slice key, const struct refusal *fault)
{
    struct json_out *body = &call->core->body;
    if (fault->code == NULL) {
        ofrep_refuse(call, fault->status, "", fault->details);
        return;
    }
    JSON_OUT(body, "{\"key\":");
    json_out_quote(body, key);
    JSON_OUT(body, ",\"errorCode\":");
    json_out_quote(body, slice_of(fault->code));
    JSON_OUT(body, ",\"errorDetails\":");
    json_out_quote(body, slice_of(fault->details));
    JSON_OUT(body, "}");
    ofrep_finish(call, fault->status);
}

void ofrep_answer_single(struct ofrep_call *call)
{
    struct ofrep_core *core = call->core;
    struct flags_context context;
    struct flags_result result;
    struct refusal fault;
    struct slice key = {core->key, 0};
    if (web_path_decode(call->rest, core->key, OFREP_KEY_BYTES_MAX, &key.len) != STATUS_OK) {
        fault = (struct refusal){400, "PARSE_ERROR", "the key is malformed or too long"};
        size_t len = call->rest.len < OFREP_KEY_BYTES_MAX ? call->rest.len : OFREP_KEY_BYTES_MAX;
        fail_single(call, (struct slice){call->rest.data, len}, &fault);
        return;
    }
    if (!read_context(call, &context, &fault)) {
        fail_single(call, key, &fault);
        return;
    }
    if (!call->matched) {
        fault = (struct refusal){404, "FLAG_NOT_FOUND", "nothing matches the selector"};
        fail_single(call, key, &fault);
        return;
    }
    resolve(call, key, &context, true, &result);
    call->strict = result.reason == FLAGS_REASON_DEFAULT && wants_strict(call);
    put_result(call, key, &result);
    ofrep_finish(call, status_of(result.error));
}

// ---- bulk ----

// Percent-encodes what is not unreserved (RFC 3986 2.3).
static void put_encoded(struct json_out *body, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        char code[4];
        bool plain = (c >= '0' && c <= '9') ||
                     (slice_lower_char((char)c) >= 'a' && slice_lower_char((char)c) <= 'z') || c == '-' ||
                     c == '.' || c == '_' || c == '~';
        if (plain) {
            json_out_bytes(body, (struct slice){&text.data[i], 1});
            continue;
        }
        snprintf(code, sizeof code, "%%%02X", c);
        json_out_bytes(body, (struct slice){code, 3});
    }
}

// No URL of our own: behind a proxy we do not know it. The provider uses the origin it talks to.
static void put_streams(struct ofrep_call *call)
{
    struct json_out *body = &call->core->body;
    JSON_OUT(body, ",\"eventStreams\":[{\"type\":\"sse\",\"endpoint\":{\"requestUri\":\"/ofrep/v1/stream");
    if (call->selector.len > 0) {
        JSON_OUT(body, "?selector=");
        put_encoded(body, call->selector);
    }
    JSON_OUT(body, "\"},\"inactivityDelaySec\":120}]");
}

static void put_flags(struct ofrep_call *call, const struct flags_context *context)
{
    struct json_out *body = &call->core->body;
    struct flags_info info;
    struct flags_result result;
    uint32_t cursor = 0;
    bool first = true;
    while (body->status == STATUS_OK && flags_image_next(&call->view.set, &cursor, &info)) {
        resolve(call, info.key, context, false, &result);
        if (!first)
            JSON_OUT(body, ",");
        put_result(call, info.key, &result);
        first = false;
    }
}

// The tag covers the set (its own tag), the selector, the context as it was written, and the answer itself,
// which says the rest: schedules and $flagd.timestamp.
static uint64_t tag_of(const struct ofrep_call *call, const struct flags_context *context)
{
    static const struct siphash_key KEY = {0x6f66726570207461, 0x67206f6620612073};
    struct slice body = json_out_slice(&call->core->body);
    struct slice asked = context->tree->text;
    uint64_t parts[4] = {
        call->matched ? call->view.tag : 0,
        siphash(KEY, call->selector.data, call->selector.len),
        siphash(KEY, asked.data, asked.len),
        siphash(KEY, body.data, body.len),
    };
    return siphash(KEY, parts, sizeof parts);
}

// Weak comparison (RFC 9110 13.1.2); a tag without quotes, as the schema's example has it, counts too.
static bool none_match_fails(const struct http_fields *fields, struct slice tag)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        struct slice rest = fields->items[i].value;
        struct slice one;
        if (fields->items[i].id != HTTP_FIELD_IF_NONE_MATCH)
            continue;
        while (http_list_next(&rest, &one)) {
            if (slice_equal(one, SLICE("*")))
                return true;
            if (slice_starts_with(one, SLICE("W/")))
                one = (struct slice){one.data + 2, one.len - 2};
            if (one.len >= 2 && one.data[0] == '"' && one.data[one.len - 1] == '"')
                one = (struct slice){one.data + 1, one.len - 2};
            if (slice_equal(one, tag))
                return true;
        }
    }
    return false;
}

static void fail_bulk(struct ofrep_call *call, const struct refusal *fault)
{
    struct json_out *body = &call->core->body;
    if (fault->code == NULL) {
        ofrep_refuse(call, fault->status, "", fault->details);
        return;
    }
    JSON_OUT(body, "{\"errorCode\":");
    json_out_quote(body, slice_of(fault->code));
    JSON_OUT(body, ",\"errorDetails\":");
    json_out_quote(body, slice_of(fault->details));
    JSON_OUT(body, "}");
    ofrep_finish(call, fault->status);
}

void ofrep_answer_bulk(struct ofrep_call *call)
{
    struct json_out *body = &call->core->body;
    struct flags_context context;
    struct refusal fault;
    char tag[20];
    char quoted[24];
    if (!read_context(call, &context, &fault)) {
        fail_bulk(call, &fault);
        return;
    }
    call->strict = wants_strict(call);
    JSON_OUT(body, "{\"flags\":[");
    if (call->matched)
        put_flags(call, &context);
    JSON_OUT(body, "]");
    put_streams(call);
    if (call->matched)
        put_metadata(body, flags_image_metadata(&call->view.set));
    JSON_OUT(body, "}");
    if (body->status == STATUS_OK) {
        snprintf(tag, sizeof tag, "%016llx", (unsigned long long)tag_of(call, &context));
        snprintf(quoted, sizeof quoted, "\"%s\"", tag);
        ofrep_add_field(call, "ETag", slice_of(quoted));
    }
    if (body->status == STATUS_OK && none_match_fails(call->request->fields, slice_of(tag))) {
        json_out_reset(body);
        ofrep_finish(call, 304);
        return;
    }
    ofrep_finish(call, 200);
}
