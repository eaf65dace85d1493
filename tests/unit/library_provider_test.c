// SPDX-License-Identifier: Apache-2.0
// libsluice-flags: providers of files and of what a daemon publishes, typed evaluations, contexts, hooks,
// events; what is wrong is always said.
#include "library_world.h"
#include "test.h"

#include "base/heap.h"

EACH_TEST(world_set_up, world_tear_down);

static const struct sluice_flags_options BY_HAND = {.no_thread = true};

static const char FLAGS[] =
    "{\"metadata\":{\"team\":\"web\"},\"flags\":{"
    "\"on\":{\"state\":\"ENABLED\",\"variants\":{\"yes\":true,\"no\":false},\"defaultVariant\":\"yes\"},"
    "\"off\":{\"state\":\"DISABLED\",\"variants\":{\"yes\":true},\"defaultVariant\":\"yes\"},"
    "\"color\":{\"state\":\"ENABLED\",\"variants\":{\"r\":\"red\",\"g\":\"green\"},\"defaultVariant\":\"r\","
    "\"targeting\":{\"if\":[{\"in\":[{\"var\":\"plan\"},[\"gold\",\"silver\"]]},\"g\",null]}},"
    "\"big\":{\"state\":\"ENABLED\",\"variants\":{\"v\":9007199254740993},\"defaultVariant\":\"v\"},"
    "\"huge\":{\"state\":\"ENABLED\",\"variants\":{\"v\":1e30},\"defaultVariant\":\"v\"},"
    "\"half\":{\"state\":\"ENABLED\",\"variants\":{\"v\":0.5},\"defaultVariant\":\"v\"},"
    "\"object\":{\"state\":\"ENABLED\",\"variants\":{\"v\":{\"a\":[1,2]}},\"defaultVariant\":\"v\"},"
    "\"share\":{\"state\":\"ENABLED\",\"variants\":{\"a\":\"A\",\"b\":\"B\"},\"defaultVariant\":\"a\","
    "\"targeting\":{\"fractional\":[[\"a\",50],[\"b\",50]]}},"
    "\"deep\":{\"state\":\"ENABLED\",\"variants\":{\"y\":true,\"n\":false},\"defaultVariant\":\"n\","
    "\"targeting\":{\"if\":[{\"and\":[{\"==\":[{\"var\":\"user.age\"},42]},{\"var\":\"beta\"}]},\"y\","
    "\"n\"]}},"
    "\"broken\":{\"state\":\"ENABLED\",\"variants\":{\"y\":true},\"defaultVariant\":\"y\","
    "\"targeting\":{\"no_such\":[1]}}}}";

static char path[300];

static void write_file(const char *text)
{
    char other[400];
    (void)snprintf(path, sizeof path, "%s/flags.json", world_directory);
    (void)snprintf(other, sizeof other, "%s.new", path);
    FILE *file = fopen(other, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(other, path), 0);
}

static struct sluice_flags_provider *open_file(const char *text)
{
    struct sluice_flags_provider *provider;
    write_file(text);
    assert_int_equal(sluice_flags_open_file(path, &BY_HAND, &provider), SLUICE_FLAGS_ERROR_NONE);
    return provider;
}

