// SPDX-License-Identifier: Apache-2.0
// The end of a conversion. The output compiles strictly, whatever the export held: prerequisites that lead
// nowhere are removed, and flags that the compiler refuses answer "off" instead.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/text.h"
#include "flags/convert/convert_private.h"
#include "flags/eval/image.h"

enum {
    NODES_LEAST = 1024,
    NODES_FIRST = 256 << 10,
    CHAIN_DEPTH_MAX = 64, // of the walk itself
    ROUNDS_MAX = 64,
    PROBLEMS_MAX = 16,
};

// ---- prerequisites ----

static json_t *prerequisites(const json_t *flag)
{
    return json_object_get(json_object_get(flag, "x-sluice"), "prerequisites");
}

static void cut(struct convert_run *run, const char *key, json_t *flag, const char *why)
{
    const char *off = convert_text(flag, "defaultVariant");
    run->flag = key;
    convert_find(run, CONVERT_LOST, "%s: the flag is killed and answers %.80s", why,
                 off != NULL ? off : "the caller's default");
    run->flag = "";
    json_object_del(json_object_get(flag, "x-sluice"), "prerequisites");
    convert_kill(flag, off);
}

static bool all_lead_somewhere(const struct convert_run *run, const json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        const json_t *needed = json_object_get(run->flags, convert_text(item, "flag"));
        if (json_object_get(json_object_get(needed, "variants"), convert_text(item, "variant")) == NULL)
            return false;
    }
    return json_array_size(list) <= CONVERT_PREREQUISITES_MAX;
}

// A flag that asks for one whose answer is not sure could be turned on by what that one lost. Only where the
// other is off whenever it is not sure, and is asked to be on, it cannot.
static bool ask_the_unsure(struct convert_run *run, const char *key, json_t *flag)
{
    size_t i;
    json_t *item;
    json_array_foreach(prerequisites(flag), i, item)
    {
        const char *needed = convert_text(item, "flag");
        const char *variant = convert_text(item, "variant");
        bool on = run->falls_to_off && strcmp(variant, "off") != 0;
        const json_t *unsure = json_object_get(run->unsure, needed);
        bool asks = json_is_true(unsure) || (unsure != NULL && run->falls_to_off && !on);
        if (!asks)
            continue;
        if (!on) {
            cut(run, key, flag, "what it depends on has lost a part");
            return true;
        }
        if (json_is_true(json_object_get(run->unsure, key)))
            continue; // and named already
        run->flag = key;
        convert_find(run, CONVERT_LOST,
                     "%.100s, on which it depends, has lost a part: it is off where that one is", needed);
        run->flag = "";
        return true;
    }
    return false;
}

static void settle_unsure(struct convert_run *run)
{
    const char *key;
    json_t *flag;
    // Whoever becomes unsure may make others so. Each round that goes on makes one more flag so.
    for (bool more = true; more;) {
        more = false;
        json_object_foreach(run->flags, key, flag) more = ask_the_unsure(run, key, flag) || more;
    }
}

// How many flags the longest chain from this one has. lengths: key -> length, 0 while it is being measured.
static json_int_t measure(struct convert_run *run, json_t *lengths, const char *key, unsigned depth)
{
    json_t *flag = json_object_get(run->flags, key);
    const json_t *known = json_object_get(lengths, key);
    json_int_t longest = 0;
    size_t i;
    json_t *item;
    if (known != NULL)
        return json_integer_value(known) > 0 ? json_integer_value(known) : CHAIN_DEPTH_MAX;
    if (depth > CHAIN_DEPTH_MAX)
        return CHAIN_DEPTH_MAX;
    json_object_set_new(lengths, key, json_integer(0));
    json_array_foreach(prerequisites(flag), i, item)
    {
        json_int_t length = measure(run, lengths, convert_text(item, "flag"), depth + 1);
        longest = length > longest ? length : longest;
    }
    if (longest >= CONVERT_PREREQUISITES_MAX) {
        cut(run, key, flag, "its prerequisites lead in a circle or too far");
        longest = 0;
    }
    json_object_set_new(lengths, key, json_integer(longest + 1));
    return longest + 1;
}

static void settle(struct convert_run *run)
{
    json_t *lengths = json_object();
    const char *key;
    json_t *flag;
    json_object_foreach(run->flags, key, flag)
    {
        if (!all_lead_somewhere(run, prerequisites(flag)))
            cut(run, key, flag, "a prerequisite is not in the export, or there are too many");
    }
    json_object_foreach(run->flags, key, flag) measure(run, lengths, key, 0);
    json_decref(lengths);
    settle_unsure(run);
}

// ---- compiling ----

// Problems may point into the image.
static enum status compile_once(struct slice json, struct flags_json_space *space, uint8_t *image, size_t cap,
                                uint32_t *count, struct flags_finding *problems, size_t *problem_count)
{
    struct flags_compile_options options = {.strict = true};
    struct flags_image set;
    size_t len;
    space->node_count = 0;
    space->char_count = 0;
    enum status status =
        flags_compile(json, &options, space, image, cap, &len, problems, PROBLEMS_MAX, problem_count);
    if (status == STATUS_OK && *problem_count == 0)
        status = flags_image_open(image, len, &set);
    else if (status == STATUS_OK)
        status = STATUS_INVALID;
    if (status == STATUS_OK)
        *count = flags_image_flag_count(&set);
    return status;
}

