// SPDX-License-Identifier: Apache-2.0
#include "diff_world.h"

#include <inttypes.h>

#include "base/check.h"

const char *diff_world_answers(struct diff_world *world, const struct diff_answer *first,
                               const struct diff_answer *second)
{
    static _Alignas(8) char memory[WORLD_SPACE_BYTES];
    struct text text = text_over(world->lines, sizeof world->lines);
    struct diff_space space = {memory, world->space > 0 ? world->space : sizeof memory};
    bool same = diff_compare(&world->recipe, first, second, space, &world->found);
    CHECK(same == (world->found.count == 0 && world->found.beyond == 0));
    for (uint32_t i = 0; i < world->found.count; i++) {
        const struct diff_finding *finding = &world->found.findings[i];
        text_addf(&text, "%s%s %s", i > 0 ? "\n" : "", diff_kind_name(finding->kind), finding->path);
        if (finding->place[0] != '\0')
            text_addf(&text, " [%s]", finding->place);
        if (finding->first[0] != '\0' || finding->second[0] != '\0')
            text_addf(&text, " %s | %s", finding->first, finding->second);
        if (finding->count > 1)
            text_addf(&text, " x%" PRIu32, finding->count);
        if (finding->class != DIFF_CLASS_NONE)
            text_addf(&text, " (%s)", diff_class_name(finding->class));
    }
    return world->lines;
}

const char *diff_world_bodies(struct diff_world *world, const char *media_type, struct slice first,
                              struct slice second)
{
    struct diff_header header = {SLICE("Content-Type"), slice_of(media_type)};
    struct diff_answer answers[2] = {
        {.status = 200, .headers = &header, .header_count = 1, .body = first},
        {.status = 200, .headers = &header, .header_count = 1, .body = second},
    };
    return diff_world_answers(world, &answers[0], &answers[1]);
}

const char *diff_world_json(struct diff_world *world, const char *first, const char *second)
{
    return diff_world_bodies(world, "application/json; charset=utf-8", slice_of(first), slice_of(second));
}
