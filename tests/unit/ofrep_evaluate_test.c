// SPDX-License-Identifier: Apache-2.0
// ofrep: single and bulk evaluation of OFREP 0.3: answers, reasons, error codes and statuses, entity tags,
// and bodies of every bad kind.
#include "ofrep_world.h"
#include "test.h"

#define SINGLE "/ofrep/v1/evaluate/flags/"
#define BULK "/ofrep/v1/evaluate/flags"
#define ALICE "{\"context\":{\"targetingKey\":\"alice\"}}"
#define FLAG(rest) "{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false}," rest "}"

static const char SET[] = "{\"flags\":{\n"
                          "\"plain\":" FLAG(
                              "\"defaultVariant\":\"on\",\"metadata\":{\"owner\":\"a\"}") ",\n"
                                                                                          "\"rule\":" FLAG(
                                                                                              "\"defaultVaria"
                                                                                              "nt\":\"off\","
                                                                                              "\"targeting\":"
                                                                                              "{\"if\":[{\"=="
                                                                                              "\":[{\"var\":"
                                                                                              "\"plan\"},"
                                                                                              "\"gold\"]},"
                                                                                              "\"on\"]}") ","
                                                                                                          "\n"
                                                                                                          "\""
                                                                                                          "op"
                                                                                                          "en"
                                                                                                          "\""
                                                                                                          ":" FLAG("\"defaultVariant\":null,\"targeting\":{\"if\":[{\"==\":[{\"var\":\"plan\"},\"gold\"]},"
                                                                                                                   "\"on\"]}") ",\n"
                                                                                                                               "\"off\":{\"state\":\"DISABLED\",\"variants\":{\"on\":true},\"defaultVariant\":\"on\"},\n"
                                                                                                                               "\"split\":" FLAG("\"defaultVariant\":\"off\",\"targeting\":{\"fractional\":[[\"on\",100]]}") ",\n"
                                                                                                                                                                                                                             "\"bad\":" FLAG(
                                                                                                                                                                                                                                 "\"defaultVariant\":\"off\",\"targeting\":{\"no such operator\":[1]}") ",\n"
                                                                                                                                                                                                                                                                                                        "\"wild\":" FLAG("\"defaultVariant\":\"off\",\"targeting\":{\"cat\":[\"side\",\"ways\"]}") ",\n"
                                                                                                                                                                                                                                                                                                                                                                                                   "\"late\":" FLAG(
                                                                                                                                                                                                                                                                                                                                                                                                       "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[{\">\":[{\"var\":\"$flagd.timestamp\"},"
                                                                                                                                                                                                                                                                                                                                                                                                       "1700000000]},\"on\",\"off\"]}") ",\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                        "\"int\":{\"state\":\"ENABLED\",\"variants\":{\"x\":10},\"defaultVariant\":\"x\"},\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                        "\"float\":{\"state\":\"ENABLED\",\"variants\":{\"x\":0.5},\"defaultVariant\":\"x\"},\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                        "\"text\":{\"state\":\"ENABLED\",\"variants\":{\"q\\\"\":\"a \\\"b\\\"\"},\"defaultVariant\":\"q\\\"\"},\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                        "\"object\":{\"state\":\"ENABLED\",\"variants\":{\"x\":{\"a\":[1,{}]}},\"defaultVariant\":\"x\"},\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                        "\"a/b c\":" FLAG("\"defaultVariant\":\"on\"") "\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "},\"metadata\":{\"flagSetId\":\"shop\"}}";

static struct ofrep_core core;
static struct world_snapshot *world;

static int setup(void **state)
{
    struct ofrep_config config = {0};
    (void)state;
    assert_int_equal(ofrep_core_init(&core, &config), STATUS_OK);
    world = world_snapshot(SET, 1);
    world_add_view(world, "flagSetId=other",
                   "{\"flags\":{\"plain\":" FLAG("\"defaultVariant\":\"off\"") "}}");
    world_publish(&core, world);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ofrep_core_deinit(&core);
    world_free(world);
    return 0;
}

ALL_TESTS(setup, teardown);

