// SPDX-License-Identifier: Apache-2.0
// ofrep: who may ask, how often, and from which page; what is told of who saw what.
#include "ofrep_world.h"
#include "test.h"

#define SINGLE "/ofrep/v1/evaluate/flags/"
#define BULK "/ofrep/v1/evaluate/flags"
#define RPC "/flagd.evaluation.v1.Service/ResolveAll"
#define FETCH "/flagd.sync.v1.FlagSyncService/FetchAllFlags"
#define ALICE "{\"context\":{\"targetingKey\":\"alice\"}}"

static const char SET[] =
    "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":"
    "\"off\",\"targeting\":{\"if\":[{\"var\":\"gold\"},\"on\"]}},\"gone\":{\"state\":\"DISABLED\","
    "\"variants\":"
    "{\"on\":true},\"defaultVariant\":\"on\"}}}";
static const char STAGING[] = "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"staged\":true},"
                              "\"defaultVariant\":\"staged\"}}}";

static struct ofrep_core core;
static struct world_snapshot *world;
static int token_marker; // any pointer will do: tokens_find is stood in for

static void begin(const struct ofrep_config *config)
{
    assert_int_equal(ofrep_core_init(&core, config), STATUS_OK);
    world = world_snapshot(SET, 1);
    world_add_view(world, "flagSetId=staging", STAGING);
    world_publish(&core, world);
}

static void end(void)
{
    ofrep_core_deinit(&core);
    world_free(world);
}

TEST(tokens)
{
    struct ofrep_config config = {0};
    static const char *const NONE[] = {NULL};
    static const char *const WRONG[] = {"Authorization: Bearer wrong", NULL};
    static const char *const READ[] = {"Authorization: Bearer read", NULL};
    static const char *const SERVE[] = {"X-API-Key: serve", NULL};
    begin(&config);
    core.tokens = (const struct tokens *)(const void *)&token_marker;
    assert_int_equal(world_ask(&core, "POST", BULK, NONE, ALICE)->status, 401);
    assert_string_equal(world_field("WWW-Authenticate"), "Bearer realm=\"flags\"");
    assert_string_not_equal(world_member("errorDetails"), "");
    assert_int_equal(world_ask(&core, "POST", BULK, WRONG, ALICE)->status, 401);
    assert_string_equal(world_field("WWW-Authenticate"), "Bearer realm=\"flags\", error=\"invalid_token\"");
    assert_int_equal(world_ask(&core, "GET", "/nowhere", WRONG, "")->status, 401);
    assert_int_equal(world_ask(&core, "GET", "/ofrep/v1/stream", WRONG, "")->status, 401);
    assert_int_equal(world_ask(&core, "POST", RPC, WRONG, "{}")->status, 401);
    assert_string_equal(world_member("code"), "unauthenticated");
    assert_int_equal(atomic_load(&core.counts.unauthorized), 5);
    assert_int_equal(world_ask(&core, "GET", "/healthz", NONE, "")->status, 200);
    // A reader sees its environment, whether it says so or not, and no other.
    assert_int_equal(world_ask(&core, "POST", SINGLE "f", READ, ALICE)->status, 200);
    assert_string_equal(world_member("variant"), "staged");
    static const char *const SAME[] = {"Authorization: Bearer read", "Flagd-Selector: flagSetId=staging",
                                       NULL};
    static const char *const ANOTHER[] = {"Authorization: Bearer read", "Flagd-Selector: flagSetId=shop",
                                          NULL};
    static const char *const SOURCE[] = {"Authorization: Bearer read", "Flagd-Selector: flags.json", NULL};
    assert_int_equal(world_ask(&core, "POST", SINGLE "f", SAME, ALICE)->status, 200);
    assert_int_equal(world_ask(&core, "POST", SINGLE "f", ANOTHER, ALICE)->status, 403);
    assert_string_equal(world_field("WWW-Authenticate"),
                        "Bearer realm=\"flags\", error=\"insufficient_scope\"");
    assert_int_equal(world_ask(&core, "POST", BULK "?selector=flags.json", READ, ALICE)->status, 403);
    assert_int_equal(world_ask(&core, "POST", BULK, SOURCE, ALICE)->status, 403);
    // A server token of all environments sees all, and the definitions.
    assert_int_equal(world_ask(&core, "POST", SINGLE "f", SERVE, ALICE)->status, 200);
    assert_string_equal(world_member("variant"), "off");
    static const char *const READ_JSON[] = {"Authorization: Bearer read", "Content-Type: application/json",
                                            NULL};
    static const char *const SERVE_JSON[] = {"X-API-Key: serve", "Content-Type: application/json", NULL};
    assert_int_equal(world_ask(&core, "POST", FETCH, READ_JSON, "{}")->status, 403);
    assert_string_equal(world_member("code"), "permission_denied");
    assert_int_equal(world_ask(&core, "POST", FETCH, SERVE_JSON, "{}")->status, 200);
    end();
}

