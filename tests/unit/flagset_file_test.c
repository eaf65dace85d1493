// SPDX-License-Identifier: Apache-2.0
// Sources that are files, directories and text: what is read, what is noticed, what is refused.
#include <fcntl.h>
#include <sys/mman.h>

#include "base/heap.h"
#include "flags/share/share.h"
#include "flagset_world.h"
#include "test.h"

static int setup(void **state)
{
    static struct flagset_world world;
    world_open(&world);
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    world_close(*state);
    return 0;
}

EACH_TEST(setup, teardown);

TEST(file_text_and_overlay)
{
    struct flagset_world *world = *state;
    write_at(world_path(world, "a.json"), SET(FLAG("one", "on") "," FLAG("two", "off")));
    struct flagset_source sources[] = {
        {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")},
        {.kind = FLAGSET_INLINE, .name = "sluice.yaml", .json = SLICE(SET(FLAG("two", "on")))},
    };
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_string_equal(variant_now(world, "one"), "on");
    assert_string_equal(variant_now(world, "two"), "on"); // later overrides earlier
    assert_string_equal(variant_now(world, "three"), "!FLAG_NOT_FOUND");
    assert_int_equal(world->problem_count, 0);

    assert_int_equal(
        flagset_overlay(world->set, SLICE(SET(FLAG("one", "off") "," FLAG("three", "on"))), NULL, 0, 7),
        STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 7);
    assert_string_equal(variant_now(world, "one"), "off");
    assert_string_equal(variant_now(world, "three"), "on");
    assert_int_equal(world->snapshots, 1);
}

TEST(a_missing_file_is_named)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "none.json")};
    assert_int_equal(world_create(world, &source, 1), STATUS_INVALID);
    assert_int_equal(world->problem_count, 1);
    assert_true(world->problems[0].status != STATUS_OK);
    assert_non_null(strstr(world->problems[0].text, "none.json: there is no such file"));
}

TEST(a_change_is_in_force_soon)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    uint64_t tag = flagset_current(world->set)->all.tag;
    uint64_t begin_ms = now_ms();
    write_at(source.name, SET(FLAG("one", "off")));
    UNTIL(world, strcmp(variant_now(world, "one"), "off") == 0);
    printf("in force after %u ms\n", (unsigned)(now_ms() - begin_ms));
    assert_true(flagset_current(world->set)->all.tag != tag);
}

TEST(a_bad_change_is_refused)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    char expected[300];
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    write_at(source.name, "{\"flags\": {\n  " FLAG("one", "off") ",\n  " FLAG("two", "blue") "\n}}");
    UNTIL(world, flagset_refused(world->set));
    (void)snprintf(expected, sizeof expected, "%s:3:81: flag 'two': defaultVariant names no variant: 'blue'",
                   source.name);
    assert_string_equal(first_problem(world), expected);
    assert_string_equal(variant_now(world, "one"), "on");
    struct flagset_source_state state_now;
    flagset_source_get(world->set, 0, &state_now);
    assert_false(state_now.good);
    assert_string_equal(state_now.problem, expected);
}

static void rename_over(const struct flagset_world *world, const char *path, const char *text)
{
    char fresh[128];
    (void)snprintf(fresh, sizeof fresh, "%s/.fresh", world->folder);
    write_at(fresh, text);
    assert_int_equal(rename(fresh, path), 0);
}

static struct flagset_source_state state_of(const struct flagset_world *world, uint32_t i)
{
    struct flagset_source_state state;
    flagset_source_get(world->set, i, &state);
    return state;
}

TEST(saving_by_rename)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    for (int i = 0; i < 5; i++) {
        const char *variant = i % 2 == 0 ? "off" : "on";
        rename_over(world, source.name, i % 2 == 0 ? SET(FLAG("one", "off")) : SET(FLAG("one", "on")));
        UNTIL(world, strcmp(variant_now(world, "one"), variant) == 0);
    }
    assert_true(state_of(world, 0).good);
    assert_int_equal(state_of(world, 0).flag_count, 1);
}

static void link_to(const struct flagset_world *world, const char *target, const char *name)
{
    char fresh[128];
    (void)snprintf(fresh, sizeof fresh, "%s/.link", world->folder);
    assert_int_equal(symlink(target, fresh), 0);
    assert_int_equal(rename(fresh, world_path(world, name)), 0);
}