static void assert_single(const char *key, const char *body, unsigned status, const char *member,
                          const char *wanted)
{
    char target[2200];
    snprintf(target, sizeof target, SINGLE "%s", key);
    world_post(&core, target, body);
    assert_int_equal(world_answer.status, status);
    assert_string_equal(world_answer.type, "application/json");
    assert_string_equal(world_member(member), wanted);
}

TEST(values)
{
    assert_single("plain", ALICE, 200, "value", "true");
    assert_string_equal(world_answer.body, "{\"key\":\"plain\",\"reason\":\"STATIC\",\"variant\":\"on\","
                                           "\"value\":true,\"metadata\":{\"flagSetId\":\"shop\","
                                           "\"owner\":\"a\"}}");
    assert_single("int", ALICE, 200, "value", "10");
    assert_single("float", ALICE, 200, "value", "0.5");
    assert_single("object", ALICE, 200, "value", "{\"a\":[1,{}]}");
    assert_single("text", ALICE, 200, "value", "a \"b\"");
    assert_string_equal(world_member("variant"), "q\"");
}

TEST(reasons)
{
    static const char *const STRICT[] = {"Prefer: respond-async, handling=strict", NULL};
    assert_single("plain", ALICE, 200, "reason", "STATIC");
    assert_single("rule", ALICE, 200, "reason", "DEFAULT");
    assert_string_equal(world_member("value"), "false");
    assert_single("rule", "{\"context\":{\"targetingKey\":\"a\",\"plan\":\"gold\"}}", 200, "reason",
                  "TARGETING_MATCH");
    assert_single("off", ALICE, 200, "reason", "DISABLED");
    assert_string_equal(world_member("value"), "");
    assert_string_equal(world_member("variant"), "");
    assert_single("open", ALICE, 200, "reason", "DEFAULT");
    assert_string_equal(world_member("value"), "");
    // The published schema does not know DEFAULT.
    world_ask(&core, "POST", SINGLE "rule", STRICT, ALICE);
    assert_string_equal(world_member("reason"), "UNKNOWN");
    world_ask(&core, "POST", SINGLE "plain", STRICT, ALICE);
    assert_string_equal(world_member("reason"), "STATIC");
    world_ask(&core, "POST", BULK, STRICT, ALICE);
    assert_null(strstr(world_answer.body, "DEFAULT"));
    assert_non_null(strstr(world_answer.body, "UNKNOWN"));
    core.strict_reasons = true;
    assert_single("rule", ALICE, 200, "reason", "UNKNOWN");
    core.strict_reasons = false;
}

TEST(errors)
{
    assert_single("none", ALICE, 404, "errorCode", "FLAG_NOT_FOUND");
    assert_string_equal(world_member("key"), "none");
    assert_single("bad", ALICE, 400, "errorCode", "PARSE_ERROR");
    assert_single("wild", ALICE, 400, "errorCode", "GENERAL");
    assert_string_not_equal(world_member("errorDetails"), "");
    // A key is asked for only where one is needed.
    assert_single("split", ALICE, 200, "reason", "TARGETING_MATCH");
    assert_single("split", "{\"context\":{}}", 400, "errorCode", "TARGETING_KEY_MISSING");
    assert_single("split", "{\"context\":{\"targetingKey\":7}}", 200, "reason", "DEFAULT");
    assert_single("plain", "{\"context\":{}}", 200, "value", "true");
    assert_single("plain", "{}", 400, "errorCode", "INVALID_CONTEXT");
    assert_single("plain", "[]", 400, "errorCode", "INVALID_CONTEXT");
    assert_single("plain", "{\"context\":null}", 400, "errorCode", "INVALID_CONTEXT");
    assert_single("plain", "{\"context\":[]}", 400, "errorCode", "INVALID_CONTEXT");
    assert_string_equal(world_member("key"), "plain");
    assert_single("plain", "", 400, "errorCode", "PARSE_ERROR");
    assert_single("plain", "{\"context\":", 400, "errorCode", "PARSE_ERROR");
    assert_non_null(strstr(world_member("errorDetails"), "at byte 11"));
}

