// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of flags: a compiled set in static storage, contexts from JSON text, whole files.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"

enum { FIXTURE_NODES = 1 << 18, FIXTURE_CHARS = 1 << 20, FIXTURE_PROBLEMS = 64 };

struct flags_fixture {
    _Alignas(8) uint8_t image[4 << 20];
    size_t len;
    struct flags_image set;
    struct flags_finding problems[FIXTURE_PROBLEMS];
    size_t problem_count;
    struct flags_json nodes[FIXTURE_NODES];
    char chars[FIXTURE_CHARS];
    struct flags_json context_nodes[1 << 13];
    char context_chars[1 << 16];
    char scratch[FLAGS_SCRATCH_DEFAULT];
};

// One for all the files of a test program: the leak checker reads all that is static at the end of each run.
extern struct flags_fixture fixture;

static inline enum status fixture_compile_with(struct flags_fixture *f, struct slice json, bool strict,
                                               uint8_t generation)
{
    struct flags_compile_options options = {.strict = strict, .default_generation = generation};
    struct flags_json_space space = {
        .nodes = f->nodes, .node_cap = FIXTURE_NODES, .chars = f->chars, .char_cap = FIXTURE_CHARS};
    enum status status = flags_compile(json, &options, &space, f->image, sizeof f->image, &f->len,
                                       f->problems, FIXTURE_PROBLEMS, &f->problem_count);
    if (status == STATUS_OK)
        CHECK(flags_image_open(f->image, f->len, &f->set) == STATUS_OK);
    return status;
}

static inline enum status fixture_compile_bundle(struct flags_fixture *f, const struct flags_bundle *bundle)
{
    struct flags_compile_options options = {0};
    struct flags_json_space space = {
        .nodes = f->nodes, .node_cap = FIXTURE_NODES, .chars = f->chars, .char_cap = FIXTURE_CHARS};
    enum status status = flags_bundle_compile(bundle, &options, &space, f->image, sizeof f->image, &f->len,
                                              f->problems, FIXTURE_PROBLEMS, &f->problem_count);
    if (status == STATUS_OK)
        CHECK(flags_image_open(f->image, f->len, &f->set) == STATUS_OK);
    return status;
}

static inline enum status fixture_compile(struct flags_fixture *f, const char *json)
{
    return fixture_compile_with(f, slice_of(json), false, 0);
}

// The first flag of a set {"flags":{"f":{boolean flag "on"/"off", default "off", <rest>}}}.
static inline enum status fixture_compile_flag(struct flags_fixture *f, const char *rest)
{
    static char json[1 << 18];
    snprintf(json, sizeof json,
             "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
             "\"defaultVariant\":\"off\",%s}}}",
             rest);
    return fixture_compile(f, json);
}

static inline const struct flags_json *fixture_tree(struct flags_fixture *f, struct slice json)
{
    struct flags_json_space space = {.nodes = f->context_nodes,
                                     .node_cap = ARRAY_LEN(f->context_nodes),
                                     .chars = f->context_chars,
                                     .char_cap = sizeof f->context_chars,
                                     .last_wins = true};
    struct flags_json_error fault;
    struct flags_json *root;
    enum status status = flags_json_parse(json, &space, &root, &fault);
    if (status != STATUS_OK)
        fprintf(stderr, "context: %s at %zu of " SLICE_FMT "\n", fault.what, fault.at, SLICE_ARG(json));
    CHECK(status == STATUS_OK);
    return root;
}

static inline struct flags_result fixture_evaluate(struct flags_fixture *f, const char *key,
                                                   enum flags_type type, const struct flags_context *context)
{
    struct flags_result result;
    flags_evaluate(&f->set, slice_of(key), type, context,
                   (struct flags_scratch){f->scratch, sizeof f->scratch}, &result);
    return result;
}

// Reads a whole file into the heap; the caller frees. NULL when there is none.
static inline char *fixture_read(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    rewind(file);
    CHECK(size >= 0);
    char *bytes = calloc((size_t)size + 1, 1);
    CHECK(bytes != NULL);
    *len = fread(bytes, 1, (size_t)size, file);
    fclose(file);
    return bytes;
}

static inline bool fixture_conformance(char *root, size_t cap)
{
    const char *given = getenv("SLUICE_CONFORMANCE");
    const char *const places[] = {given != NULL ? given : "", "../shared/conformance",
                                  "../../shared/conformance"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        char probe[600];
        snprintf(probe, sizeof probe, "%s/README.md", places[i]);
        FILE *file = fopen(probe, "rb");
        if (file == NULL)
            continue;
        fclose(file);
        snprintf(root, cap, "%s", places[i]);
        return true;
    }
    printf("SKIPPED: conformance cases not found (set SLUICE_CONFORMANCE)\n");
    return false;
}