// As a ConfigMap is updated: the file is a link into ..data, which is a link to a folder that is swapped. The
// second source hangs below a link in the middle of its path.
TEST(swapped_links)
{
    struct flagset_world *world = *state;
    assert_int_equal(mkdir(world_path(world, "v1"), 0755), 0);
    assert_int_equal(mkdir(world_path(world, "v2"), 0755), 0);
    write_at(world_path(world, "v1/a.json"), SET(FLAG("one", "on")));
    write_at(world_path(world, "v2/a.json"), SET(FLAG("one", "off")));
    write_at(world_path(world, "v1/b.json"), SET(FLAG("two", "on")));
    write_at(world_path(world, "v2/b.json"), SET(FLAG("two", "off")));
    link_to(world, "v1", "..data");
    link_to(world, "..data/a.json", "a.json");
    char through[256];
    (void)snprintf(through, sizeof through, "%s", world_path(world, "..data/b.json"));
    struct flagset_source sources[] = {
        {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")},
        {.kind = FLAGSET_FILE, .name = through},
    };
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    uint64_t begin_ms = now_ms();
    link_to(world, "v2", "..data");
    UNTIL(world,
          strcmp(variant_now(world, "one"), "off") == 0 && strcmp(variant_now(world, "two"), "off") == 0);
    printf("swapped links in force after %u ms\n", (unsigned)(now_ms() - begin_ms));
}

TEST(a_directory)
{
    struct flagset_world *world = *state;
    assert_int_equal(mkdir(world_path(world, "d"), 0755), 0);
    struct flagset_source source = {.kind = FLAGSET_DIRECTORY, .name = world_path(world, "d")};
    write_at(world_path(world, "d/20.json"), SET(FLAG("x", "on") "," FLAG("y", "on")));
    write_at(world_path(world, "d/10.json"), SET(FLAG("x", "off")));
    write_at(world_path(world, "d/note.txt"), "not read");
    write_at(world_path(world, "d/.hidden.json"), "not read");
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_string_equal(variant_now(world, "x"), "on"); // by name, not by age
    assert_int_equal(state_of(world, 0).flag_count, 3);
    write_at(world_path(world, "d/30.json"), SET(FLAG("x", "off")));
    UNTIL(world, strcmp(variant_now(world, "x"), "off") == 0);
    assert_int_equal(unlink(world_path(world, "d/30.json")), 0);
    UNTIL(world, strcmp(variant_now(world, "x"), "on") == 0);
    // One bad file: its own last content stays, the others go on.
    write_at(world_path(world, "d/20.json"), "{\"flags\":");
    UNTIL(world, !state_of(world, 0).good);
    assert_non_null(strstr(state_of(world, 0).problem, "/d/20.json:1:10: "));
    assert_string_equal(variant_now(world, "y"), "on");
    write_at(world_path(world, "d/40.json"), SET(FLAG("z", "on")));
    UNTIL(world, strcmp(variant_now(world, "z"), "on") == 0);
    assert_string_equal(variant_now(world, "y"), "on");
    // A bad file that goes is no problem any more, and its flags go with it.
    assert_int_equal(unlink(world_path(world, "d/20.json")), 0);
    UNTIL(world, state_of(world, 0).good);
    assert_string_equal(variant_now(world, "y"), "!FLAG_NOT_FOUND");
    assert_false(flagset_refused(world->set));
}

TEST(a_directory_has_its_limits)
{
    struct flagset_world *world = *state;
    char name[32];
    struct flagset_source source = {.kind = FLAGSET_DIRECTORY, .name = world_path(world, "d")};
    assert_int_equal(world_create(world, &source, 1), STATUS_INVALID);
    assert_non_null(strstr(world->problems[0].text, "/d: there is no such directory"));
    assert_int_equal(mkdir(world_path(world, "d"), 0755), 0);
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(flags_image_flag_count(&flagset_current(world->set)->all.set), 0);
    for (int i = 0; i <= FLAGSET_DIRECTORY_FILES_MAX; i++) {
        (void)snprintf(name, sizeof name, "d/%03d.json", i);
        write_at(world_path(world, name), SET(FLAG("x", "on")));
    }
    UNTIL(world, strstr(state_of(world, 0).problem, "/d: has more than 200 files") != NULL);
    assert_int_equal(unlink(world_path(world, "d/000.json")), 0);
    UNTIL(world, state_of(world, 0).good);
    assert_string_equal(variant_now(world, "x"), "on");
}

TEST(a_file_that_vanishes)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(unlink(source.name), 0);
    UNTIL(world, !state_of(world, 0).good);
    assert_non_null(strstr(state_of(world, 0).problem, "a.json: there is no such file"));
    assert_string_equal(variant_now(world, "one"), "on");
    assert_int_equal(world->snapshots, 0);
    write_at(source.name, SET(FLAG("one", "off")));
    UNTIL(world, strcmp(variant_now(world, "one"), "off") == 0);
    assert_true(state_of(world, 0).good);
}

