// SPDX-License-Identifier: Apache-2.0
// flags: patches over a compiled set. State, kill, the split of a rollout: who gets what, how many, who moves
// when the share grows, rings, what is never split, counters; and that patching is the same as compiling.
#include <math.h>

#include "flags/eval/bucket.h"
#include "flags/eval/tally.h"
#include "flags_fixture.h"
#include "test.h"

_Alignas(8) static uint8_t patched[1 << 16];
static struct flags_image set; // of the patched image

#define BOOLEANS "\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false}"
#define OFF ",\"defaultVariant\":\"off\""

static const char SEGMENTS[] = "{\"staff\":{\"ends_with\":[{\"var\":\"targetingKey\"},\"7\"]},"
                               "\"beta\":{\"==\":[{\"var\":\"beta\"},true]},"
                               "\"third\":{\"fractional\":[[true,1],[false,2]]}}";

static enum status compile(const char *flags, const struct flags_patch *patches, uint32_t count)
{
    static char json[1 << 14];
    snprintf(json, sizeof json, "{\"flags\":{%s}}", flags);
    struct flags_bundle_document document = {.json = slice_of(json), .name = "test"};
    struct flags_bundle bundle = {.documents = &document,
                                  .document_count = 1,
                                  .segments = SLICE(SEGMENTS),
                                  .patches = patches,
                                  .patch_count = count};
    return fixture_compile_bundle(&fixture, &bundle);
}

// Patches the flags and checks that compiling with the patches gives the same bytes and the same warnings.
static size_t patch(const char *flags, const struct flags_patch *patches, uint32_t count)
{
    struct flags_finding problems[8];
    size_t warnings;
    size_t len;
    assert_int_equal(compile(flags, NULL, 0), STATUS_OK);
    assert_int_equal(flags_image_patch(&fixture.set, patches, count, patched, sizeof patched, &len, problems,
                                       8, &warnings),
                     STATUS_OK);
    assert_int_equal(flags_image_open(patched, len, &set), STATUS_OK);
    assert_int_equal(compile(flags, patches, count), STATUS_OK);
    assert_int_equal(fixture.problem_count, warnings);
    assert_int_equal(fixture.len, len);
    assert_memory_equal(fixture.image, patched, len);
    return warnings;
}

static struct flags_result ask_as(const char *key, const char *user, const char *context)
{
    struct flags_context given = {
        .tree = context != NULL ? fixture_tree(&fixture, slice_of(context)) : NULL,
        .has_targeting_key = user != NULL,
        .targeting_key = user != NULL ? slice_of(user) : SLICE(""),
        .time_s = 1795251600,
    };
    struct flags_result result;
    flags_evaluate(&set, slice_of(key), FLAGS_ANY, &given,
                   (struct flags_scratch){fixture.scratch, sizeof fixture.scratch}, &result);
    return result;
}

static struct flags_result ask(const char *key, const char *user)
{
    return ask_as(key, user, NULL);
}

static const struct siphash_key SALT = {0x123456789abcdef0, 0xfedcba9876543210};

static struct flags_patch split_of(uint32_t share, uint32_t rings)
{
    return (struct flags_patch){.key = SLICE("f"),
                                .split = true,
                                .split_from = SLICE("off"),
                                .split_to = SLICE("on"),
                                .split_share = share,
                                .split_salt = SALT,
                                .ring_count = rings,
                                .rings = {SLICE("staff"), SLICE("beta")}};
}

static bool is_variant(const struct flags_result *result, const char *variant)
{
    return slice_equal(result->variant, slice_of(variant));
}

#define PLAIN "\"f\":{" BOOLEANS OFF "}"