TEST(types)
{
    struct sluice_flags_provider *p = open_file(FLAGS);
    char metadata[64];
    char text[32];
    struct sluice_flags_details d = SLUICE_FLAGS_DETAILS_INIT;
    d.metadata = metadata;
    d.metadata_cap = sizeof metadata;
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_READY);
    assert_true(sluice_flags_boolean(p, "on", false, NULL, &d));
    assert_int_equal(d.reason, SLUICE_FLAGS_REASON_STATIC);
    assert_int_equal(d.error, SLUICE_FLAGS_ERROR_NONE);
    assert_string_equal(d.variant, "yes");
    assert_string_equal(metadata, "{\"team\":\"web\"}");
    assert_int_equal(d.metadata_len, strlen(metadata));
    assert_false(d.cut || d.defaulted);
    assert_true(sluice_flags_boolean(p, "on", false, NULL, NULL));
    assert_false(sluice_flags_boolean(p, "off", false, NULL, &d));
    assert_int_equal(d.reason, SLUICE_FLAGS_REASON_DISABLED);
    assert_true(d.defaulted);
    assert_int_equal(sluice_flags_integer(p, "big", 0, NULL, &d), 9007199254740993);
    assert_int_equal(sluice_flags_integer(p, "huge", 3, NULL, &d), 3);
    assert_int_equal(d.error, SLUICE_FLAGS_ERROR_TYPE_MISMATCH);
    assert_true(d.defaulted);
    assert_int_equal(sluice_flags_integer(p, "half", 4, NULL, &d), 4);
    assert_int_equal(d.error, SLUICE_FLAGS_ERROR_TYPE_MISMATCH);
    assert_true(sluice_flags_double(p, "half", 4, NULL, &d) == 0.5);
    assert_int_equal(sluice_flags_object(p, "object", "{}", NULL, text, sizeof text, &d), 11);
    assert_string_equal(text, "{\"a\":[1,2]}");
    assert_int_equal(sluice_flags_string(p, "color", "x", NULL, text, sizeof text, &d), 3);
    assert_string_equal(text, "red");
    assert_int_equal(d.reason, SLUICE_FLAGS_REASON_DEFAULT);
    assert_int_equal(sluice_flags_string(p, "color", "x", NULL, text, 3, &d), 3);
    assert_string_equal(text, "re");
    assert_true(d.cut);
    assert_int_equal(sluice_flags_string(p, "color", "x", NULL, NULL, 0, &d), 3);
    assert_true(d.cut);
    d.metadata_cap = 4;
    (void)sluice_flags_boolean(p, "on", false, NULL, &d);
    assert_true(d.cut);
    assert_string_equal(metadata, "{\"t");
    assert_int_equal(d.metadata_len, 14);
    sluice_flags_close(p);
}

static void expect_error(struct sluice_flags_provider *p, const char *key,
                         const struct sluice_flags_context *context, const char *name)
{
    char text[8];
    struct sluice_flags_details d = SLUICE_FLAGS_DETAILS_INIT;
    assert_int_equal(sluice_flags_string(p, key, "dflt", context, text, sizeof text, &d), 4);
    assert_string_equal(text, "dflt");
    assert_string_equal(sluice_flags_error_name(d.error), name);
    assert_string_equal(sluice_flags_reason_name(d.reason), "ERROR");
    assert_true(d.defaulted);
    assert_true(d.error_message[0] != '\0');
}

TEST(errors)
{
    static const struct sluice_flags_options LAX = {.no_thread = true, .targeting_key_optional = true};
    struct sluice_flags_provider *p = open_file(FLAGS);
    struct sluice_flags_context *context = sluice_flags_context_create();
    char text[8];
    struct sluice_flags_details d = SLUICE_FLAGS_DETAILS_INIT;
    expect_error(p, "nothing", NULL, "FLAG_NOT_FOUND");
    expect_error(p, "", NULL, "FLAG_NOT_FOUND");
    expect_error(p, NULL, NULL, "GENERAL");
    expect_error(p, "on", NULL, "TYPE_MISMATCH");
    expect_error(p, "broken", NULL, "PARSE_ERROR");
    expect_error(p, "share", NULL, "TARGETING_KEY_MISSING");
    assert_false(sluice_flags_context_set_json(context, "x", "{"));
    expect_error(p, "color", context, "INVALID_CONTEXT");
    sluice_flags_context_clear(context);
    (void)sluice_flags_string(p, "color", "dflt", context, text, sizeof text, &d);
    assert_int_equal(d.error, SLUICE_FLAGS_ERROR_NONE);
    sluice_flags_close(p);
    assert_int_equal(sluice_flags_open_file(path, &LAX, &p), SLUICE_FLAGS_ERROR_NONE);
    (void)sluice_flags_string(p, "share", "dflt", context, text, sizeof text, &d);
    assert_string_equal(text, "A");
    sluice_flags_close(p);
    sluice_flags_context_destroy(context);
    assert_int_equal(sluice_flags_open_file("", NULL, &p), SLUICE_FLAGS_ERROR_GENERAL);
    assert_int_equal(sluice_flags_open_shared(NULL, NULL, &p), SLUICE_FLAGS_ERROR_GENERAL);
    sluice_flags_close(NULL);
}