TEST(what_is_no_file)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "pipe")};
    assert_int_equal(mkfifo(source.name, 0644), 0);
    assert_int_equal(world_create(world, &source, 1), STATUS_INVALID);
    assert_non_null(strstr(world->problems[0].text, "pipe: is not a file"));
    source.name = world_path(world, "large.json");
    write_at(source.name, "");
    assert_int_equal(truncate(source.name, (off_t)FLAGSET_SOURCE_BYTES_MAX + 1), 0);
    assert_int_equal(world_create(world, &source, 1), STATUS_INVALID);
    assert_non_null(strstr(world->problems[0].text, "large.json: is larger than 256 MiB"));
}

// A writer that takes its time is refused at most once on the way, told once, and what was stays.
TEST(half_written)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    const char *text = SET(FLAG("one", "off") "," FLAG("two", "on"));
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    FILE *file = fopen(source.name, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, 40, file), 40);
    assert_int_equal(fflush(file), 0);
    UNTIL(world, flagset_refused(world->set));
    assert_string_equal(variant_now(world, "one"), "on");
    turn_for(world, 700); // looked at again, told no more
    assert_int_equal(world->notes, 1);
    assert_int_equal(world->snapshots, 0);
    assert_int_equal(fwrite(text + 40, 1, strlen(text) - 40, file), strlen(text) - 40);
    assert_int_equal(fclose(file), 0);
    UNTIL(world, strcmp(variant_now(world, "two"), "on") == 0);
    assert_false(flagset_refused(world->set));
}

// On a machine with others to serve a burst may last long enough to be several changes, but not every time.
TEST(a_burst_is_one_change)
{
    enum { ROUNDS = 5, WRITES = 200 };
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    uint32_t made = WRITES;
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    turn_for(world, 50);
    for (int round = 0; round < ROUNDS && made > 20; round++) {
        static const char *const LAST[ROUNDS] = {SET(FLAG("n0", "on")), SET(FLAG("n1", "on")),
                                                 SET(FLAG("n2", "on")), SET(FLAG("n3", "on")),
                                                 SET(FLAG("n4", "on"))};
        static const char *const KEYS[ROUNDS] = {"n0", "n1", "n2", "n3", "n4"};
        uint32_t before = world->snapshots;
        for (int i = 0; i < WRITES; i++)
            write_at(source.name, i % 2 == 0 ? SET(FLAG("one", "off")) : LAST[round]);
        UNTIL(world, strcmp(variant_now(world, KEYS[round]), "on") == 0);
        turn_for(world, 100);
        made = world->snapshots - before;
        printf("%d writes made %u snapshots\n", WRITES, made);
    }
    assert_true(made <= 20);
}

