// SPDX-License-Identifier: Apache-2.0
// Flags in use, on snapshots and a clock made by hand: nothing is counted twice or lost over a change of the
// set, thirty days count only while somebody watches, and the file survives a restart but not damage.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "flags/set/usage.h"
#include "folder.h"
#include "test.h"

enum { READERS = 2, IMAGE = 1 << 16, BIG_IMAGE = 1 << 26, NODES = 4096, CHARS = 1 << 16 };

static const int64_t HOUR = 60 * 60 * 1000;
static const int64_t DAY = 24 * 60 * 60 * 1000;
static const int64_t START = 1700000000000;

struct world {
    struct flagset_snapshot snapshot;
    struct flags_tally tallies[READERS];
    uint8_t *image;
};

static void make(struct world *world, const char *source, uint64_t version, size_t cap)
{
    struct flags_json_space space = {.nodes = heap_alloc(NODES, sizeof *space.nodes),
                                     .node_cap = NODES,
                                     .chars = heap_alloc(CHARS, 1),
                                     .char_cap = CHARS};
    struct flags_compile_options options = {0};
    struct flags_finding problems[1];
    size_t count;
    size_t len;
    *world = (struct world){.image = heap_alloc_aligned(cap)};
    assert_int_equal(
        flags_compile(slice_of(source), &options, &space, world->image, cap, &len, problems, 1, &count),
        STATUS_OK);
    assert_int_equal(flags_image_open(world->image, len, &world->snapshot.all.set), STATUS_OK);
    world->snapshot.version = version;
    world->snapshot.reader_count = READERS;
    world->snapshot.tallies = world->tallies;
    uint32_t counters = flags_image_counter_count(&world->snapshot.all.set);
    for (unsigned r = 0; r < READERS; r++) {
        world->tallies[r].count = counters;
        world->tallies[r].counts = heap_alloc(counters, sizeof *world->tallies[r].counts);
    }
    heap_free(space.nodes);
    heap_free(space.chars);
}

static void unmake(struct world *world)
{
    for (unsigned r = 0; r < READERS; r++) {
        union {
            _Atomic uint64_t *counts;
            void *block;
        } both = {.counts = world->tallies[r].counts};
        heap_free(both.block);
    }
    heap_free(world->image);
}

// As a reader does it: evaluates and notes the outcome. context: {"v": which} picks the variant.
static void evaluate(struct world *world, unsigned reader, const char *flag, const char *context)
{
    static struct flags_json nodes[16];
    static char chars[256];
    static char scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_json_space space = {.nodes = nodes, .node_cap = 16, .chars = chars, .char_cap = 256};
    struct flags_json *tree;
    struct flags_json_error fault;
    struct flags_result result;
    assert_int_equal(flags_json_parse(slice_of(context), &space, &tree, &fault), STATUS_OK);
    struct flags_context asked = {.tree = tree};
    flags_evaluate(&world->snapshot.all.set, slice_of(flag), FLAGS_ANY, &asked,
                   (struct flags_scratch){scratch, sizeof scratch}, &result);
    flags_tally_note(&world->tallies[reader], &result);
}

static struct usage *begin(const char *path)
{
    struct usage *usage;
    bool damaged = true;
    assert_int_equal(usage_open(path, START, &usage, &damaged), STATUS_OK);
    assert_false(damaged);
    return usage;
}

static struct usage_flag get(const struct usage *usage, const char *key, int64_t now_ms)
{
    struct usage_flag flag = {0};
    assert_true(usage_get(usage, slice_of(key), now_ms, &flag));
    return flag;
}

static uint64_t count_of(const struct usage_flag *flag, const char *variant)
{
    for (uint32_t i = 0; i < flag->variant_count; i++)
        if (strcmp(flag->variants[i].name, variant) == 0)
            return flag->variants[i].evaluations;
    return 0;
}

#define PICK "\"targeting\": {\"var\": \"v\"}"
#define FLAG(key)                                                                                            \
    "\"" key                                                                                                 \
    "\": {\"state\": \"ENABLED\", \"variants\": {\"a\": 1, \"b\": 2}, \"defaultVariant\": \"a\", " PICK "}"
#define SILENT(key)                                                                                          \
    "\"" key "\": {\"state\": \"ENABLED\", \"variants\": {\"a\": 1}, \"defaultVariant\": null}"
