// SPDX-License-Identifier: Apache-2.0
// One evaluation for a person who asks why: the value, and the path to the rule that decided. It is counted
// nowhere, so that looking at a flag does not make it look used.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "daemon/api/flags.h"

static bool read_type(const struct flags_json *given, enum flags_type *type)
{
    static const struct {
        struct slice name;
        enum flags_type type;
    } table[] = {
        {SLICE("any"), FLAGS_ANY},         {SLICE("boolean"), FLAGS_BOOLEAN}, {SLICE("string"), FLAGS_STRING},
        {SLICE("integer"), FLAGS_INTEGER}, {SLICE("float"), FLAGS_FLOAT},     {SLICE("number"), FLAGS_FLOAT},
        {SLICE("object"), FLAGS_OBJECT},
    };
    *type = FLAGS_ANY;
    for (size_t i = 0; given != NULL && i < sizeof table / sizeof table[0]; i++) {
        *type = table[i].type;
        if (given->kind == FLAGS_JSON_STRING && slice_equal(given->text, table[i].name))
            return true;
    }
    return given == NULL;
}

static void write_slice(struct api_out *out, const char *name, struct slice text)
{
    api_out_key(out, name);
    if (text.len > 0)
        api_out_string(out, text);
    else
        api_out_null(out);
}

static void write_result(struct api_out *out, struct slice key, const struct flags_result *result,
                         const struct text *path, uint64_t version)
{
    api_out_open(out, '{');
    api_out_key(out, "key");
    api_out_string(out, key);
    api_out_key(out, "has_value");
    api_out_bool(out, result->has_value);
    api_out_key(out, "value");
    api_out_raw(out, result->has_value ? result->json : SLICE("null"));
    write_slice(out, "variant", result->variant);
    api_out_key(out, "reason");
    api_out_text(out, flags_reason_name(result->reason));
    write_slice(out, "error", slice_of(flags_error_name(result->error)));
    write_slice(out, "error_text", result->error_text);
    write_slice(out, "note", result->note);
    write_slice(out, "path", text_slice(path));
    api_out_key(out, "metadata");
    api_out_raw(out, result->metadata.len > 0 ? result->metadata : SLICE("{}"));
    api_out_key(out, "version");
    api_out_count(out, version);
    api_out_close(out, '}');
}

static void evaluate(struct engine *engine, struct slice key, enum flags_type type,
                     const struct flags_json *tree, struct api_answer *answer)
{
    const struct flagset_snapshot *snapshot = flagset_current(runtime_flagset(targets_of(engine)->runtime));
    char storage[API_FLAGS_PATH_BYTES];
    struct text path = text_over(storage, sizeof storage);
    struct flags_result result;
    struct api_out out = {0};
    // As those are answered who ask by OFREP.
    struct flags_context context = {
        .tree = tree,
        .key_required = tree == NULL || tree->count == 0,
        .time_s = (uint64_t)(engine_wall_ms(engine) / 1000),
    };
    void *scratch = heap_alloc(FLAGS_SCRATCH_DEFAULT, 1);
    if (scratch == NULL) {
        api_flags_error(answer, 503, "memory", "no memory is left");
        return;
    }
    flags_explain(&snapshot->all.set, key, type, &context,
                  (struct flags_scratch){scratch, FLAGS_SCRATCH_DEFAULT}, &result, &path);
    if (result.error == FLAGS_ERROR_FLAG_NOT_FOUND) {
        api_flags_unknown(engine, key, answer);
    } else {
        write_result(&out, key, &result, &path, snapshot->version);
        api_flags_answer(answer, 200, &out);
    }
    heap_free(scratch);
}

void api_flags_eval(struct engine *engine, struct slice key, const struct api_request *request,
                    struct api_answer *answer)
{
    struct api_body body;
    enum flags_type type;
    if (!api_body_read(request, &body, answer))
        return;
    const struct flags_json *tree = flags_json_member(body.root, SLICE("context"));
    if (!read_type(flags_json_member(body.root, SLICE("type")), &type))
        api_flags_error(answer, 400, "invalid", "type is boolean, string, integer, float, object or any");
    else if (tree != NULL && tree->kind != FLAGS_JSON_OBJECT)
        api_flags_error(answer, 400, "invalid",
                        "context is an object such as {\"targetingKey\": \"user-1\", \"plan\": \"beta\"}");
    else
        evaluate(engine, key, type, tree, answer);
    api_body_free(&body);
}