// A change that leaves no trace in the file's times, as two within one tick of its clock, is seen all the
// same: what changed just now is read once more. Written through a mapping, whose later stores change no
// times and give no sign. Only a change that comes soon enough is promised to be seen, so it is tried a few
// times.
TEST(changes_that_look_alike)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    const char *before = SET(FLAG("one", "on") " ");
    const char *after = SET(FLAG("one", "off"));
    enum { TRIES = 20, IN_TIME_MS = 20 };
    bool seen = false;
    uint32_t in_time = 0;
    // The second change has to come before the set looks at the file again, which it does soon after the
    // first. A busy or slow machine misses that moment; such a try says nothing.
    for (int i = 0; i < 5 * TRIES && in_time < TRIES && !seen; i++) {
        uint64_t begin_ms = now_ms();
        write_at(source.name, before);
        int fd = open(source.name, O_RDWR | O_CLOEXEC);
        char *map = mmap(NULL, strlen(before), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(fd >= 0 && map != MAP_FAILED);
        memcpy(map, before, strlen(before)); // from here on the page is dirty already
        assert_int_equal(world_create(world, &source, 1), STATUS_OK);
        assert_string_equal(variant_now(world, "one"), "on");
        memcpy(map, after, strlen(after));
        if (now_ms() - begin_ms < IN_TIME_MS) {
            in_time++;
            turn_for(world, 150);
            seen = strcmp(variant_now(world, "one"), "off") == 0;
        }
        flagset_destroy(world->set);
        world->set = NULL;
        assert_int_equal(munmap(map, strlen(before)), 0);
        assert_int_equal(close(fd), 0);
    }
    if (in_time == 0) {
        print_message("SKIPPED: too slow here to change the file before it is looked at again\n");
        skip();
    }
    assert_true(seen);
}

// ---- who is refused, and who is not ----

TEST(only_the_one_at_fault)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")},
        {.kind = FLAGSET_FILE, .name = world_path(world, "b.json")},
    };
    write_at(sources[0].name, SET(FLAG("one", "on")));
    write_at(sources[1].name, SET(FLAG("two", "on")));
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    write_at(sources[0].name, SET(FLAG("one", "blue")));
    UNTIL(world, flagset_refused(world->set));
    rename_over(world, sources[1].name, SET(FLAG("two", "off")));
    UNTIL(world, strcmp(variant_now(world, "two"), "off") == 0);
    assert_string_equal(variant_now(world, "one"), "on");
    assert_false(state_of(world, 0).good);
    assert_true(state_of(world, 1).good);
    assert_true(flagset_refused(world->set));
    write_at(sources[0].name, SET(FLAG("one", "off")));
    UNTIL(world, strcmp(variant_now(world, "one"), "off") == 0);
    assert_false(flagset_refused(world->set));
    assert_string_equal(first_problem(world), "");
}

#define ASKING(flag, variant)                                                                                \
    "{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"defaultVariant\":\"on\",\"x-sluice\":{"             \
    "\"prerequisites\":[{\"flag\":\"" flag "\",\"variant\":\"" variant "\"}]}}"

// A file that takes away what another one needs is at fault although each is well for itself.
TEST(a_merge_that_fails)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")},
        {.kind = FLAGSET_FILE, .name = world_path(world, "b.json")},
    };
    write_at(sources[0].name, SET(FLAG("base", "on")));
    write_at(sources[1].name, SET("\"up\":" ASKING("base", "on")));
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    write_at(sources[0].name, SET(FLAG("other", "on")));
    UNTIL(world, flagset_refused(world->set));
    assert_non_null(strstr(first_problem(world), "b.json:1:11: "));
    assert_non_null(strstr(first_problem(world), "flag 'up': a prerequisite names no flag: 'base'"));
    assert_string_equal(variant_now(world, "base"), "on");
    assert_string_equal(variant_now(world, "other"), "!FLAG_NOT_FOUND");
    assert_string_equal(state_of(world, 0).problem, "refused together with other changes");
    // Once nobody needs it any more, what was refused goes in too.
    write_at(sources[1].name, SET(FLAG("up", "on")));
    UNTIL(world, strcmp(variant_now(world, "other"), "on") == 0);
    assert_false(flagset_refused(world->set));
}

TEST(what_is_laid_over_may_be_at_fault)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    struct flags_patch patch = {.key = SLICE("one"), .kill = true, .kill_variant = SLICE("off")};
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    // The kill is in force although what came with it is not.
    assert_int_equal(flagset_overlay(world->set, SLICE(SET(FLAG("two", "blue"))), &patch, 1, 5), STATUS_OK);
    UNTIL(world, strcmp(variant_now(world, "one"), "off") == 0);
    assert_int_equal(flagset_current(world->set)->change, 0);
    assert_true(flagset_refused(world->set));
    assert_non_null(strstr(first_problem(world), "runtime:1:"));
    assert_int_equal(flagset_overlay(world->set, SLICE("{\"flags\""), NULL, 0, 6), STATUS_OK);
    UNTIL(world, strcmp(variant_now(world, "one"), "on") == 0);
    assert_string_equal(first_problem(world), "runtime:1:9: expected ':' after the name");
    assert_int_equal(flagset_overlay(world->set, SLICE(SET(FLAG("two", "off"))), &patch, 1, 7), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 7);
    assert_string_equal(variant_now(world, "one"), "off");
    assert_string_equal(variant_now(world, "two"), "off");
    assert_false(flagset_refused(world->set));
}