#define SET(flags) "{\"flags\": {" flags "}}"

TEST(counts)
{
    struct world world;
    struct usage *usage = begin(NULL);
    make(&world, SET(FLAG("f") "," SILENT("s")), 1, IMAGE);
    usage_gather(usage, &world.snapshot, START);
    struct usage_flag flag = get(usage, "f", START);
    assert_int_equal(flag.evaluations, 0);
    assert_int_equal(flag.first_seen_ms, START);
    assert_int_equal(flag.last_evaluated_ms, 0);
    evaluate(&world, 0, "f", "{\"v\": \"a\"}");
    evaluate(&world, 1, "f", "{\"v\": \"b\"}");
    evaluate(&world, 1, "f", "{\"v\": \"b\"}");
    evaluate(&world, 1, "f", "{\"v\": \"no such variant\"}");
    evaluate(&world, 0, "s", "{}");
    evaluate(&world, 0, "gone", "{}");
    usage_gather(usage, &world.snapshot, START + 1000);
    usage_gather(usage, &world.snapshot, START + 2000);
    flag = get(usage, "f", START + 2000);
    assert_int_equal(flag.evaluations, 4);
    assert_int_equal(flag.errors, 1);
    assert_int_equal(flag.defaulted, 0);
    assert_int_equal(count_of(&flag, "a"), 1);
    assert_int_equal(count_of(&flag, "b"), 2);
    assert_int_equal(flag.last_evaluated_ms, START + 1000);
    assert_int_equal(flag.one_variant_since_ms, 0);
    flag = get(usage, "s", START + 2000);
    assert_int_equal(flag.evaluations, 1);
    assert_int_equal(flag.defaulted, 1);
    assert_int_equal(flag.variant_count, 0);
    assert_int_equal(flag.one_variant_since_ms, START + 1000);
    assert_int_equal(usage_unknown(usage), 1);
    assert_false(usage_get(usage, SLICE("gone"), START, &flag));
    uint32_t cursor = 0;
    unsigned seen = 0;
    while (usage_next(usage, &cursor, START, &flag))
        seen++;
    assert_int_equal(seen, 2);
    unmake(&world);
    usage_close(usage);
}

// A random history over ever newer sets, with late readers of old ones: the sums are exact.
TEST(changes_of_the_set)
{
    enum { SETS = 40, NOTES = 50 };
    static const char *const SOURCES[] = {SET(FLAG("f") "," FLAG("g")),
                                          SET(FLAG("g") "," FLAG("h") "," FLAG("f")),
                                          SET(FLAG("f") "," SILENT("x"))};
    struct world worlds[2];
    struct usage *usage = begin(NULL);
    struct rng rng;
    uint64_t b = 0;
    uint64_t all = 0;
    uint64_t unknown = 0;
    rng_init(&rng, 7);
    make(&worlds[0], SOURCES[0], 1, IMAGE);
    for (uint64_t version = 2; version < 2 + SETS; version++) {
        make(&worlds[1], SOURCES[rng_below(&rng, 3)], version, IMAGE);
        for (unsigned i = 0; i < NOTES; i++) {
            // Some readers still hold the old one while the new is in force.
            struct world *world = &worlds[rng_below(&rng, 2)];
            bool is_b = rng_below(&rng, 2) == 0;
            evaluate(world, (unsigned)rng_below(&rng, READERS), "f", is_b ? "{\"v\": \"b\"}" : "{}");
            evaluate(world, 0, "nobody", "{}");
            b += is_b;
            all++;
            unknown++;
            if (rng_below(&rng, 4) == 0)
                usage_gather(usage, &worlds[rng_below(&rng, 2)].snapshot, START + (int64_t)version * 1000);
        }
        usage_gather(usage, &worlds[0].snapshot, START + (int64_t)version * 1000);
        usage_gather(usage, &worlds[1].snapshot, START + (int64_t)version * 1000);
        unmake(&worlds[0]);
        worlds[0] = worlds[1];
        for (unsigned r = 0; r < READERS; r++)
            worlds[0].tallies[r] = worlds[1].tallies[r];
        worlds[0].snapshot.tallies = worlds[0].tallies;
        struct usage_flag flag = get(usage, "f", START);
        assert_int_equal(flag.evaluations, all);
        assert_int_equal(count_of(&flag, "b"), b);
        assert_int_equal(count_of(&flag, "a"), all - b);
        assert_int_equal(usage_unknown(usage), unknown);
    }
    unmake(&worlds[0]);
    usage_close(usage);
}