static void use_context(struct sluice_flags_provider *p, struct sluice_flags_context *context)
{
    char text[32];
    struct sluice_flags_details d = SLUICE_FLAGS_DETAILS_INIT;
    assert_true(sluice_flags_context_set_targeting_key(context, "user-7"));
    assert_true(sluice_flags_context_set_string(context, "plan", "bronze"));
    (void)sluice_flags_string(p, "color", "x", context, text, sizeof text, &d);
    assert_string_equal(text, "red");
    assert_true(sluice_flags_context_set_string(context, "plan", "gold"));
    (void)sluice_flags_string(p, "color", "x", context, text, sizeof text, &d);
    assert_string_equal(text, "green");
    assert_int_equal(d.reason, SLUICE_FLAGS_REASON_TARGETING_MATCH);
    assert_true(sluice_flags_context_set_boolean(context, "beta", true));
    assert_false(sluice_flags_boolean(p, "deep", false, context, &d));
    assert_true(
        sluice_flags_context_set_json(context, "user", "{\"age\":41,\"x\":[1,{\"a\\u0062\":2}],\"age\":42}"));
    assert_true(sluice_flags_boolean(p, "deep", false, context, &d));
    assert_true(sluice_flags_context_set_json(context, "user", "null"));
    assert_false(sluice_flags_boolean(p, "deep", false, context, &d));
    (void)sluice_flags_string(p, "share", "x", context, text, sizeof text, &d);
    assert_int_equal(d.error, SLUICE_FLAGS_ERROR_NONE);
    assert_int_equal(d.reason, SLUICE_FLAGS_REASON_TARGETING_MATCH);
}

TEST(contexts)
{
    struct sluice_flags_provider *p = open_file(FLAGS);
    char storage[SLUICE_FLAGS_CONTEXT_BYTES];
    char name[32];
    struct sluice_flags_context *heap = sluice_flags_context_create();
    struct sluice_flags_context *stack = sluice_flags_context_init(storage + 3, sizeof storage - 3);
    use_context(p, heap);
    use_context(p, stack);
    assert_false(sluice_flags_context_set_string(heap, "x", "\xff"));
    sluice_flags_context_clear(heap);
    assert_false(sluice_flags_context_set_string(heap, "\xff", "x"));
    sluice_flags_context_clear(heap);
    assert_false(sluice_flags_context_set_string(heap, NULL, "x"));
    assert_false(sluice_flags_context_set_number(heap, "x", 0.0 / 0.0));
    sluice_flags_context_clear(heap);
    for (unsigned i = 0; i < SLUICE_FLAGS_CONTEXT_ATTRIBUTES_MAX; i++) {
        (void)snprintf(name, sizeof name, "a%u", i);
        assert_true(sluice_flags_context_set_number(heap, name, i));
    }
    assert_true(sluice_flags_context_set_number(heap, "a17", 3));
    assert_false(sluice_flags_context_set_number(heap, "one too many", 1));
    sluice_flags_context_clear(heap);
    use_context(p, heap);
    sluice_flags_context_clear(stack);
    unsigned held = 0;
    do
        (void)snprintf(name, sizeof name, "a%u", held);
    while (sluice_flags_context_set_number(stack, name, held++));
    assert_in_range(held, 30, 100);
    assert_false(sluice_flags_context_set_number(stack, "late", 1));
    sluice_flags_context_destroy(stack); // allowed, does nothing
    assert_null(sluice_flags_context_init(storage, 8));
    assert_non_null(sluice_flags_context_init(storage, 512));
    sluice_flags_context_destroy(heap);
    sluice_flags_context_destroy(NULL);
    sluice_flags_close(p);
}

struct heard {
    char line[400];
};

static void hear(void *data, struct sluice_flags_provider *provider, enum sluice_flags_event event,
                 const char *problem)
{
    static const char *const NAMES[] = {"ready", "changed", "stale", "error"};
    struct heard *heard = data;
    size_t len = strlen(heard->line);
    (void)provider;
    (void)snprintf(heard->line + len, sizeof heard->line - len, "%s%s ", NAMES[event],
                   problem[0] != '\0' ? "!" : "");
}