// Who changes only patches gives no text: what was laid over stays, also when it is still on its way.
TEST(a_text_that_stays)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    const struct flags_patch two_off = {.key = SLICE("two"), .kill = true, .kill_variant = SLICE("off")};
    const struct flags_patch one_off = {.key = SLICE("one"), .kill = true, .kill_variant = SLICE("off")};
    const struct slice stays = {NULL, 0};
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(flagset_overlay(world->set, SLICE(SET(FLAG("two", "on"))), NULL, 0, 1), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    assert_int_equal(flagset_overlay(world->set, stays, &two_off, 1, 2), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 2);
    assert_string_equal(variant_now(world, "two"), "off");
    assert_int_equal(flagset_overlay(world->set, stays, NULL, 0, 3), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 3);
    assert_string_equal(variant_now(world, "two"), "on");
    for (uint64_t change = 4; change < 100; change += 2) {
        struct slice text = change % 4 == 0 ? SLICE(SET(FLAG("two", "off"))) : SLICE(SET(FLAG("two", "on")));
        assert_int_equal(flagset_overlay(world->set, text, NULL, 0, change), STATUS_OK);
        assert_int_equal(flagset_overlay(world->set, stays, &one_off, 1, change + 1), STATUS_OK);
        UNTIL(world, flagset_current(world->set)->change == change + 1);
        assert_string_equal(variant_now(world, "one"), "off");
        assert_string_equal(variant_now(world, "two"), change % 4 == 0 ? "off" : "on");
    }
}

// Lays the text over while the heap gives `after` more blocks. True when the thread had no memory for the
// text.
static bool text_is_lost(struct flagset_world *world, struct slice text, long after, uint64_t change)
{
    heap_fail_after(after);
    enum status status = flagset_overlay(world->set, text, NULL, 0, change);
    for (int i = 0; status == STATUS_OK && i < 100 && !flagset_overlay_lost(world->set); i++)
        turn_for(world, 2);
    heap_fail_after(-1);
    return flagset_overlay_lost(world->set);
}

// When there was no memory for a text, who changes only patches afterwards is not told that all is in force.
TEST(a_text_that_was_lost)
{
    enum { AFTER_MAX = 60 };
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    const struct slice text = SLICE(SET(FLAG("two", "on")));
    uint64_t change = 0;
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    for (long after = 0; after < AFTER_MAX; after++)
        if (text_is_lost(world, text, after, ++change))
            break;
    assert_true(flagset_overlay_lost(world->set));
    assert_int_equal(flagset_overlay(world->set, (struct slice){NULL, 0}, NULL, 0, ++change), STATUS_OK);
    turn_for(world, 100);
    assert_true(flagset_current(world->set)->change < change);
    assert_int_equal(flagset_overlay(world->set, text, NULL, 0, ++change), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == change);
    assert_string_equal(variant_now(world, "two"), "on");
    assert_false(flagset_overlay_lost(world->set));
}

// A kill does not compile anything, so that it does not wait for the size of the set.
TEST(patches_do_not_compile)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    struct flags_patch patches[] = {
        {.key = SLICE("one"), .kill = true, .kill_variant = SLICE("off")},
        {.key = SLICE("none"), .kill = true},
    };
    struct slice json;
    const char *name;
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_true(flagset_snapshot_definition(flagset_current(world->set), SLICE("one"), &json, &name));
    uint64_t compile_us = flagset_build_us(world->set);
    assert_int_equal(flagset_overlay(world->set, SLICE(""), patches, 2, 1), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    assert_string_equal(variant_now(world, "one"), "off");
    assert_true(flagset_build_us(world->set) == compile_us);
    const struct fault *problems;
    assert_int_equal(flagset_problems(world->set, &problems), 1);
    assert_int_equal(problems[0].status, STATUS_OK);
    assert_non_null(strstr(problems[0].text, "'none'"));
    assert_false(flagset_refused(world->set));
    // They stay over a file that changes.
    source.json = SLICE(SET(FLAG("one", "on") "," FLAG("new", "on")));
    flagset_reconfigure(world->set, &source, 1, SLICE(""));
    UNTIL(world, strcmp(variant_now(world, "new"), "on") == 0);
    assert_string_equal(variant_now(world, "one"), "off");
    assert_int_equal(flagset_current(world->set)->change, 1);
}