TEST(gone_flags_are_not_shown)
{
    struct world first;
    struct world second;
    struct world third;
    struct usage *usage = begin(NULL);
    struct usage_flag flag;
    make(&first, SET(FLAG("f") "," FLAG("g")), 1, IMAGE);
    make(&second, SET(FLAG("g")), 2, IMAGE);
    make(&third, SET(FLAG("f")), 3, IMAGE);
    evaluate(&first, 0, "f", "{}");
    usage_gather(usage, &first.snapshot, START);
    usage_gather(usage, &second.snapshot, START + 1);
    assert_false(usage_get(usage, SLICE("f"), START, &flag));
    assert_true(usage_get(usage, SLICE("g"), START, &flag));
    usage_gather(usage, &third.snapshot, START + 2);
    flag = get(usage, "f", START);
    assert_int_equal(flag.evaluations, 1);
    assert_int_equal(flag.first_seen_ms, START);
    unmake(&first);
    unmake(&second);
    unmake(&third);
    usage_close(usage);
}

// Gathers every hour; `what` is evaluated each time, NULL: nothing.
static int64_t live(struct usage *usage, struct world *world, int64_t from, int64_t hours, const char *what)
{
    for (int64_t h = 1; h <= hours; h++) {
        if (what != NULL)
            evaluate(world, 0, "f", what);
        usage_gather(usage, &world->snapshot, from + h * HOUR);
    }
    return from + hours * HOUR;
}

TEST(stale)
{
    struct world world;
    struct usage *usage = begin(NULL);
    make(&world, SET(FLAG("f") "," FLAG("g")), 1, IMAGE);
    usage_gather(usage, &world.snapshot, START);
    int64_t now = live(usage, &world, START, 30 * 24 - 1, "{\"v\": \"a\"}");
    assert_int_equal(get(usage, "g", now).stale, USAGE_LIVE);
    assert_int_equal(get(usage, "f", now).stale, USAGE_LIVE);
    assert_int_equal(get(usage, "g", now + HOUR).stale, USAGE_UNUSED);
    now = live(usage, &world, now, 2, "{\"v\": \"a\"}");
    assert_int_equal(get(usage, "f", now).stale, USAGE_ONE_VARIANT);
    assert_int_equal(get(usage, "f", now).one_variant_since_ms, START + HOUR);
    // Another variant: lively again, and its days begin when it is alone.
    now = live(usage, &world, now, 1, "{\"v\": \"b\"}");
    assert_int_equal(get(usage, "f", now).stale, USAGE_LIVE);
    assert_int_equal(get(usage, "f", now).one_variant_since_ms, now);
    now = live(usage, &world, now, 30 * 24, "{\"v\": \"b\"}");
    assert_int_equal(get(usage, "f", now).stale, USAGE_ONE_VARIANT);
    // Both within one gather.
    evaluate(&world, 0, "f", "{\"v\": \"a\"}");
    now = live(usage, &world, now, 1, "{\"v\": \"b\"}");
    assert_int_equal(get(usage, "f", now).stale, USAGE_LIVE);
    assert_int_equal(get(usage, "f", now).one_variant_since_ms, 0);
    // An error is use, but no answer.
    now = live(usage, &world, now, 31 * 24, "{\"v\": \"none\"}");
    assert_int_equal(get(usage, "f", now).stale, USAGE_LIVE);
    now = live(usage, &world, now, 30 * 24, NULL);
    assert_int_equal(get(usage, "f", now).stale, USAGE_UNUSED);
    unmake(&world);
    usage_close(usage);
}

TEST(nobody_watched)
{
    struct world world;
    struct usage *usage = begin(NULL);
    make(&world, SET(FLAG("f")), 1, IMAGE);
    usage_gather(usage, &world.snapshot, START);
    usage_gather(usage, &world.snapshot, START + 60 * DAY);
    assert_int_equal(get(usage, "f", START + 60 * DAY).stale, USAGE_LIVE);
    assert_int_equal(get(usage, "f", START + 120 * DAY).stale, USAGE_LIVE);
    // The clock is put back: the days stand still, they do not run backwards.
    usage_gather(usage, &world.snapshot, START);
    int64_t now = live(usage, &world, START, 30 * 24, NULL);
    assert_int_equal(get(usage, "f", now).stale, USAGE_UNUSED);
    unmake(&world);
    usage_close(usage);
}