TEST(keys)
{
    char longest[3 * OFREP_KEY_BYTES_MAX];
    assert_single("a%2Fb%20c", ALICE, 200, "key", "a/b c");
    assert_single("a/b%20c", ALICE, 200, "key", "a/b c");
    assert_single("%ff%22", ALICE, 404, "key", "\xef\xbf\xbd\"");
    assert_single("a%2", ALICE, 400, "errorCode", "PARSE_ERROR");
    assert_single("a%zz", ALICE, 400, "errorCode", "PARSE_ERROR");
    memset(longest, 'k', sizeof longest);
    longest[OFREP_KEY_BYTES_MAX] = '\0';
    assert_single(longest, ALICE, 404, "errorCode", "FLAG_NOT_FOUND");
    longest[OFREP_KEY_BYTES_MAX] = 'k';
    longest[OFREP_KEY_BYTES_MAX + 1] = '\0';
    assert_single(longest, ALICE, 400, "errorCode", "PARSE_ERROR");
}

TEST(paths_and_methods)
{
    assert_int_equal(world_post(&core, "/", "")->status, 404);
    assert_int_equal(world_post(&core, "/ofrep/v1/other", "")->status, 404);
    assert_int_equal(world_post(&core, "/ofrep/v1/evaluate/flagsX", "")->status, 404);
    assert_int_equal(world_ask(&core, "GET", SINGLE "plain", NULL, "")->status, 405);
    assert_string_equal(world_field("Allow"), "POST");
    assert_int_equal(world_ask(&core, "PUT", BULK, NULL, "")->status, 405);
    assert_int_equal(world_post(&core, "/ofrep/v1/stream", "")->status, 405);
    assert_string_equal(world_field("Allow"), "GET");
    assert_int_equal(world_ask(&core, "OPTIONS", BULK, NULL, "")->status, 405);
    assert_int_equal(world_post(&core, BULK "/", ALICE)->status, 200);
    assert_int_equal(world_ask(&core, "GET", "/healthz", NULL, "")->status, 200);
    assert_int_equal(world_ask(&core, "GET", "/readyz", NULL, "")->status, 200);
    assert_int_equal(world_post(&core, "/healthz", "")->status, 405);
    static const char *const GZIP[] = {"Content-Encoding: gzip", NULL};
    assert_int_equal(world_ask(&core, "POST", BULK, GZIP, ALICE)->status, 415);
}

TEST(not_ready)
{
    core.snapshot = NULL;
    assert_single("plain", ALICE, 503, "errorCode", "PROVIDER_NOT_READY");
    assert_string_equal(world_field("Retry-After"), "1");
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 503);
    assert_int_equal(world_ask(&core, "GET", "/readyz", NULL, "")->status, 503);
    assert_int_equal(world_ask(&core, "GET", "/healthz", NULL, "")->status, 200);
    core.snapshot = &world->base;
}

// ---- bad bodies ----

