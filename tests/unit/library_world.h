// SPDX-License-Identifier: Apache-2.0
// A directory of one's own, flag sets to put into it, and a clock.
#pragma once

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/text.h"
#include "flags/eval/image.h"
#include "flags/library/sluice_flags.h"
#include "flags/share/share.h"
#include "folder.h"
#include "test.h"

enum { WORLD_BYTES = 1 << 16, WORLD_NODES = 2048 };

static char world_directory[FOLDER_PATH_BYTES];

static int world_set_up(void **state)
{
    (void)state;
    folder_make(world_directory);
    return 0;
}

static int world_tear_down(void **state)
{
    (void)state;
    folder_remove(world_directory);
    return 0;
}

static inline double world_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static inline void world_sleep_ms(long ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static inline void world_publish_json(struct share_writer *writer, struct slice json)
{
    static _Alignas(FLAGS_IMAGE_ALIGN) char image[WORLD_BYTES];
    static struct flags_json nodes[WORLD_NODES];
    struct flags_json_space space = {.nodes = nodes, .node_cap = WORLD_NODES};
    size_t problems;
    size_t len;
    CHECK(flags_compile(json, &(struct flags_compile_options){0}, &space, image, sizeof image, &len, NULL, 0,
                        &problems) == STATUS_OK);
    CHECK(share_writer_publish(writer, (struct slice){image, len}) == STATUS_OK);
}

// Flags "n" (a number), "s" and "t" (the same number many times over, as texts), of one set.
static inline void world_publish(struct share_writer *writer, unsigned number)
{
    static char json[WORLD_BYTES];
    struct text text = text_over(json, sizeof json);
    text_addf(&text,
              "{\"flags\":{\"n\":{\"state\":\"ENABLED\",\"variants\":{\"v\":%u},"
              "\"defaultVariant\":\"v\"}",
              number);
    for (const char *key = "st"; *key != '\0'; key++) {
        text_addf(&text, ",\"%c\":{\"state\":\"ENABLED\",\"variants\":{\"v%u\":\"", *key, number);
        for (unsigned i = 0; i < 20; i++)
            text_addf(&text, "%u;", number);
        text_addf(&text, "\"},\"defaultVariant\":\"v%u\"}", number);
    }
    text_addf(&text, "}}");
    world_publish_json(writer, text_slice(&text));
}