TEST(state_and_kill)
{
    static const char FLAGS[] =
        "\"f\":{" BOOLEANS OFF "},\"d\":{\"state\":\"DISABLED\",\"variants\":{\"x\":1},"
        "\"defaultVariant\":\"x\",\"x-sluice\":{\"kill\":true}},"
        "\"g\":{" BOOLEANS OFF ",\"x-sluice\":{\"kill\":\"on\"}}";
    struct flags_patch patches[] = {
        {.key = SLICE("f"), .kill = true, .kill_variant = SLICE("on")},
        {.key = SLICE("d"), .state = FLAGS_PATCH_ENABLED},
        {.key = SLICE("g"), .state = FLAGS_PATCH_ENABLED},
    };
    assert_int_equal(patch(FLAGS, patches, 3), 0);
    struct flags_result result = ask("f", "u");
    assert_true(is_variant(&result, "on") && result.reason == FLAGS_REASON_DISABLED);
    result = ask("d", "u");
    assert_true(is_variant(&result, "x") && result.reason == FLAGS_REASON_STATIC);
    result = ask("g", "u");
    assert_true(is_variant(&result, "off") && result.error == FLAGS_ERROR_NONE);
    struct flags_info info;
    assert_true(flags_image_find(&set, SLICE("f"), &info) && info.killed && info.enabled);
    assert_true(flags_image_find(&set, SLICE("g"), &info) && !info.killed);
    patches[0] = (struct flags_patch){.key = SLICE("f"), .state = FLAGS_PATCH_DISABLED};
    patches[1] = (struct flags_patch){.key = SLICE("d"), .state = FLAGS_PATCH_ENABLED, .kill = true};
    patches[2] = (struct flags_patch){.key = SLICE("g"), .kill = true};
    assert_int_equal(patch(FLAGS, patches, 3), 0);
    for (int i = 0; i < 3; i++) {
        result = ask(i == 0 ? "f" : i == 1 ? "d" : "g", "u");
        assert_true(result.reason == FLAGS_REASON_DISABLED);
        // A plain kill answers "false" where there is such a variant.
        assert_true(i == 2 ? is_variant(&result, "off") && !result.boolean : !result.has_value);
    }
    assert_true(flags_image_find(&set, SLICE("f"), &info) && !info.enabled && !info.killed);
    assert_true(flags_image_find(&set, SLICE("g"), &info) && info.killed);
    assert_true(slice_equal(info.kill_variant, SLICE("off")));
}

// Off is off, whatever else of the patch does not fit, and also for a flag that was disabled.
TEST(a_kill_comes_first)
{
    static const char DISABLED[] = "\"f\":{\"state\":\"DISABLED\",\"variants\":{\"on\":true,\"off\":false},"
                                   "\"defaultVariant\":\"on\"}";
    struct flags_patch wrong = split_of(1000, 0);
    struct flags_result result;
    wrong.kill = true;
    wrong.split_to = SLICE("renamed");
    for (int i = 0; i < 3; i++) {
        wrong.kill_variant = i == 0 ? SLICE("") : i == 1 ? SLICE("off") : SLICE("renamed");
        assert_int_equal(patch(PLAIN, &wrong, 1), i == 2 ? 2 : 1);
        assert_int_equal(fixture.problems[0].severity, FLAGS_WARNING);
        result = ask("f", "u");
        assert_true(is_variant(&result, "off") && result.reason == FLAGS_REASON_DISABLED);
    }
    wrong = (struct flags_patch){.key = SLICE("f"), .kill = true, .kill_variant = SLICE("off")};
    assert_int_equal(patch(DISABLED, &wrong, 1), 0);
    result = ask("f", "u");
    assert_true(is_variant(&result, "off") && result.has_value && !result.boolean);
}

static void assert_warning(const char *message)
{
    assert_int_equal(fixture.problems[0].severity, FLAGS_WARNING);
    assert_int_equal(fixture.problems[0].document, FLAGS_DOCUMENTS_MAX);
    assert_int_equal(fixture.problems[0].line, 0);
    assert_non_null(strstr(fixture.problems[0].message, message));
}

static void assert_no_split(struct flags_patch wrong, const char *message)
{
    struct flags_info info;
    wrong.state = FLAGS_PATCH_DISABLED;
    assert_int_equal(patch(PLAIN, &wrong, 1), 1);
    assert_warning(message);
    assert_true(flags_image_find(&set, SLICE("f"), &info) && !info.split);
    assert_int_equal(ask("f", "u").reason, FLAGS_REASON_DISABLED); // the rest of the patch counts
}