TEST(bad_bodies)
{
    static char body[2 << 20];
    struct slice slices[2];
    // Larger than any body that is read.
    memset(body, ' ', sizeof body);
    slices[0] = (struct slice){body, OFREP_CONTEXT_BYTES_MAX + 1};
    world_ask_bytes(&core, "POST", SINGLE "plain", NULL, slices[0]);
    assert_int_equal(world_answer.status, 413);
    // As large as allowed.
    memcpy(body, ALICE, sizeof ALICE - 1);
    slices[1] = (struct slice){body, OFREP_CONTEXT_BYTES_MAX};
    world_ask_bytes(&core, "POST", SINGLE "plain", NULL, slices[1]);
    assert_int_equal(world_answer.status, 200);
    // As many members as values are promised.
    size_t named = (size_t)snprintf(body, sizeof body, "{\"context\":{\"targetingKey\":\"a\"");
    for (int i = 0; i < OFREP_CONTEXT_NODES_MAX - 4; i++)
        named += (size_t)snprintf(body + named, sizeof body - named, ",\"%x\":%d", i, i % 10);
    (void)snprintf(body + named, sizeof body - named, "}}");
    assert_true(named + 2 < OFREP_CONTEXT_BYTES_MAX);
    assert_int_equal(world_post(&core, SINGLE "plain", body)->status, 200);
    // More values than there are nodes.
    size_t len = (size_t)snprintf(body, sizeof body, "{\"context\":{\"targetingKey\":\"a\",\"l\":[1");
    for (int i = 0; i < 2 * OFREP_CONTEXT_NODES_MAX; i++)
        len += (size_t)snprintf(body + len, sizeof body - len, ",1");
    len += (size_t)snprintf(body + len, sizeof body - len, "]}}");
    world_post(&core, SINGLE "plain", body);
    assert_int_equal(world_answer.status, 413);
    assert_string_not_equal(world_member("errorDetails"), "");
    assert_int_equal(world_post(&core, BULK, body)->status, 413);
    // Deep.
    memset(body, '[', 100000);
    body[100000] = '\0';
    assert_single("plain", body, 400, "errorCode", "PARSE_ERROR");
    // Bytes that are no UTF-8, a number that is none, one that is endless, one that is huge but good.
    assert_single("plain", "{\"context\":{\"targetingKey\":\"\xc3\"}}", 400, "errorCode", "PARSE_ERROR");
    assert_single("plain", "{\"context\":{\"a\":01}}", 400, "errorCode", "PARSE_ERROR");
    memset(body, '9', 500);
    memcpy(body, "{\"context\":{\"a\":", 16);
    memcpy(body + 500, "}}", 3);
    assert_single("plain", body, 400, "errorCode", "PARSE_ERROR");
    assert_single("plain", "{\"context\":{\"a\":1e400}}", 400, "errorCode", "PARSE_ERROR");
    assert_single("plain", "{\"context\":{\"a\":123456789012345678901234567890,\"b\":-1e308}}", 200, "value",
                  "true");
    assert_single("plain", ALICE "x", 400, "errorCode", "PARSE_ERROR");
    // The last of two members counts, as in the clients' own readers.
    assert_single("rule",
                  "{\"context\":{\"plan\":\"none\",\"plan\":\"gold\"},\"other\":1,\"context\":{\"plan\":1,"
                  "\"plan\":\"gold\"}}",
                  200, "reason", "TARGETING_MATCH");
}

// ---- bulk ----

TEST(bulk)
{
    world_post(&core, BULK, ALICE);
    assert_int_equal(world_answer.status, 200);
    const struct flags_json *root = world_json((struct slice){world_answer.body, world_answer.body_len});
    const struct flags_json *flags = flags_json_member(root, SLICE("flags"));
    assert_int_equal(flags->count, flags_image_flag_count(&world->base.all.set));
    const struct flags_json *metadata = flags_json_member(root, SLICE("metadata"));
    assert_true(slice_equal(metadata->text, SLICE("{\"flagSetId\":\"shop\"}")));
    const struct flags_json *streams = flags_json_member(root, SLICE("eventStreams"));
    assert_true(slice_equal(streams->text, SLICE("[{\"type\":\"sse\",\"endpoint\":{\"requestUri\":"
                                                 "\"/ofrep/v1/stream\"},\"inactivityDelaySec\":120}]")));
    uint32_t failures = 0;
    for (const struct flags_json *flag = flags->first; flag != NULL; flag = flag->next) {
        assert_non_null(flags_json_member(flag, SLICE("key")));
        bool failed = flags_json_member(flag, SLICE("errorCode")) != NULL;
        assert_true(failed != (flags_json_member(flag, SLICE("reason")) != NULL));
        failures += failed;
    }
    assert_int_equal(failures, 2);
    world_post(&core, BULK, "{\"context\":{}}");
    assert_non_null(strstr(world_answer.body, "\"key\":\"split\",\"errorCode\":\"TARGETING_KEY_MISSING\""));
    world_post(&core, BULK, "{\"context\":1}");
    assert_int_equal(world_answer.status, 400);
    assert_string_equal(world_member("errorCode"), "INVALID_CONTEXT");
    world_post(&core, BULK, "nonsense");
    assert_int_equal(world_answer.status, 400);
    assert_string_equal(world_member("errorCode"), "PARSE_ERROR");
}