TEST(many_variants)
{
    char source[4096];
    char context[64];
    struct world world;
    struct usage *usage = begin(NULL);
    size_t len = (size_t)snprintf(
        source, sizeof source,
        "{\"flags\": {\"f\": {\"state\": \"ENABLED\", \"defaultVariant\": \"v0\", " PICK ", \"variants\": {");
    for (int i = 0; i < 20; i++)
        len += (size_t)snprintf(source + len, sizeof source - len, "%s\"v%d\": %d", i > 0 ? "," : "", i, i);
    snprintf(source + len, sizeof source - len, "}}}}");
    make(&world, source, 1, IMAGE);
    for (int i = 0; i < 20; i++) {
        snprintf(context, sizeof context, "{\"v\": \"v%d\"}", i);
        evaluate(&world, 0, "f", context);
        usage_gather(usage, &world.snapshot, START + i);
    }
    struct usage_flag flag = get(usage, "f", START);
    assert_int_equal(flag.variant_count, USAGE_VARIANTS_MAX + 1);
    assert_int_equal(count_of(&flag, "v15"), 1);
    assert_int_equal(count_of(&flag, "(other)"), 4);
    assert_int_equal(flag.evaluations, 20);
    unmake(&world);
    usage_close(usage);
}

TEST(long_keys)
{
    char key[USAGE_KEY_BYTES + 2];
    char source[1024];
    struct world world;
    struct usage *usage = begin(NULL);
    struct usage_flag flag;
    memset(key, 'k', sizeof key);
    key[USAGE_KEY_BYTES + 1] = '\0';
    snprintf(source, sizeof source,
             "{\"flags\": {\"%s\": {\"state\": \"ENABLED\", \"variants\": {\"a\": 1}, \"defaultVariant\": "
             "\"a\"}}}",
             key);
    make(&world, source, 1, IMAGE);
    evaluate(&world, 0, key, "{}");
    usage_gather(usage, &world.snapshot, START);
    assert_false(usage_get(usage, slice_of(key), START, &flag));
    assert_int_equal(usage_unremembered(usage), 1);
    unmake(&world);
    usage_close(usage);
}

// More flags than the table holds, then others in their place: bounded, counted, and the new ones remembered.
TEST(too_many)
{
    enum { FLAGS = USAGE_FLAGS_MAX + 1000, EACH = 96 };
    struct usage *usage = begin(NULL);
    struct world worlds[2];
    char *source = heap_alloc(FLAGS, EACH);
    for (unsigned w = 0; w < 2; w++) {
        size_t len = (size_t)snprintf(source, EACH, "{\"flags\": [");
        for (unsigned i = 0; i < (w == 0 ? FLAGS : 1000); i++)
            len += (size_t)snprintf(source + len, EACH,
                                    "%s{\"key\":\"%c%u\",\"state\":\"ENABLED\",\"variants\":{\"a\":1},"
                                    "\"defaultVariant\":\"a\"}",
                                    i > 0 ? "," : "", w == 0 ? 'f' : 'g', i);
        snprintf(source + len, 4, "]}");
        make(&worlds[w], source, w + 1, BIG_IMAGE);
    }
    evaluate(&worlds[0], 0, "f0", "{}");
    evaluate(&worlds[0], 0, "f200999", "{}");
    usage_gather(usage, &worlds[0].snapshot, START);
    assert_int_equal(get(usage, "f0", START).evaluations, 1);
    assert_int_equal(usage_unremembered(usage), 1);
    evaluate(&worlds[1], 0, "g999", "{}");
    usage_gather(usage, &worlds[1].snapshot, START + 1000);
    // The old ones go when their snapshot is forgotten.
    usage_gather(usage, &worlds[1].snapshot, START + 30000);
    unmake(&worlds[1]);
    make(&worlds[1], source, 3, BIG_IMAGE);
    evaluate(&worlds[1], 0, "g998", "{}");
    usage_gather(usage, &worlds[1].snapshot, START + 31000);
    assert_int_equal(get(usage, "g998", START + 31000).evaluations, 1);
    for (unsigned w = 0; w < 2; w++)
        unmake(&worlds[w]);
    heap_free(source);
    usage_close(usage);
}