TEST(rate)
{
    struct ofrep_config config = {0};
    begin(&config);
    core.limit = ofrep_limit_create(10, 3);
    assert_non_null(core.limit);
    world_now_us = 1000000;
    for (int i = 0; i < 3; i++)
        assert_int_equal(world_post(&core, BULK, ALICE)->status, 200);
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 429);
    assert_string_equal(world_field("Retry-After"), "1");
    assert_string_not_equal(world_member("errorDetails"), "");
    assert_int_equal(atomic_load(&core.counts.limited), 1);
    static const char *const JSON[] = {"Content-Type: application/json", NULL};
    assert_int_equal(world_ask(&core, "POST", RPC, JSON, "{}")->status, 429);
    assert_string_equal(world_member("code"), "resource_exhausted");
    assert_int_equal(world_ask(&core, "GET", "/healthz", NULL, "")->status, 200);
    world_now_us += 100000;
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 200);
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 429);
    // It never holds more than the burst, and a clock that lags takes nothing.
    world_now_us += 60000000;
    for (int i = 0; i < 3; i++)
        assert_int_equal(world_post(&core, BULK, ALICE)->status, 200);
    world_now_us -= 50000;
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 429);
    // Another address has its own; of IPv6 a whole /64 has one, but not of IPv4 in its clothes.
    static const char *const FROM[] = {"192.0.2.2", "2001:db8::1",         "2001:db8:0:1::1",
                                       "unix:",     "::ffff:198.51.100.1", "::ffff:198.51.100.2"};
    for (size_t k = 0; k < ARRAY_LEN(FROM); k++) {
        world_from = FROM[k];
        for (int i = 0; i < 3; i++)
            assert_int_equal(world_post(&core, BULK, ALICE)->status, 200);
        assert_int_equal(world_post(&core, BULK, ALICE)->status, 429);
    }
    world_from = "2001:db8::ffff:2";
    assert_int_equal(world_post(&core, BULK, ALICE)->status, 429);
    world_from = "192.0.2.1";
    ofrep_limit_destroy(core.limit);
    core.limit = NULL;
    end();
}

// Thousands of callers: the table stays, and each has its own bucket.
TEST(limit_table)
{
    struct ofrep_limit *limit = ofrep_limit_create(1, 1);
    uint32_t wait_s;
    char who[32];
    uint32_t refused = 0, again = 0;
    assert_non_null(limit);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            snprintf(who, sizeof who, "198.51.100.%d", i);
            bool taken = ofrep_limit_take(limit, slice_of(who), 5000000, &wait_s);
            assert_true(taken || round == 1);
            again += taken && round == 1;
        }
    // The key is random: now and then more meet in one place than it holds, and forget each other.
    assert_true(again <= 15);
    for (int i = 0; i < 100000; i++) {
        snprintf(who, sizeof who, "other %d", i);
        refused += !ofrep_limit_take(limit, slice_of(who), 6000000, &wait_s);
    }
    assert_int_equal(refused, 0);
    ofrep_limit_destroy(limit);
    limit = ofrep_limit_create(1, 2);
    assert_true(ofrep_limit_take(limit, SLICE("a"), 10, &wait_s));
    assert_true(ofrep_limit_take(limit, SLICE("a"), 10, &wait_s));
    assert_false(ofrep_limit_take(limit, SLICE("a"), 10, &wait_s));
    assert_int_equal(wait_s, 2);
    ofrep_limit_destroy(limit);
}