// A wrong name makes its own part of a patch void, and no other.
TEST(wrong_patches)
{
    struct flags_patch wrong = {.key = SLICE("nope"), .kill = true};
    assert_int_equal(patch(PLAIN, &wrong, 1), 1);
    assert_warning("names no flag");
    assert_int_equal(ask("f", "u").reason, FLAGS_REASON_STATIC);
    wrong = split_of(1000, 0);
    wrong.split_from = SLICE("nope");
    assert_no_split(wrong, "names no variant");
    wrong = split_of(1000, 0);
    wrong.split_to = SLICE("nope");
    assert_no_split(wrong, "names no variant");
    wrong = split_of(1000, 0);
    wrong.split_to = wrong.split_from;
    assert_no_split(wrong, "between two variants");
    assert_no_split(split_of(FLAGS_SHARE_TOTAL + 1, 0), "above the whole");
    wrong = split_of(1000, 2);
    wrong.rings[1] = SLICE("nope");
    assert_no_split(wrong, "names no segment");
    const struct flags_patch twice[] = {{.key = SLICE("f"), .kill = true, .kill_variant = SLICE("on")},
                                        {.key = SLICE("f"), .state = FLAGS_PATCH_DISABLED}};
    assert_int_equal(patch(PLAIN, twice, 2), 1);
    struct flags_result result = ask("f", "u");
    assert_true(is_variant(&result, "on"));
}

TEST(patch_storage)
{
    const struct flags_patch split = split_of(1000, 2);
    struct flags_finding problem;
    size_t warnings;
    size_t len = 0;
    (void)patch(PLAIN, &split, 1);
    assert_int_equal(compile(PLAIN, NULL, 0), STATUS_OK);
    struct flags_image base = fixture.set;
    assert_true(set.len <= base.len + FLAGS_PATCH_BYTES_MAX);
    for (size_t cap = 0; cap < set.len; cap++)
        assert_int_equal(flags_image_patch(&base, &split, 1, patched, cap, &len, &problem, 1, &warnings),
                         STATUS_FULL);
    assert_int_equal(flags_image_patch(&base, &split, 1, patched, set.len, &len, &problem, 1, &warnings),
                     STATUS_OK);
    _Alignas(8) static uint8_t again[1 << 14];
    assert_int_equal(flags_image_patch(&set, &split, 1, again, sizeof again, &len, &problem, 1, &warnings),
                     STATUS_CONFLICT);
    // Without patches the copy is the base.
    assert_int_equal(flags_image_patch(&base, NULL, 0, again, sizeof again, &len, &problem, 1, &warnings),
                     STATUS_OK);
    assert_int_equal(len, base.len);
    assert_memory_equal(again, base.image, len);
}

enum { KEYS = 1000000 };

static struct slice key_of(int i, char out[24])
{
    return (struct slice){out, (size_t)snprintf(out, 24, "user-%d", i)};
}

// A million keys per share: the count of those split lies where chi-square with one degree of freedom puts
// all but one in a hundred thousand.
TEST(distribution)
{
    enum { QUANTILE_HUNDREDTHS = 1951 };
    static const uint32_t SHARES[] = {1, 100, 1000, 5000, 25000, 50000, 75000, 99000, 99999};
    static uint32_t place[KEYS];
    char key[24];
    for (int i = 0; i < KEYS; i++)
        place[i] = flags_bucket_of_split(SALT, SLICE("f"), key_of(i, key), FLAGS_SHARE_TOTAL);
    for (size_t s = 0; s < ARRAY_LEN(SHARES); s++) {
        double wanted = (double)KEYS * SHARES[s] / FLAGS_SHARE_TOTAL;
        double rest = KEYS - wanted;
        int count = 0;
        for (int i = 0; i < KEYS; i++)
            count += place[i] < SHARES[s];
        double off = count - wanted;
        double chi = off * off / wanted + off * off / rest;
        if (chi * 100 > QUANTILE_HUNDREDTHS)
            fail_msg("share %u: %d of %.0f, chi-square %.2f", SHARES[s], count, wanted, chi);
    }
    // And over a hundred cells, 99 degrees of freedom.
    int cells[100] = {0};
    double chi = 0;
    for (int i = 0; i < KEYS; i++)
        cells[place[i] / (FLAGS_SHARE_TOTAL / 100)]++;
    for (int c = 0; c < 100; c++)
        chi += (cells[c] - KEYS / 100.0) * (cells[c] - KEYS / 100.0) / (KEYS / 100.0);
    assert_true(chi < 173);
}