TEST(selectors)
{
    static const char *const OTHER[] = {"Flagd-Selector: flagSetId=other", NULL};
    static const char *const NOWHERE[] = {"Flagd-Selector: flagSetId=nowhere", NULL};
    static char target[1200];
    world_ask(&core, "POST", SINGLE "plain", OTHER, ALICE);
    assert_string_equal(world_member("value"), "false");
    world_ask(&core, "POST", SINGLE "int", OTHER, ALICE);
    assert_int_equal(world_answer.status, 404);
    world_post(&core, SINGLE "plain?selector=flagSetId%3Dother", ALICE);
    assert_string_equal(world_member("value"), "false");
    world_ask(&core, "POST", SINGLE "plain", NOWHERE, ALICE);
    assert_int_equal(world_answer.status, 404);
    assert_string_equal(world_member("errorCode"), "FLAG_NOT_FOUND");
    world_ask(&core, "POST", BULK, NOWHERE, ALICE);
    assert_int_equal(world_answer.status, 200);
    assert_non_null(strstr(world_answer.body, "{\"flags\":[],"));
    world_ask(&core, "POST", BULK, OTHER, ALICE);
    assert_non_null(strstr(world_answer.body, "/ofrep/v1/stream?selector=flagSetId%3Dother"));
    snprintf(target, sizeof target, BULK "?selector=%0*d", FLAGSET_SELECTOR_BYTES + 1, 0);
    assert_int_equal(world_post(&core, target, ALICE)->status, 400);
    assert_int_equal(world_post(&core, BULK "?selector=%", ALICE)->status, 400);
}

// ---- entity tags ----

static const struct world_answer *bulk_if(const char *tag, const char *selector, const char *body)
{
    static char line[2][600];
    snprintf(line[0], sizeof line[0], "If-None-Match: %s", tag);
    snprintf(line[1], sizeof line[1], "Flagd-Selector: %s", selector);
    const char *const headers[] = {line[0], selector[0] != '\0' ? line[1] : NULL, NULL};
    return world_ask(&core, "POST", BULK, headers, body);
}

TEST(tags)
{
    char tag[64];
    char list[200];
    world_post(&core, BULK, ALICE);
    snprintf(tag, sizeof tag, "%.18s", world_field("ETag"));
    assert_int_equal(strlen(world_field("ETag")), 18);
    bulk_if(tag, "", ALICE);
    assert_int_equal(world_answer.status, 304);
    assert_int_equal(world_answer.body_len, 0);
    assert_string_equal(world_field("ETag"), tag);
    snprintf(list, sizeof list, "\"a\", W/%s", tag);
    assert_int_equal(bulk_if(list, "", ALICE)->status, 304);
    assert_int_equal(bulk_if("*", "", ALICE)->status, 304);
    snprintf(list, sizeof list, "%.16s", tag + 1);
    assert_int_equal(bulk_if(list, "", ALICE)->status, 304);
    assert_int_equal(bulk_if("\"a\"", "", ALICE)->status, 200);
    // Another context, though every answer is the same; another selector; another set.
    assert_int_equal(bulk_if(tag, "", "{\"context\":{\"targetingKey\":\"alice\",\"unused\":1}}")->status,
                     200);
    assert_int_equal(bulk_if(tag, "flagSetId=other", ALICE)->status, 200);
    world->base.all.tag++;
    assert_int_equal(bulk_if(tag, "", ALICE)->status, 200);
    world->base.all.tag--;
    assert_int_equal(bulk_if(tag, "", ALICE)->status, 304);
    // Time goes by: the tag stays until an answer depends on it.
    world_wall_ms += 500;
    assert_int_equal(bulk_if(tag, "", ALICE)->status, 304);
    world_wall_ms += 1000;
    assert_int_equal(bulk_if(tag, "", ALICE)->status, 200);
    world_wall_ms -= 1500;
}

// ---- counting ----

static uint64_t counted(const char *key, uint32_t which)
{
    struct flags_info info;
    CHECK(flags_image_find(&world->base.all.set, slice_of(key), &info));
    return flags_tally_read(&world->tally, info.first_counter + which);
}