TEST(file_changes)
{
    struct sluice_flags_provider *p;
    struct heard heard = {""};
    char problem[SLUICE_FLAGS_PROBLEM_BYTES];
    char text[8];
    (void)snprintf(path, sizeof path, "%s/flags.json", world_directory);
    assert_int_equal(sluice_flags_open_file(path, &BY_HAND, &p), SLUICE_FLAGS_ERROR_NONE);
    assert_true(sluice_flags_add_handler(p, hear, &heard));
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_FAILED);
    expect_error(p, "color", NULL, "PROVIDER_NOT_READY");
    write_file(FLAGS);
    assert_true(sluice_flags_poll(p));
    assert_false(sluice_flags_poll(p));
    assert_int_equal(sluice_flags_generation(p), 1);
    write_file("{\"flags\":{\"color\":\n{\"state\":\"ENABLED\",\"variants\":3}}}");
    assert_false(sluice_flags_poll(p));
    assert_false(sluice_flags_poll(p));
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_STALE);
    assert_true(sluice_flags_problem(p, problem, sizeof problem) > 0);
    assert_non_null(strstr(problem, "flags.json:2:"));
    assert_int_equal(sluice_flags_string(p, "color", "x", NULL, text, sizeof text, NULL), 3);
    assert_string_equal(text, "red");
    assert_int_equal(unlink(path), 0);
    assert_false(sluice_flags_poll(p));
    write_file("{\"flags\":{\"color\":{\"state\":\"ENABLED\",\"variants\":{\"v\":\"new\"},\"defaultVariant\":"
               "\"v\"}}}");
    assert_true(sluice_flags_poll(p));
    assert_int_equal(sluice_flags_problem(p, problem, sizeof problem), 0);
    (void)sluice_flags_string(p, "color", "x", NULL, text, sizeof text, NULL);
    assert_string_equal(text, "new");
    assert_string_equal(heard.line, "error! ready stale! changed ready ");
    sluice_flags_close(p);
}

static char called[400];

static void add_call(const char *what, const void *data)
{
    size_t len = strlen(called);
    (void)snprintf(called + len, sizeof called - len, "%s%s ", what, (const char *)data);
}
static void on_before(void *data, const struct sluice_flags_hook_context *about)
{
    assert_string_equal(about->key[0] == 'c' ? "color" : "nothing", about->key);
    add_call("before", data);
}
static void on_after(void *data, const struct sluice_flags_hook_context *about,
                     const struct sluice_flags_value *value, const struct sluice_flags_details *details)
{
    assert_int_equal(about->type, SLUICE_FLAGS_STRING);
    assert_int_equal(value->text_len, 3);
    assert_memory_equal(value->text, "red", 3);
    assert_string_equal(details->variant, "r");
    add_call("after", data);
}
static void on_error(void *data, const struct sluice_flags_hook_context *about,
                     const struct sluice_flags_details *details)
{
    (void)about;
    assert_int_equal(details->error, SLUICE_FLAGS_ERROR_FLAG_NOT_FOUND);
    add_call("error", data);
}
static void on_finally(void *data, const struct sluice_flags_hook_context *about,
                       const struct sluice_flags_value *value, const struct sluice_flags_details *details)
{
    (void)about;
    (void)value;
    (void)details;
    add_call("finally", data);
}

TEST(hooks)
{
    struct sluice_flags_provider *p = open_file(FLAGS);
    static char one[] = "1";
    static char two[] = "2";
    struct sluice_flags_hook hook = {on_before, on_after, on_error, on_finally, one};
    char text[8];
    assert_true(sluice_flags_add_hook(p, &hook));
    hook.data = two;
    assert_true(sluice_flags_add_hook(p, &hook));
    called[0] = '\0';
    (void)sluice_flags_string(p, "color", "x", NULL, text, sizeof text, NULL);
    assert_string_equal(called, "before1 before2 after2 after1 finally2 finally1 ");
    called[0] = '\0';
    (void)sluice_flags_string(p, "nothing", "x", NULL, text, sizeof text, NULL);
    assert_string_equal(called, "before1 before2 error2 error1 finally2 finally1 ");
    for (unsigned i = 2; i < SLUICE_FLAGS_HOOKS_MAX; i++)
        assert_true(sluice_flags_add_hook(p, &hook));
    assert_false(sluice_flags_add_hook(p, &hook));
    sluice_flags_close(p);
}