// Evaluation agrees with the bucket at every share: so nobody moves at a fixed share, and growth moves
// exactly those in the added part.
TEST(growth)
{
    enum { USERS = 4000 };
    static const uint32_t SHARES[] = {0, 1000, 1000, 5000, 25000, 60000, FLAGS_SHARE_TOTAL};
    static bool had[USERS];
    char user[24];
    for (size_t s = 0; s < ARRAY_LEN(SHARES); s++) {
        const struct flags_patch split = split_of(SHARES[s], 0);
        assert_int_equal(patch(PLAIN, &split, 1), 0);
        for (int i = 0; i < USERS; i++) {
            uint32_t place = flags_bucket_of_split(SALT, SLICE("f"), key_of(i, user), FLAGS_SHARE_TOTAL);
            struct flags_result result = ask("f", user);
            assert_int_equal(result.boolean, place < SHARES[s]);
            assert_int_equal(result.reason, FLAGS_REASON_SPLIT);
            assert_int_equal(result.arm, place < SHARES[s] ? FLAGS_ARM_TO : FLAGS_ARM_FROM);
            bool added = s > 0 && place >= SHARES[s - 1] && place < SHARES[s];
            assert_int_equal(result.boolean != had[i], added);
            had[i] = result.boolean;
        }
    }
}

// Who was drawn under one salt says nothing of who is under another, in any part of it.
TEST(independent_of_other_runs)
{
    enum { USERS = 40000 };
    const struct siphash_key SALTS[] = {{SALT.k0 ^ 1, SALT.k1},
                                        {SALT.k0 ^ 1ULL << 63, SALT.k1},
                                        {SALT.k0, SALT.k1 ^ 1},
                                        {SALT.k0, SALT.k1 ^ 1ULL << 63}};
    char user[24];
    for (size_t s = 0; s < ARRAY_LEN(SALTS); s++) {
        struct flags_patch split = split_of(20000, 0);
        split.split_salt = SALTS[s];
        assert_int_equal(patch(PLAIN, &split, 1), 0);
        int both = 0, drawn = 0;
        for (int i = 0; i < USERS; i++) {
            uint32_t before = flags_bucket_of_split(SALT, SLICE("f"), key_of(i, user), FLAGS_SHARE_TOTAL);
            bool now = ask("f", user).boolean;
            drawn += now;
            both += now && before < 20000;
        }
        assert_in_range(drawn, 7600, 8400);
        assert_in_range(both, 1440, 1760);
    }
}

// What a fractional rule of the flag drew has no say in the split over it.
TEST(independent_of_fractional)
{
    enum { USERS = 40000 };
    static const char FLAGS[] =
        "\"f\":{" BOOLEANS OFF ",\"targeting\":{\"fractional\":[[\"on\",50],[\"off\",50]]}}";
    const struct flags_patch split = split_of(20000, 0);
    char user[24];
    int arms[4] = {0};
    assert_int_equal(patch(FLAGS, &split, 1), 0);
    for (int i = 0; i < USERS; i++) {
        (void)key_of(i, user);
        arms[ask("f", user).arm]++;
    }
    assert_in_range(arms[FLAGS_ARM_NONE], USERS / 2 - 600, USERS / 2 + 600);
    double drawn = arms[FLAGS_ARM_TO] + arms[FLAGS_ARM_FROM];
    // Five standard deviations.
    assert_true(fabs(arms[FLAGS_ARM_TO] - 0.2 * drawn) < 5 * sqrt(0.16 * drawn));
}

