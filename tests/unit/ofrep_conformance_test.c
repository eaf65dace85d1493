// SPDX-License-Identifier: Apache-2.0
// The flagd testbed's scenarios once more, every evaluation going through a request and its answer: OFREP,
// and flagd's RPC in both versions. The runner of the scenarios is the one of flags; only its evaluation is
// another. Each OFREP answer is held against the published schema on the way.
#include "flagd_testbed.h"
#include "ofrep_world.h"
#include "test.h"

enum wire { WIRE_OFREP, WIRE_RPC_1, WIRE_RPC_2 };

static enum wire wire;
static struct ofrep_core core;
static struct world_snapshot bare;
static uint32_t answers;

static struct flags_result failure(const char *code)
{
    struct flags_result result = {.reason = FLAGS_REASON_ERROR, .metadata = {"", 0}};
    for (int error = FLAGS_ERROR_FLAG_NOT_FOUND; error <= FLAGS_ERROR_GENERAL; error++)
        if (strcmp(flags_error_name((enum flags_error)error), code) == 0)
            result.error = (enum flags_error)error;
    if (result.error == FLAGS_ERROR_NONE)
        fail_msg("no error code: %s", code);
    return result;
}

static const char *text_of(const struct flags_json *object, const char *name)
{
    static char text[256];
    const struct flags_json *member = flags_json_member(object, slice_of(name));
    snprintf(text, sizeof text, SLICE_FMT, member != NULL ? (int)member->text.len : 0,
             member != NULL ? member->text.data : "");
    return text;
}

