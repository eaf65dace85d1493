// SPDX-License-Identifier: Apache-2.0
// What the tests of flag sets share: a folder of their own, a loop to turn, and a set whose changes are
// counted.
#pragma once

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "flags/set/flagset.h"
#include "folder.h"
#include "test.h"

struct flagset_world {
    char folder[FOLDER_PATH_BYTES];
    struct io_loop *loop;
    struct flagset *set;
    uint32_t snapshots; // told
    uint32_t notes;     // told without a snapshot
    struct fault problems[FLAGSET_PROBLEMS_MAX];
    uint32_t problem_count;
};

static inline void world_changed(void *context, const struct flagset_snapshot *snapshot)
{
    struct flagset_world *world = context;
    if (snapshot != NULL)
        world->snapshots++;
    else
        world->notes++;
}

static inline void world_open(struct flagset_world *world)
{
    struct io_loop_config config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    *world = (struct flagset_world){0};
    folder_make(world->folder);
    assert_int_equal(io_loop_create(&config, &world->loop), STATUS_OK);
}

static inline void world_close(struct flagset_world *world)
{
    flagset_destroy(world->set);
    io_loop_destroy(world->loop);
    folder_remove(world->folder);
}

static inline const char *world_path(const struct flagset_world *world, const char *name)
{
    static char paths[64][256];
    static unsigned next;
    char *path = paths[next++ % 64];
    (void)snprintf(path, sizeof paths[0], "%s/%s", world->folder, name);
    return path;
}

static inline void write_at(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static inline enum status world_create_with(struct flagset_world *world, struct flagset_config config)
{
    config.loop = world->loop;
    config.changed = world_changed;
    config.context = world;
    if (config.reader_count == 0)
        config.reader_count = 2;
    return flagset_create(&config, &world->set, world->problems, &world->problem_count);
}

static inline enum status world_create(struct flagset_world *world, const struct flagset_source *sources,
                                       uint32_t count)
{
    return world_create_with(world, (struct flagset_config){.sources = sources, .source_count = count});
}

static inline uint64_t now_ms(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// The variant that answers with this targeting key ("" when none), from a view.
static inline const char *variant_in(const struct flags_image *set, const char *key)
{
    static char names[4][64];
    static unsigned next;
    char *name = names[next++ % 4];
    char scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_context context = {.has_targeting_key = true, .targeting_key = SLICE("user-1")};
    struct flags_result result;
    flags_evaluate(set, slice_of(key), FLAGS_ANY, &context, (struct flags_scratch){scratch, sizeof scratch},
                   &result);
    (void)snprintf(name, sizeof names[0], "%s%.*s", result.error == FLAGS_ERROR_NONE ? "" : "!",
                   SLICE_ARG(result.error == FLAGS_ERROR_NONE ? result.variant
                                                              : slice_of(flags_error_name(result.error))));
    return name;
}

static inline const char *variant_now(const struct flagset_world *world, const char *key)
{
    return variant_in(&flagset_current(world->set)->all.set, key);
}

// Turns the loop until the condition holds; fails after a time that no busy machine needs.
#define UNTIL(world, condition)                                                                              \
    do {                                                                                                     \
        uint64_t give_up_ms = now_ms() + 60000;                                                              \
        while (!(condition)) {                                                                               \
            if (now_ms() > give_up_ms)                                                                       \
                fail_msg("never came true: %s", #condition);                                                 \
            assert_int_equal(io_loop_turn((world)->loop, 5000), STATUS_OK);                                  \
        }                                                                                                    \
    } while (0)

static inline void turn_for(struct flagset_world *world, uint64_t ms)
{
    uint64_t until_ms = now_ms() + ms;
    while (now_ms() < until_ms)
        assert_int_equal(io_loop_turn(world->loop, 5000), STATUS_OK);
}

static inline const char *first_problem(const struct flagset_world *world)
{
    const struct fault *problems;
    return flagset_problems(world->set, &problems) > 0 ? problems[0].text : "";
}

// {"flags": {"NAME": on/off with this default}}
#define FLAG(name, variant)                                                                                  \
    "\"" name                                                                                                \
    "\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"" variant "\"}"
#define SET(flags) "{\"flags\":{" flags "}}"