TEST(rings)
{
    static const char BETA[] = "{\"beta\":true}";
    char user[24];
    char path_text[64];
    for (uint32_t share = 0; share <= FLAGS_SHARE_TOTAL; share += FLAGS_SHARE_TOTAL / 4) {
        const struct flags_patch split = split_of(share, 2);
        assert_int_equal(patch(PLAIN, &split, 1), 0);
        for (int i = 0; i < 300; i++) {
            (void)key_of(i, user);
            struct flags_result result = ask("f", user);
            bool staff = i % 10 == 7;
            assert_int_equal(result.arm == FLAGS_ARM_RING, staff);
            assert_int_equal(result.reason, FLAGS_REASON_SPLIT);
            assert_true(!staff || result.boolean);
            result = ask_as("f", user, BETA);
            assert_true(result.boolean && result.arm == FLAGS_ARM_RING);
        }
    }
    static const struct {
        const char *user;
        const char *context;
        const char *path;
    } paths[] = {{"u7", "{}", "rollout.ring[0]"},
                 {"u1", BETA, "rollout.ring[1]"},
                 {"u1", "{}", "rollout.split"},
                 {NULL, BETA, "targeting.if[3]"},
                 {"u1", "{\"on\":true}", "targeting.if[1]"}};
    static const char FLAGS[] =
        "\"f\":{" BOOLEANS OFF
        ",\"targeting\":{\"if\":[{\"var\":\"on\"},\"on\",{\"var\":\"beta\"},\"off\",null]}}";
    const struct flags_patch split = split_of(50000, 2);
    assert_int_equal(patch(FLAGS, &split, 1), 0);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct text path = text_over(path_text, sizeof path_text);
        struct flags_result result;
        struct flags_context context = {.tree = fixture_tree(&fixture, slice_of(paths[i].context)),
                                        .has_targeting_key = paths[i].user != NULL,
                                        .targeting_key =
                                            slice_of(paths[i].user != NULL ? paths[i].user : "")};
        flags_explain(&set, SLICE("f"), FLAGS_ANY, &context,
                      (struct flags_scratch){fixture.scratch, sizeof fixture.scratch}, &result, &path);
        assert_string_equal(path.data, paths[i].path);
    }
}

// A ring is who flags_segment_matches says, however the flag itself draws.
TEST(ring_is_segment)
{
    struct flags_patch split = split_of(0, 1);
    char user[24];
    split.rings[0] = SLICE("third");
    assert_int_equal(patch(PLAIN, &split, 1), 0);
    int members = 0;
    for (int i = 0; i < 3000; i++) {
        struct flags_context context = {.has_targeting_key = true, .targeting_key = key_of(i, user)};
        bool member;
        assert_true(flags_segment_matches(&set, SLICE("third"), &context,
                                          (struct flags_scratch){fixture.scratch, sizeof fixture.scratch},
                                          &member));
        assert_int_equal(ask("f", user).boolean, member);
        members += member;
    }
    assert_in_range(members, 850, 1150);
}

TEST(never_split)
{
    static const char FLAGS[] =
        "\"f\":{" BOOLEANS OFF ",\"x-sluice\":{\"targets\":{\"off\":[\"named\"]},"
        "\"schedule\":{\"from\":1000},\"prerequisites\":[{\"flag\":\"g\",\"variant\":\"on\"}]}},"
        "\"g\":{" BOOLEANS ",\"defaultVariant\":\"on\"}";
    struct flags_patch patches[2] = {split_of(FLAGS_SHARE_TOTAL, 0), {.key = SLICE("g")}};
    struct flags_result result;
    assert_int_equal(patch(FLAGS, patches, 2), 0);
    assert_true(ask("f", "anybody").boolean);
    result = ask("f", "named");
    assert_true(!result.boolean && result.reason == FLAGS_REASON_TARGETING_MATCH);
    assert_int_equal(result.arm, FLAGS_ARM_NONE);
    result = ask("f", NULL);
    assert_true(!result.boolean && result.reason == FLAGS_REASON_DEFAULT);
    struct flags_context early = {.has_targeting_key = true, .targeting_key = SLICE("u"), .time_s = 10};
    flags_evaluate(&set, SLICE("f"), FLAGS_ANY, &early,
                   (struct flags_scratch){fixture.scratch, sizeof fixture.scratch}, &result);
    assert_true(!result.boolean && result.reason == FLAGS_REASON_DEFAULT && result.note.len > 0);
    // A prerequisite that is killed by a patch.
    patches[1] = (struct flags_patch){.key = SLICE("g"), .kill = true};
    assert_int_equal(patch(FLAGS, patches, 2), 0);
    result = ask("f", "anybody");
    assert_true(!result.boolean && result.reason == FLAGS_REASON_DEFAULT);
    // A flag that is killed itself, for good or to a variant.
    patches[0].kill = true;
    patches[0].kill_variant = SLICE("off");
    assert_int_equal(patch(FLAGS, patches, 1), 0);
    result = ask("f", "anybody");
    assert_true(!result.boolean && result.reason == FLAGS_REASON_DISABLED);
    // Who gets something else than `from` is none of the rollout's business.
    const struct flags_patch split = split_of(FLAGS_SHARE_TOTAL, 0);
    assert_int_equal(patch("\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":1,\"off\":2,\"other\":3},"
                           "\"defaultVariant\":\"other\",\"targeting\":{\"if\":[{\"==\":[{\"var\":\"x\"},1]},"
                           "\"off\",{\"==\":[{\"var\":\"x\"},2]},\"nope\"]}}",
                           &split, 1),
                     0);
    result = ask_as("f", "u", "{}");
    assert_true(is_variant(&result, "other") && result.reason == FLAGS_REASON_DEFAULT);
    result = ask_as("f", "u", "{\"x\":1}");
    assert_true(is_variant(&result, "on") && result.reason == FLAGS_REASON_SPLIT);
    result = ask_as("f", "u", "{\"x\":2}");
    assert_true(result.error == FLAGS_ERROR_GENERAL && result.arm == FLAGS_ARM_NONE);
}