static bool is_among(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

// What a provider makes of a value: the type asked for, or TYPE_MISMATCH.
static bool take_value(const struct flags_json *value, enum flags_type type, struct flags_result *result)
{
    result->has_value = true;
    result->json = value->text;
    result->text = value->text;
    switch (value->kind) {
    case FLAGS_JSON_TRUE:
    case FLAGS_JSON_FALSE:
        result->type = FLAGS_BOOLEAN;
        result->boolean = value->kind == FLAGS_JSON_TRUE;
        return type == FLAGS_BOOLEAN;
    case FLAGS_JSON_STRING:
        result->type = FLAGS_STRING;
        return type == FLAGS_STRING;
    case FLAGS_JSON_NUMBER:
        result->type = FLAGS_FLOAT;
        result->number = value->number;
        return type == FLAGS_FLOAT ||
               (type == FLAGS_INTEGER && value->number == (double)(int64_t)value->number);
    default:
        result->type = FLAGS_OBJECT;
        return type == FLAGS_OBJECT && value->kind == FLAGS_JSON_OBJECT;
    }
}

// The parts of a success that all protocols have.
static struct flags_result success(const struct flags_json *root, enum flags_type type)
{
    struct flags_result result = {.json = {"", 0}, .metadata = {"", 0}};
    const char *reason = text_of(root, "reason");
    const struct flags_json *value = flags_json_member(root, SLICE("value"));
    const struct flags_json *metadata = flags_json_member(root, SLICE("metadata"));
    int found = -1;
    for (int i = FLAGS_REASON_STATIC; i <= FLAGS_REASON_ERROR; i++)
        if (strcmp(flags_reason_name((enum flags_reason)i), reason) == 0)
            found = i;
    assert_true(found >= 0);
    result.reason = (enum flags_reason)found;
    assert_true((value != NULL) == (flags_json_member(root, SLICE("variant")) != NULL));
    if (value != NULL && !take_value(value, type, &result))
        return failure("TYPE_MISMATCH");
    if (metadata != NULL)
        result.metadata = metadata->text;
    return result;
}

// ---- OFREP ----

// What evaluationSuccess, evaluationFailure and flagNotFound ask for; DEFAULT is our one departure, and none
// when strict reasons are wanted.
static void check_schema(const struct flags_json *root, const char *key, bool strict)
{
    static const char *const REASONS[] = {"STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN", NULL};
    static const char *const CODES[] = {"PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL",
                                        NULL};
    assert_int_equal(root->kind, FLAGS_JSON_OBJECT);
    assert_string_equal(text_of(root, "key"), key);
    if (world_answer.status == 200) {
        const char *reason = text_of(root, "reason");
        assert_true(is_among(reason, REASONS) || (!strict && strcmp(reason, "DEFAULT") == 0));
    } else if (world_answer.status == 404) {
        assert_string_equal(text_of(root, "errorCode"), "FLAG_NOT_FOUND");
    } else {
        assert_int_equal(world_answer.status, 400);
        assert_true(is_among(text_of(root, "errorCode"), CODES));
    }
    const struct flags_json *metadata = flags_json_member(root, SLICE("metadata"));
    if (metadata == NULL)
        return;
    assert_int_equal(metadata->kind, FLAGS_JSON_OBJECT);
    for (const struct flags_json *member = metadata->first; member != NULL; member = member->next)
        assert_true(member->kind != FLAGS_JSON_OBJECT && member->kind != FLAGS_JSON_ARRAY &&
                    member->kind != FLAGS_JSON_NULL);
}

static struct flags_result by_ofrep(const char *key, enum flags_type type, const char *context)
{
    static const char *const STRICT[] = {"Prefer: handling=strict", NULL};
    static char body[1 << 17];
    char target[400];
    snprintf(target, sizeof target, "/ofrep/v1/evaluate/flags/%s", key);
    snprintf(body, sizeof body, "{\"context\":%s}", context);
    world_ask(&core, "POST", target, STRICT, body);
    check_schema(world_json((struct slice){world_answer.body, world_answer.body_len}), key, true);
    world_post(&core, target, body);
    const struct flags_json *root = world_json((struct slice){world_answer.body, world_answer.body_len});
    check_schema(root, key, false);
    return world_answer.status == 200 ? success(root, type) : failure(text_of(root, "errorCode"));
}

// ---- RPC ----

static struct flags_result by_rpc(const char *key, enum flags_type type, const char *context)
{
    static const char *const JSON[] = {"Content-Type: application/json", NULL};
    static const char *const NAMES[] = {"", "Boolean", "String", "Int", "Float", "Object"};
    static const struct {
        const char *code;
        const char *error;
    } CODES[] = {{"not_found", "FLAG_NOT_FOUND"},
                 {"invalid_argument", "TYPE_MISMATCH"},
                 {"data_loss", "PARSE_ERROR"},
                 {"unknown", "GENERAL"}};
    static char body[1 << 17];
    char target[200];
    snprintf(target, sizeof target, "/flagd.evaluation.v%d.Service/Resolve%s", wire == WIRE_RPC_1 ? 1 : 2,
             NAMES[type]);
    snprintf(body, sizeof body, "{\"flagKey\":\"%s\",\"context\":%s}", key, context);
    world_ask(&core, "POST", target, JSON, body);
    const struct flags_json *root = world_json((struct slice){world_answer.body, world_answer.body_len});
    if (world_answer.status != 200) {
        for (size_t i = 0; i < ARRAY_LEN(CODES); i++)
            if (strcmp(CODES[i].code, text_of(root, "code")) == 0)
                return failure(CODES[i].error);
        fail_msg("no code: %s", world_answer.body);
    }
    // An int64 comes as a string.
    struct flags_json *value = (struct flags_json *)(uintptr_t)flags_json_member(root, SLICE("value"));
    if (type == FLAGS_INTEGER && value != NULL) {
        assert_int_equal(value->kind, FLAGS_JSON_STRING);
        value->kind = FLAGS_JSON_NUMBER;
        value->number = strtod(value->text.data, NULL);
    }
    return success(root, type);
}

// ---- in the runner's place of an evaluation ----

static struct flags_result over_the_wire(struct flags_fixture *f, const char *key, enum flags_type type,
                                         const struct flags_context *context)
{
    static char json[1 << 16];
    struct slice members = context->tree->text;
    CHECK(members.len >= 2);
    members = (struct slice){members.data + 1, members.len - 2};
    snprintf(json, sizeof json, "{" SLICE_FMT "%s%s" SLICE_FMT "%s}", SLICE_ARG(members),
             members.len > 0 && context->has_targeting_key ? "," : "",
             context->has_targeting_key ? "\"targetingKey\":\"" : "", SLICE_ARG(context->targeting_key),
             context->has_targeting_key ? "\"" : "");
    bare.base.all = (struct flagset_view){.set = f->set, .tag = 1};
    core.snapshot = &bare.base;
    world_wall_ms = (int64_t)context->time_s * 1000;
    answers++;
    if (wire != WIRE_OFREP)
        return by_rpc(key, type, json);
    return by_ofrep(key, type, json);
}

static void run_all(enum wire chosen)
{
    wire = chosen;
    answers = 0;
    testbed_evaluator(over_the_wire);
    testbed_provider(over_the_wire);
    printf("over the wire: %u answers\n", answers);
}

TEST(over_ofrep)
{
    run_all(WIRE_OFREP);
}

TEST(over_rpc_1)
{
    run_all(WIRE_RPC_1);
}

TEST(over_rpc_2)
{
    run_all(WIRE_RPC_2);
}

static int begin_core(void **state)
{
    struct ofrep_config config = {0};
    (void)state;
    return ofrep_core_init(&core, &config) == STATUS_OK ? 0 : 1;
}

static int end_core(void **state)
{
    (void)state;
    ofrep_core_deinit(&core);
    return 0;
}

ALL_TESTS(begin_core, end_core);