// ---- the file ----

static char *file_path(const char *directory)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/usage", directory);
    return path;
}

TEST(restart)
{
    char directory[FOLDER_PATH_BYTES];
    struct world world;
    struct usage *usage;
    bool damaged;
    folder_make(directory);
    const char *path = file_path(directory);
    usage = begin(path);
    make(&world, SET(FLAG("f") "," FLAG("g")), 1, IMAGE);
    usage_gather(usage, &world.snapshot, START);
    int64_t now = live(usage, &world, START, 20 * 24, "{\"v\": \"b\"}");
    assert_int_equal(usage_save(usage, now, true), STATUS_OK);
    usage_close(usage);
    unmake(&world);
    // Down for a year, then ten days more; versions begin anew.
    int64_t back = now + 365 * DAY;
    make(&world, SET(FLAG("f") "," FLAG("g")), 1, IMAGE);
    assert_int_equal(usage_open(path, back, &usage, &damaged), STATUS_OK);
    assert_false(damaged);
    usage_gather(usage, &world.snapshot, back);
    struct usage_flag flag = get(usage, "f", back);
    assert_int_equal(flag.first_seen_ms, START);
    assert_int_equal(flag.last_evaluated_ms, now);
    assert_int_equal(flag.evaluations, 0);
    assert_int_equal(flag.stale, USAGE_LIVE);
    now = live(usage, &world, back, 10 * 24 - 1, "{\"v\": \"b\"}");
    assert_int_equal(get(usage, "g", now).stale, USAGE_LIVE);
    now = live(usage, &world, now, 2, "{\"v\": \"b\"}");
    assert_int_equal(get(usage, "g", now).stale, USAGE_UNUSED);
    assert_int_equal(get(usage, "f", now).stale, USAGE_ONE_VARIANT);
    assert_int_equal(get(usage, "f", now).one_variant_since_ms, START + HOUR);
    usage_close(usage);
    unmake(&world);
    folder_remove(directory);
}

TEST(once_a_minute)
{
    char directory[FOLDER_PATH_BYTES];
    struct stat about;
    folder_make(directory);
    const char *path = file_path(directory);
    struct usage *usage = begin(path);
    assert_int_equal(usage_save(usage, START + 59999, false), STATUS_OK);
    assert_int_equal(stat(path, &about), -1);
    assert_int_equal(usage_save(usage, START + 60000, false), STATUS_OK);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    usage_close(usage);
    folder_remove(directory);
}

// Every byte of the file turned, and the file cut at every length: set aside each time, never believed.
TEST(damage)
{
    char directory[FOLDER_PATH_BYTES];
    char aside[300];
    uint8_t whole[512];
    struct world world;
    struct usage *usage;
    struct stat about;
    bool damaged;
    folder_make(directory);
    const char *path = file_path(directory);
    snprintf(aside, sizeof aside, "%s.damaged", path);
    usage = begin(path);
    make(&world, SET(FLAG("f")), 1, IMAGE);
    evaluate(&world, 0, "f", "{\"v\": \"b\"}");
    usage_gather(usage, &world.snapshot, START);
    assert_int_equal(usage_save(usage, START, true), STATUS_OK);
    usage_close(usage);
    int fd = open(path, O_RDONLY);
    ssize_t len = read(fd, whole, sizeof whole);
    (void)close(fd);
    assert_in_range(len, 20, 200);
    for (ssize_t i = 0; i < 2 * len; i++) {
        bool cut = i >= len;
        size_t at = (size_t)(cut ? i - len : i);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        whole[at] ^= cut ? 0 : 0x10;
        assert_true(write(fd, whole, cut ? at : (size_t)len) >= 0);
        whole[at] ^= cut ? 0 : 0x10;
        (void)close(fd);
        assert_int_equal(usage_open(path, START, &usage, &damaged), STATUS_OK);
        assert_true(damaged);
        assert_int_equal(stat(path, &about), -1);
        assert_int_equal(stat(aside, &about), 0);
        usage_close(usage);
    }
    unmake(&world);
    folder_remove(directory);
}

TEST(nowhere_to_write)
{
    struct usage *usage = begin("/nonexistent/usage");
    assert_int_not_equal(usage_save(usage, START, true), STATUS_OK);
    usage_close(usage);
}