enum { MANY = 30000 };

static void write_many(const char *path, const char *variant)
{
    char fresh[300];
    (void)snprintf(fresh, sizeof fresh, "%s.fresh", path);
    FILE *file = fopen(fresh, "we");
    assert_non_null(file);
    (void)fprintf(file,
                  "{\"flags\":{\"one\":{\"state\":\"ENABLED\",\"variants\":{\"%s\":true,\"off\":false},"
                  "\"defaultVariant\":\"%s\"}",
                  variant, variant);
    for (int i = 0; i < MANY; i++)
        (void)fprintf(
            file,
            ",\"flag-%d\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
            "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[{\"in\":[{\"var\":\"country\"},[\"C%d\","
            "\"FR\"]]},\"on\",{\">\":[{\"var\":\"age\"},%d]},\"off\",null]}}",
            i, i, i);
    (void)fprintf(file, "}}");
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(fresh, path), 0);
}

static uint64_t now_us(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// Kills one time after another until the file's new set is in force; says how long the slowest kill took.
static uint64_t slowest_kill_us(struct flagset_world *world, const char *fresh, uint64_t *change)
{
    struct flags_patch patch = {.key = SLICE("one"), .kill = true, .kill_variant = SLICE("off")};
    struct slice name;
    struct slice json;
    uint64_t longest_us = 0;
    do {
        uint64_t begin_us = now_us();
        ++*change;
        assert_int_equal(flagset_overlay(world->set, SLICE(""), &patch, 1, *change), STATUS_OK);
        UNTIL(world, flagset_current(world->set)->change >= *change);
        assert_string_equal(variant_now(world, "one"), "off");
        uint64_t took_us = now_us() - begin_us;
        longest_us = took_us > longest_us ? took_us : longest_us;
        assert_true(
            flags_image_variant_get(&flagset_current(world->set)->all.set, SLICE("one"), 0, &name, &json));
    } while (!slice_equal(name, slice_of(fresh)));
    return longest_us;
}

// While a large file is compiled, one kill after another comes into force: none of them waits for it. A busy
// machine may hold one of them up for as long; a kill that has to wait does so in every round.
TEST(kills_do_not_wait_for_a_file)
{
    enum { ROUNDS = 5 };
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    uint64_t change = 0;
    bool prompt = false;
    write_many(source.name, "old");
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    for (int round = 0; round < ROUNDS && !prompt; round++) {
        char fresh[16];
        snprintf(fresh, sizeof fresh, "new-%d", round);
        write_many(source.name, fresh);
        uint64_t longest_us = slowest_kill_us(world, fresh, &change);
        prompt = longest_us < flagset_build_us(world->set);
        printf("%u kills, the slowest in force after %u ms; compiling took %u ms\n", (unsigned)change,
               (unsigned)(longest_us / 1000), (unsigned)(flagset_build_us(world->set) / 1000));
    }
    assert_true(prompt);
}

TEST(other_sources)
{
    struct flagset_world *world = *state;
    char a[256];
    char b[256];
    (void)snprintf(a, sizeof a, "%s", world_path(world, "a.json"));
    (void)snprintf(b, sizeof b, "%s", world_path(world, "b.json"));
    struct flagset_source sources[] = {{.kind = FLAGSET_FILE, .name = a}, {.kind = FLAGSET_FILE, .name = b}};
    write_at(a, SET("\"one\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
                    "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[{\"$ref\":\"in\"},\"on\",null]}}"));
    assert_int_equal(
        world_create_with(world, (struct flagset_config){.sources = sources,
                                                         .source_count = 1,
                                                         .segments = SLICE("{\"in\":{\"==\":[1,1]}}")}),
        STATUS_OK);
    assert_string_equal(variant_now(world, "one"), "on");
    flagset_reconfigure(world->set, sources, 1, SLICE("{\"in\":{\"==\":[1,2]}}"));
    UNTIL(world, strcmp(variant_now(world, "one"), "off") == 0);
    // Segments that are none keep those that were.
    flagset_reconfigure(world->set, sources, 1, SLICE("{\"in\":\n"));
    UNTIL(world, flagset_refused(world->set));
    assert_non_null(strstr(first_problem(world), "segments:2:1: "));
    flagset_reconfigure(world->set, sources, 1, SLICE("{\"in\":[],\n\"out\":{\"nonsense\":1}}"));
    UNTIL(world, strstr(first_problem(world), "segments:") != NULL && flagset_refused(world->set));
    assert_string_equal(variant_now(world, "one"), "off");
    // A source that is not there is said, and the rest goes on.
    flagset_reconfigure(world->set, sources, 2, SLICE("{\"in\":{\"==\":[1,1]}}"));
    UNTIL(world, strcmp(variant_now(world, "one"), "on") == 0);
    assert_int_equal(flagset_source_count(world->set), 2);
    assert_non_null(strstr(state_of(world, 1).problem, "b.json: there is no such file"));
    write_at(b, SET(FLAG("two", "on")));
    UNTIL(world, strcmp(variant_now(world, "two"), "on") == 0);
    flagset_reconfigure(world->set, sources + 1, 1, SLICE(""));
    UNTIL(world, flagset_source_count(world->set) == 1);
    assert_string_equal(variant_now(world, "one"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_now(world, "two"), "on");
}

TEST(too_many_sources)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[FLAGSET_SOURCES_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        sources[i] = (struct flagset_source){
            .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    assert_int_equal(world_create(world, sources, ARRAY_LEN(sources)), STATUS_RANGE);
    assert_int_equal(world_create(world, sources, FLAGSET_SOURCES_MAX), STATUS_OK);
    assert_string_equal(variant_now(world, "one"), "on");
    flagset_reconfigure(world->set, sources, ARRAY_LEN(sources), SLICE(""));
    assert_true(flagset_refused(world->set));
    assert_non_null(strstr(first_problem(world), "were not taken"));
    assert_int_equal(flagset_source_count(world->set), FLAGSET_SOURCES_MAX);
}

TEST(warnings_are_told)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE,
        .name = "x.json",
        .json = SLICE("{\"flags\":{\"one\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},"
                      "\"targeting\":{\"nonsense\":[1]}}}}")};
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(world->problem_count, 1);
    assert_int_equal(world->problems[0].status, STATUS_OK);
    assert_non_null(strstr(world->problems[0].text, "x.json:1:"));
    assert_non_null(strstr(world->problems[0].text, "flag 'one': "));
    assert_string_equal(variant_now(world, "one"), "!PARSE_ERROR");
    assert_false(flagset_refused(world->set));
}

static bool is_told(const struct flagset_world *world, const char *part)
{
    const struct fault *problems;
    uint32_t count = flagset_problems(world->set, &problems);
    for (uint32_t i = 0; i < count; i++)
        if (strstr(problems[i].text, part) != NULL)
            return true;
    return false;
}

// Of a file that was refused and then became unreadable, only the newest fault is told.
TEST(old_errors_are_not_told)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    write_at(source.name, "{\"flags\":{\"one\":{\"state\":\"SOMETIMES\"}}}");
    UNTIL(world, is_told(world, "state is"));
    write_at(source.name, "{\"flags\":{");
    UNTIL(world, is_told(world, "a.json:1:") && !is_told(world, "state is"));
    assert_string_equal(variant_now(world, "one"), "on");
    write_at(source.name, SET(FLAG("one", "off")));
    UNTIL(world, flagset_problems(world->set, &(const struct fault *){NULL}) == 0);
    assert_string_equal(variant_now(world, "one"), "off");
}