// A prerequisite is met by what the split gives.
TEST(split_meets_prerequisite)
{
    static const char FLAGS[] =
        PLAIN ",\"g\":{" BOOLEANS ",\"defaultVariant\":\"off\",\"targeting\":{\"if\":[true,\"on\"]},"
              "\"x-sluice\":{\"prerequisites\":[{\"flag\":\"f\",\"variant\":\"on\"}]}}";
    const struct flags_patch split = split_of(30000, 1);
    char user[24];
    int with = 0;
    assert_int_equal(patch(FLAGS, &split, 1), 0);
    for (int i = 0; i < 1000; i++) {
        (void)key_of(i, user);
        struct flags_result inner = ask("f", user);
        struct flags_result result = ask("g", user);
        assert_int_equal(result.boolean, inner.boolean);
        assert_int_equal(result.arm, FLAGS_ARM_NONE);
        with += result.boolean;
    }
    assert_in_range(with, 300, 450);
}

TEST(counters)
{
    static const char FLAGS[] =
        PLAIN ",\"g\":{\"state\":\"ENABLED\",\"variants\":{\"a\":1,\"b\":2,\"c\":3},\"targeting\":"
              "{\"var\":\"want\"}}";
    static _Atomic uint64_t counts[16];
    struct flags_tally tally = {.counts = counts};
    struct flags_info f;
    struct flags_info g;
    (void)patch(FLAGS, NULL, 0);
    assert_true(flags_image_find(&set, SLICE("f"), &f) && flags_image_find(&set, SLICE("g"), &g));
    assert_int_equal(f.first_counter, 1);
    assert_int_equal(g.first_counter, 1 + 2 + 2);
    tally.count = flags_image_counter_count(&set);
    assert_int_equal(tally.count, 1 + 4 + 5);
    static const struct {
        const char *key;
        const char *context;
        uint32_t counter;
    } asked[] = {
        {"nope", "{}", 0},
        {"f", "{}", 2},
        {"f", "[]", 4},
        {"g", "{\"want\":\"a\"}", 5},
        {"g", "{\"want\":\"b\"}", 6},
        {"g", "{\"want\":\"c\"}", 7},
        {"g", "{}", 8},
        {"g", "{\"want\":\"d\"}", 9},
    };
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        for (size_t times = 0; times <= i; times++) {
            struct flags_result result = ask_as(asked[i].key, "u", asked[i].context);
            assert_int_equal(result.counter, asked[i].counter);
            flags_tally_note(&tally, &result);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(asked); i++)
        assert_int_equal(flags_tally_read(&tally, asked[i].counter), i + 1);
    struct flags_context nobody = {0};
    struct flags_result result;
    flags_evaluate(&set, SLICE("f"), FLAGS_STRING, &nobody, (struct flags_scratch){0}, &result);
    assert_int_equal(result.error, FLAGS_ERROR_TYPE_MISMATCH);
    assert_int_equal(result.counter, 4);
    // A counter of another set is not written past the end.
    tally.count = 3;
    flags_tally_note(&tally, &result);
    assert_int_equal(flags_tally_read(&tally, result.counter), 0);
    // Patches move no counter.
    const struct flags_patch split = split_of(50000, 0);
    (void)patch(FLAGS, &split, 1);
    assert_int_equal(flags_image_counter_count(&set), 10);
    assert_int_equal(ask("f", "u").counter, ask("f", "u").boolean ? 1 : 2);
}