static void tell(const struct flags_finding *problem, json_t **culprit, char *text, size_t cap)
{
    struct text out = text_over(text, cap);
    json_t *quoted = NULL;
    char *raw = heap_alloc(problem->key.len + 3, 1);
    if (raw != NULL && problem->key.len > 0) {
        raw[0] = '"';
        memcpy(raw + 1, problem->key.data, problem->key.len);
        raw[problem->key.len + 1] = '"';
        quoted = json_loadb(raw, problem->key.len + 2, JSON_DECODE_ANY, NULL);
    }
    heap_free(raw);
    *culprit = quoted;
    text_addf(&out, "%u:%u: %s", problem->line, problem->column, problem->message);
    if (problem->subject.len > 0 && problem->subject.len < 60)
        text_addf(&out, ": " SLICE_FMT, SLICE_ARG(problem->subject));
}

enum status convert_compile(struct slice json, uint32_t *count, json_t **culprit, char *problem, size_t cap)
{
    struct flags_finding problems[PROBLEMS_MAX];
    struct flags_json_space space = {.char_cap = json.len + 1};
    size_t problem_count = 0;
    size_t image_cap = 3 * json.len + (64 << 10);
    size_t nodes = json.len / 4 + NODES_LEAST < NODES_FIRST ? json.len / 4 + NODES_LEAST : NODES_FIRST;
    enum status status = STATUS_NO_MEMORY;
    space.chars = heap_alloc(space.char_cap, 1);
    // Each node takes at least two bytes of source, so the scratch need not grow further than that.
    for (bool more = space.chars != NULL; more;) {
        uint8_t *image = heap_alloc_aligned(image_cap);
        space.nodes = heap_alloc(nodes, sizeof *space.nodes);
        space.node_cap = (uint32_t)nodes;
        bool room = space.nodes != NULL && image != NULL;
        status = room ? compile_once(json, &space, image, image_cap, count, problems, &problem_count)
                      : STATUS_NO_MEMORY;
        more = room && ((status == STATUS_NO_MEMORY && nodes < json.len / 2 + NODES_LEAST) ||
                        (status == STATUS_FULL && image_cap < 16 * json.len + (1 << 20)));
        nodes *= status == STATUS_NO_MEMORY ? 4 : 1;
        image_cap *= status == STATUS_FULL ? 2 : 1;
        if (!more && status == STATUS_INVALID)
            tell(&problems[0], culprit, problem, cap);
        heap_free(space.nodes);
        heap_free(image);
    }
    heap_free(space.chars);
    return status;
}

enum status convert_print(struct convert_run *run, json_t *set)
{
    static const size_t FLAGS = JSON_INDENT(2) | JSON_REAL_PRECISION(17);
    size_t len = set != NULL ? json_dumpb(set, NULL, 0, FLAGS) : 0;
    char *text = len > 0 ? heap_alloc(len + 2, 1) : NULL;
    if (text == NULL)
        return STATUS_NO_MEMORY;
    (void)json_dumpb(set, text, len, FLAGS);
    text[len] = '\n';
    heap_free(run->result->json);
    run->result->json = text;
    run->result->len = len + 1;
    return STATUS_OK;
}

static json_t *make_set(const struct convert_run *run)
{
    json_t *set = json_pack("{s:s,s:{s:i}}", "$schema", "https://flagd.dev/schema/v0/flags.json", "x-sluice",
                            "fractional", 3);
    if (set != NULL && json_object_size(run->evaluators) > 0)
        json_object_set(set, "$evaluators", run->evaluators);
    if (set != NULL)
        json_object_set(set, "flags", run->flags);
    return set;
}

// Removes the rules of the flag first and, when that does not help, its values too.
static void take_back(struct convert_run *run, const char *key, const char *problem)
{
    json_t *flag = json_object_get(run->flags, key);
    const char *off = convert_text(flag, "defaultVariant");
    run->flag = key;
    if (json_object_get(flag, "targeting") != NULL || json_object_get(flag, "x-sluice") != NULL) {
        convert_find(run, CONVERT_LOST, "refused (%.100s): its rules are left out, it answers %.40s", problem,
                     off != NULL ? off : "the caller's default");
        json_object_del(flag, "targeting");
        json_object_del(flag, "x-sluice");
        convert_kill(flag, off);
        json_object_set_new(flag, "metadata", json_object());
        run->flag = "";
        return;
    }
    convert_find(run, CONVERT_LOST, "refused (%.100s): left out", problem);
    run->flag = "";
    json_object_del(run->flags, key);
}

// Nothing tells which flag is at fault: all flags lose their rules and all segments go.
static void take_all_back(struct convert_run *run, const char *problem)
{
    const char *key;
    json_t *flag;
    void *next;
    json_object_clear(run->evaluators);
    json_object_foreach_safe(run->flags, next, key, flag) take_back(run, key, problem);
}

static enum status try_once(struct convert_run *run, bool last)
{
    json_t *culprit = NULL;
    char problem[200] = "";
    settle(run);
    json_t *set = make_set(run);
    enum status status = convert_print(run, set);
    json_decref(set);
    if (status == STATUS_OK)
        status = convert_compile((struct slice){run->result->json, run->result->len},
                                 &run->result->flag_count, &culprit, problem, sizeof problem);
    if (status != STATUS_INVALID)
        return status;
    const char *key = json_string_value(culprit);
    if (key != NULL && json_object_get(run->flags, key) != NULL && !last)
        take_back(run, key, problem);
    else
        take_all_back(run, problem);
    json_decref(culprit);
    return STATUS_AGAIN;
}

enum status convert_finish(struct convert_run *run)
{
    enum status status = STATUS_AGAIN;
    for (unsigned round = 0; status == STATUS_AGAIN && !run->no_memory && round < ROUNDS_MAX + 4; round++)
        status = try_once(run, round >= ROUNDS_MAX);
    if (run->no_memory)
        return STATUS_NO_MEMORY;
    return status == STATUS_AGAIN ? STATUS_INVALID : status;
}