#define RULED(rule) SET("\"one\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"targeting\":" rule "}")
#define WITHOUT_EVALUATORS "{\"$evaluators\":{},\"flags\":{}}"

static struct flagset_source inline_source(const char *name, const char *json)
{
    return (struct flagset_source){.kind = FLAGSET_INLINE, .name = name, .json = slice_of(json)};
}

// A rule in force is not broken by new content, whichever document it is that breaks it: what lint calls an
// error is refused. Where it was broken before, the rest can still be changed.
TEST(new_content_breaks_no_rule)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        inline_source("x.json", RULED("{\"if\":[{\"$ref\":\"all\"},\"on\"]}")),
        inline_source("y.json", "{\"$evaluators\":{\"all\":{\"!\":[false]}},\"flags\":{}}"),
    };
    static const char *const BROKEN[][2] = {{RULED("{\"nonsense\":[1]}"), NULL},
                                            {RULED("{\"$ref\":\"none\"}"), NULL},
                                            {NULL, WITHOUT_EVALUATORS}};
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_string_equal(variant_now(world, "one"), "on");
    for (size_t i = 0; i < ARRAY_LEN(BROKEN); i++) {
        struct flagset_source next[] = {sources[0], sources[1]};
        if (BROKEN[i][0] != NULL)
            next[0].json = slice_of(BROKEN[i][0]);
        if (BROKEN[i][1] != NULL)
            next[1].json = slice_of(BROKEN[i][1]);
        flagset_reconfigure(world->set, next, 2, SLICE(""));
        UNTIL(world, flagset_refused(world->set));
        assert_non_null(strstr(first_problem(world), "flag 'one': "));
        assert_string_equal(variant_now(world, "one"), "on");
        flagset_reconfigure(world->set, sources, 2, SLICE(""));
        UNTIL(world, !flagset_refused(world->set));
    }
}