TEST(shared)
{
    struct sluice_flags_provider *p;
    struct share_writer *writer;
    struct heard heard = {""};
    struct sluice_flags_hold hold;
    struct sluice_flags_hold next;
    char text[200];
    assert_int_equal(sluice_flags_open_shared(world_directory, &BY_HAND, &p), SLUICE_FLAGS_ERROR_NONE);
    assert_true(sluice_flags_add_handler(p, hear, &heard));
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_NOT_READY);
    expect_error(p, "s", NULL, "PROVIDER_NOT_READY");
    assert_false(sluice_flags_hold_begin(p, &hold));
    sluice_flags_hold_end(&hold);
    assert_int_equal(share_writer_open(world_directory, &writer), STATUS_OK);
    world_publish(writer, 1);
    assert_int_equal(sluice_flags_wait(p, 1000), SLUICE_FLAGS_READY);
    assert_int_equal(sluice_flags_integer(p, "n", 0, NULL, NULL), 1);
    assert_true(sluice_flags_hold_begin(p, &hold));
    for (unsigned i = 2; i < 10; i++) {
        world_publish(writer, i);
        assert_true(sluice_flags_poll(p));
        assert_int_equal(sluice_flags_integer(p, "n", 0, NULL, NULL), i);
    }
    struct sluice_flags_value value = {.type = SLUICE_FLAGS_STRING, .text = "", .text_len = 0};
    sluice_flags_hold_evaluate(&hold, "s", NULL, &value, NULL);
    assert_int_equal(value.text_len, 40);
    assert_memory_equal(value.text, "1;1;1;1;", 8);
    assert_true(sluice_flags_hold_begin(p, &next));
    sluice_flags_hold_evaluate(&next, "s", NULL, &value, NULL);
    assert_memory_equal(value.text, "9;9;9;9;", 8);
    sluice_flags_hold_end(&next);
    sluice_flags_hold_end(&hold);
    share_writer_close(writer);
    for (unsigned i = 0; i < 30; i++)
        (void)sluice_flags_poll(p);
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_STALE);
    assert_true(sluice_flags_problem(p, text, sizeof text) > 0);
    assert_int_equal(sluice_flags_integer(p, "n", 0, NULL, NULL), 9);
    assert_int_equal(share_writer_open(world_directory, &writer), STATUS_OK);
    world_publish(writer, 10);
    for (unsigned i = 0; i < 30; i++)
        (void)sluice_flags_poll(p);
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_READY);
    assert_string_equal(heard.line, "ready changed changed changed changed changed changed changed changed "
                                    "stale! changed! ready ");
    share_writer_close(writer);
    sluice_flags_close(p);
}

TEST(damaged_update)
{
    struct sluice_flags_provider *p;
    struct share_writer *writer;
    char image[300];
    assert_int_equal(share_writer_open(world_directory, &writer), STATUS_OK);
    world_publish(writer, 1);
    assert_int_equal(sluice_flags_open_shared(world_directory, &BY_HAND, &p), SLUICE_FLAGS_ERROR_NONE);
    world_publish(writer, 2);
    (void)snprintf(image, sizeof image, "%s/image-%016x", world_directory, 2);
    assert_int_equal(truncate(image, 20), 0);
    assert_false(sluice_flags_poll(p));
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_STALE);
    assert_int_equal(sluice_flags_integer(p, "n", 0, NULL, NULL), 1);
    world_publish(writer, 3);
    assert_true(sluice_flags_poll(p));
    assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_READY);
    assert_int_equal(sluice_flags_integer(p, "n", 0, NULL, NULL), 3);
    share_writer_close(writer);
    sluice_flags_close(p);
}

TEST(no_memory)
{
    struct sluice_flags_provider *p;
    unsigned ready = 0;
    write_file(FLAGS);
    for (long after = 0; ready == 0; after++) {
        assert_true(after < 1000);
        heap_fail_after(after);
        enum sluice_flags_error error = sluice_flags_open_file(path, &BY_HAND, &p);
        struct sluice_flags_context *context = sluice_flags_context_create();
        heap_fail_after(-1);
        sluice_flags_context_destroy(context);
        if (error != SLUICE_FLAGS_ERROR_NONE)
            continue;
        ready = sluice_flags_state(p) == SLUICE_FLAGS_READY;
        if (!ready)
            assert_int_equal(sluice_flags_state(p), SLUICE_FLAGS_FAILED);
        sluice_flags_close(p);
    }
}
