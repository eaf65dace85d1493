// SPDX-License-Identifier: Apache-2.0
// One evaluation for a person who asks why: the value, and the path to the rule that decided. It is counted
// nowhere, so that looking at a flag does not make it look used.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "daemon/api/flags.h"
#include "flags/set/flagset.h"
#include "ship/engine/engine.h"

// Without the member any type is good.
static bool read_type(const struct flags_json *given, enum flags_type *type)
{
    *type = FLAGS_ANY;
    return given == NULL ||
           (given->kind == FLAGS_JSON_STRING && flags_type_read(given->text, type) == STATUS_OK);
}

static void write_result(struct json_out *out, struct slice key, const struct flags_result *result,
                         const struct text *path, uint64_t version)
{
    json_out_open(out, NULL, '{');
    json_out_string(out, "key", key);
    json_out_bool(out, "has_value", result->has_value);
    json_out_raw(out, "value", result->has_value ? result->json : SLICE("null"));
    api_write_slice(out, "variant", result->variant);
    json_out_text(out, "reason", flags_reason_name(result->reason));
    api_write_slice(out, "error", slice_of(flags_error_name(result->error)));
    api_write_slice(out, "error_text", result->error_text);
    api_write_slice(out, "note", result->note);
    api_write_slice(out, "path", text_slice(path));
    json_out_raw(out, "metadata", result->metadata.len > 0 ? result->metadata : SLICE("{}"));
    json_out_count(out, "version", version);
    json_out_close(out, '}');
}

static void evaluate(struct api_call *call, enum flags_type type, const struct flags_json *tree)
{
    const struct flagset_snapshot *snapshot =
        flagset_current(runtime_flagset(targets_of(call->engine)->runtime));
    struct slice key = slice_of(call->words[0]);
    char storage[API_FLAGS_PATH_BYTES];
    struct text path = text_over(storage, sizeof storage);
    struct flags_result result;
    // As those are answered who ask by OFREP.
    struct flags_context context = {
        .tree = tree,
        .key_required = tree == NULL || tree->count == 0,
        .time_s = (uint64_t)(engine_wall_ms(call->engine) / 1000),
    };
    void *scratch = heap_alloc(FLAGS_SCRATCH_DEFAULT, 1);
    if (scratch == NULL) {
        api_refuse(call, STATUS_NO_MEMORY, "no memory is left");
        return;
    }
    flags_explain(&snapshot->all.set, key, type, &context,
                  (struct flags_scratch){scratch, FLAGS_SCRATCH_DEFAULT}, &result, &path);
    if (result.error == FLAGS_ERROR_FLAG_NOT_FOUND)
        api_flags_unknown(call, key);
    else
        write_result(&call->out, key, &result, &path, snapshot->version);
    heap_free(scratch);
}

void api_flags_eval(struct api_call *call)
{
    struct api_body body;
    enum flags_type type;
    if (!api_body_read(call, &body))
        return;
    const struct flags_json *tree = flags_json_member(body.root, SLICE("context"));
    if (!read_type(flags_json_member(body.root, SLICE("type")), &type))
        api_error(call, 400, "invalid", "type is boolean, string, integer, float, object or any");
    else if (tree != NULL && tree->kind != FLAGS_JSON_OBJECT)
        api_error(call, 400, "invalid",
                  "context is an object such as {\"targetingKey\": \"user-1\", \"plan\": \"beta\"}");
    else
        evaluate(call, type, tree);
    api_body_free(&body);
}