// ---- sharing ----

TEST(shared_with_other_processes)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    struct share_reader *reader = NULL;
    struct share_mapping mapping;
    struct flags_patch patch = {.key = SLICE("one"), .kill = true, .kill_variant = SLICE("off")};
    const char *directory = world_path(world, "shared");
    assert_int_equal(
        world_create_with(world,
                          (struct flagset_config){.sources = &source, .source_count = 1, .share = directory}),
        STATUS_OK);
    UNTIL(world, reader != NULL || share_reader_open(directory, &reader) == STATUS_OK);
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_OK);
    assert_string_equal(variant_in(&mapping.set, "one"), "on");
    share_mapping_drop(&mapping);
    assert_int_equal(flagset_overlay(world->set, SLICE(""), &patch, 1, 1), STATUS_OK);
    UNTIL(world, share_reader_stale(reader));
    assert_int_equal(share_reader_take(reader, &mapping), STATUS_OK);
    assert_string_equal(variant_in(&mapping.set, "one"), "off");
    share_mapping_drop(&mapping);
    share_reader_close(reader);
}

TEST(a_share_that_fails_is_told)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {
        .kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("one", "on")))};
    write_at(world_path(world, "taken"), "a file");
    assert_int_equal(world_create_with(world, (struct flagset_config){.sources = &source,
                                                                      .source_count = 1,
                                                                      .share = world_path(world, "taken/x")}),
                     STATUS_OK);
    UNTIL(world, strstr(first_problem(world), "taken/x: the flags cannot be shared (") != NULL);
    assert_false(flagset_refused(world->set));
    assert_string_equal(variant_now(world, "one"), "on");
}

// ---- memory ----

// The n-th allocation fails, for every n: an error, nothing lost, nothing left behind.
TEST(without_memory)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")},
        {.kind = FLAGSET_INLINE, .name = "x", .json = SLICE(SET(FLAG("two", "on")))},
    };
    write_at(sources[0].name, "{\"metadata\":{\"flagSetId\":\"s\"},\"flags\":{" FLAG("one", "on") "}}");
    enum status status = STATUS_NO_MEMORY;
    int failures = 0;
    for (int after = 0; status != STATUS_OK; after++) {
        heap_fail_after(after);
        status = world_create(world, sources, 2);
        heap_fail_after(-1);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY || status == STATUS_INVALID);
        failures += status != STATUS_OK;
        assert_true(after < 1000);
    }
    printf("%d allocations failed one after another\n", failures);
    assert_true(failures > 20);
    // May lack what could not be had at the very end, but must say so.
    assert_string_equal(variant_now(world, "one"), "on");
    assert_string_equal(variant_now(world, "two"), "on");
}