TEST(counts)
{
    static const char *const OTHER[] = {"Flagd-Selector: flagSetId=other", NULL};
    uint64_t on = counted("plain", 0);
    uint64_t off = counted("plain", 1);
    uint64_t errors = counted("bad", 3);
    uint64_t unknown = flags_tally_read(&world->tally, 0);
    uint64_t evaluations = atomic_load(&core.counts.evaluations);
    world_post(&core, SINGLE "plain", ALICE);
    assert_int_equal(counted("plain", 0), on + 1);
    // By a view: the variant's counter in the whole set.
    world_ask(&core, "POST", SINGLE "plain", OTHER, ALICE);
    assert_int_equal(counted("plain", 0), on + 1);
    assert_int_equal(counted("plain", 1), off + 1);
    world_post(&core, SINGLE "bad", ALICE);
    assert_int_equal(counted("bad", 3), errors + 1);
    world_post(&core, SINGLE "none", ALICE);
    world_ask(&core, "POST", SINGLE "int", OTHER, ALICE);
    assert_int_equal(flags_tally_read(&world->tally, 0), unknown + 2);
    assert_int_equal(atomic_load(&core.counts.evaluations), evaluations + 5);
    world_post(&core, BULK, ALICE);
    assert_int_equal(counted("plain", 0), on + 2);
}

// ---- memory ----

TEST(no_heap)
{
    static const char *const JSON[] = {"Content-Type: application/json", NULL};
    world_post(&core, BULK, ALICE);
    heap_fail_after(0);
    unsigned single = world_post(&core, SINGLE "split", ALICE)->status;
    unsigned bulk = world_post(&core, BULK, ALICE)->status;
    unsigned rpc = world_ask(&core, "POST", "/flagd.evaluation.v1.Service/ResolveAll", JSON, "{}")->status;
    // A stream is its own object: refused, and nothing else is harmed.
    unsigned stream = world_ask(&core, "GET", "/ofrep/v1/stream", NULL, "")->status;
    heap_fail_after(-1);
    assert_int_equal(single, 200);
    assert_int_equal(bulk, 200);
    assert_int_equal(rpc, 200);
    assert_int_equal(stream, 503);
}

// An answer that outgrows its storage while there is no more is an error, and the next one is whole again.
TEST(answer_grows)
{
    static char set[1 << 18];
    static const char *const JSON[] = {"Content-Type: application/json", NULL};
    size_t len = (size_t)snprintf(set, sizeof set, "{\"flags\":{");
    for (int i = 0; i < 900; i++)
        len += (size_t)snprintf(set + len, sizeof set - len,
                                "%s\"flag-with-a-rather-long-key-%d\":" FLAG("\"defaultVariant\":\"on\""),
                                i > 0 ? "," : "", i);
    snprintf(set + len, sizeof set - len, "}}");
    struct world_snapshot *large = world_snapshot(set, 2);
    world_publish(&core, large);
    heap_fail_after(0);
    unsigned refused = world_post(&core, BULK, ALICE)->status;
    unsigned also = world_ask(&core, "POST", "/flagd.evaluation.v1.Service/ResolveAll", JSON, "{}")->status;
    heap_fail_after(-1);
    assert_int_equal(refused, 500);
    assert_int_equal(also, 500);
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 200);
    assert_true(world_answer.body_len > OFREP_ANSWER_BYTES);
    const struct flags_json *root = world_json((struct slice){world_answer.body, world_answer.body_len});
    assert_int_equal(flags_json_member(root, SLICE("flags"))->count, 900);
    world_publish(&core, world);
    world_free(large);
}

TEST(core_without_memory)
{
    struct ofrep_config config = {.exposures = true};
    static struct ofrep_core other;
    enum status status = STATUS_NO_MEMORY;
    int refused = 0;
    for (long n = 0; status != STATUS_OK; n++) {
        heap_fail_after(n);
        status = ofrep_core_init(&other, &config);
        heap_fail_after(-1);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        refused += status != STATUS_OK;
    }
    assert_int_equal(refused, 6);
    ofrep_core_deinit(&other);
}