TEST(cors)
{
    struct ofrep_config config = {.cors_origin = "https://shop.example"};
    struct ofrep_config bad = {.cors_origin = "a\r\nb"};
    assert_int_equal(ofrep_core_init(&core, &bad), STATUS_INVALID);
    begin(&config);
    core.tokens = (const struct tokens *)(const void *)&token_marker;
    // A preflight carries no token.
    assert_int_equal(world_ask(&core, "OPTIONS", BULK, NULL, "")->status, 204);
    assert_int_equal(world_answer.body_len, 0);
    assert_string_equal(world_field("Access-Control-Allow-Origin"), "https://shop.example");
    assert_non_null(strstr(world_field("Access-Control-Allow-Headers"), "If-None-Match"));
    assert_non_null(strstr(world_field("Access-Control-Allow-Methods"), "POST"));
    world_post(&core, BULK, ALICE);
    assert_int_equal(world_answer.status, 401);
    assert_string_equal(world_field("Access-Control-Allow-Origin"), "https://shop.example");
    core.tokens = NULL;
    world_post(&core, BULK, ALICE);
    assert_int_equal(world_answer.status, 200);
    assert_string_equal(world_field("Access-Control-Allow-Origin"), "https://shop.example");
    assert_string_equal(world_field("Vary"), "Origin");
    assert_string_equal(world_field("Access-Control-Expose-Headers"), "ETag, Retry-After");
    end();
    config.cors_origin = "*";
    begin(&config);
    world_post(&core, SINGLE "f", ALICE);
    assert_string_equal(world_field("Access-Control-Allow-Origin"), "*");
    assert_string_equal(world_field("Vary"), "");
    end();
}

// ---- exposures ----

static uint32_t taken(struct ofrep_exposure *out, uint32_t cap)
{
    return ofrep_exposures_drain(core.exposures, out, cap);
}

TEST(exposures)
{
    struct ofrep_config config = {.exposures = true};
    struct ofrep_exposure out[8];
    static const char *const JSON[] = {"Content-Type: application/json", NULL};
    begin(&config);
    world_wall_ms = INT64_C(1700000000000);
    for (int i = 0; i < 3; i++)
        world_post(&core, SINGLE "f", ALICE);
    assert_int_equal(taken(out, 8), 1);
    assert_string_equal(out[0].flag, "f");
    assert_string_equal(out[0].variant, "off");
    assert_string_equal(out[0].key, "alice");
    assert_int_equal(out[0].set_version, 1);
    assert_int_equal(out[0].time_ms, world_wall_ms);
    // Another variant, another key; by RPC, too; but nobody without a key, and nothing without a variant.
    world_post(&core, SINGLE "f", "{\"context\":{\"targetingKey\":\"alice\",\"gold\":true}}");
    world_post(&core, SINGLE "f", "{\"context\":{\"targetingKey\":\"bob\"}}");
    world_ask(&core, "POST", "/flagd.evaluation.v1.Service/ResolveBoolean", JSON,
              "{\"flagKey\":\"f\",\"context\":{\"targetingKey\":\"carol\"}}");
    world_post(&core, SINGLE "f", "{\"context\":{}}");
    world_post(&core, SINGLE "gone", ALICE);
    world_post(&core, SINGLE "none", ALICE);
    world_post(&core, BULK, "{\"context\":{\"targetingKey\":\"dave\"}}");
    assert_int_equal(taken(out, 8), 3);
    assert_string_equal(out[2].key, "carol");
    // The next day is another day.
    world_wall_ms += 86400000;
    world_post(&core, SINGLE "f", ALICE);
    assert_int_equal(taken(out, 8), 1);
    end();
}

TEST(exposures_bound)
{
    struct ofrep_config config = {.exposures = true};
    static struct ofrep_exposure out[OFREP_EXPOSURES_RING + 1];
    char key[700];
    begin(&config);
    for (int i = 0; i < OFREP_EXPOSURES_RING + 10; i++) {
        snprintf(key, sizeof key, "user-%d", i);
        ofrep_exposures_note(core.exposures, core.snapshot, SLICE("f"), SLICE("on"), slice_of(key), 1);
    }
    assert_int_equal(ofrep_exposures_lost(core.exposures), 10);
    assert_int_equal(taken(out, ARRAY_LEN(out)), OFREP_EXPOSURES_RING);
    assert_int_equal(taken(out, 8), 0);
    // Cut, and not inside a character.
    memset(key, 'a', sizeof key);
    memcpy(key + 254, "\xc3\xa9", 2);
    ofrep_exposures_note(core.exposures, core.snapshot, SLICE("f"), SLICE("on"), (struct slice){key, 300}, 1);
    assert_int_equal(taken(out, 8), 1);
    assert_int_equal(strlen(out[0].key), 254);
    assert_int_equal(ofrep_exposures_lost(core.exposures), 10);
    end();
}
