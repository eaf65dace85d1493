// SPDX-License-Identifier: Apache-2.0
// What the library adds to an evaluation: the same flags asked of the bare evaluator and through
// libsluice-flags, alternating in one run; medians of nine, CPU time of this thread.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"
#include "flags/library/sluice_flags.h"

enum { REPEATS = 9, EVALUATIONS = 200000, WAYS = 5, IMAGE_BYTES = 65536 };

static const char FLAGS[] =
    "{\"flags\":{"
    "\"static\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"on\"},"
    "\"fractional\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"on\","
    "\"targeting\":{\"fractional\":[[\"on\",10000],[\"off\",90000]]}},"
    "\"rule\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"on\","
    "\"targeting\":{\"if\":[{\"in\":[{\"var\":\"country\"},[\"FR\",\"IT\"]]},\"on\",\"off\"]}}}}";

static double cpu_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compile(struct flags_image *set)
{
    static _Alignas(FLAGS_IMAGE_ALIGN) char image[IMAGE_BYTES];
    static struct flags_json nodes[512];
    struct flags_json_space space = {.nodes = nodes, .node_cap = 512};
    size_t len;
    size_t problems;
    CHECK(flags_compile(slice_of(FLAGS), &(struct flags_compile_options){0}, &space, image, sizeof image,
                        &len, NULL, 0, &problems) == STATUS_OK);
    CHECK(flags_image_open(image, len, set) == STATUS_OK);
}

static struct sluice_flags_provider *open_library(void)
{
    char path[] = "/tmp/sluice-bench-XXXXXX";
    struct sluice_flags_provider *provider;
    static const struct sluice_flags_options OPTIONS = {.no_thread = true};
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, FLAGS, sizeof FLAGS - 1) == (ssize_t)sizeof FLAGS - 1 && close(fd) == 0);
    CHECK(sluice_flags_open_file(path, &OPTIONS, &provider) == SLUICE_FLAGS_ERROR_NONE);
    CHECK(sluice_flags_state(provider) == SLUICE_FLAGS_READY && unlink(path) == 0);
    return provider;
}

struct bench {
    struct flags_image set;
    struct flags_json country;
    struct flags_json tree;
    struct sluice_flags_provider *provider;
    struct sluice_flags_context *context;
};

static void bare(const struct bench *bench, const char *key)
{
    char scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_context context = {
        .tree = &bench->tree, .has_targeting_key = true, .targeting_key = SLICE("user-0000042")};
    struct flags_result result;
    struct slice name = slice_of(key);
    for (int i = 0; i < EVALUATIONS; i++) {
        flags_evaluate(&bench->set, name, FLAGS_BOOLEAN, &context,
                       (struct flags_scratch){scratch, sizeof scratch}, &result);
        CHECK(result.has_value);
    }
}

static void library(const struct bench *bench, const char *key, bool with_details)
{
    struct sluice_flags_details details = SLUICE_FLAGS_DETAILS_INIT;
    unsigned on = 0;
    for (int i = 0; i < EVALUATIONS; i++)
        on +=
            sluice_flags_boolean(bench->provider, key, false, bench->context, with_details ? &details : NULL);
    CHECK(on <= EVALUATIONS && details.error == SLUICE_FLAGS_ERROR_NONE);
}

static void library_hold(const struct bench *bench, const char *key)
{
    struct sluice_flags_hold hold;
    struct sluice_flags_value value = {.type = SLUICE_FLAGS_BOOLEAN};
    CHECK(sluice_flags_hold_begin(bench->provider, &hold));
    for (int i = 0; i < EVALUATIONS; i++)
        sluice_flags_hold_evaluate(&hold, key, bench->context, &value, NULL);
    sluice_flags_hold_end(&hold);
}

// With the context built anew in the caller's storage each time, as a request handler does.
static void library_request(const struct bench *bench, const char *key)
{
    char storage[1024];
    for (int i = 0; i < EVALUATIONS; i++) {
        struct sluice_flags_context *context = sluice_flags_context_init(storage, sizeof storage);
        CHECK(sluice_flags_context_set_targeting_key(context, "user-0000042"));
        CHECK(sluice_flags_context_set_string(context, "country", "DE"));
        (void)sluice_flags_boolean(bench->provider, key, false, context, NULL);
    }
}

static void run(const struct bench *bench, int way, const char *key)
{
    if (way == 0)
        bare(bench, key);
    else if (way == 1)
        library(bench, key, false);
    else if (way == 2)
        library(bench, key, true);
    else if (way == 3)
        library_hold(bench, key);
    else
        library_request(bench, key);
}

static void measure(const struct bench *bench, const char *key)
{
    static const char *const NAMES[WAYS] = {"bare evaluator", "library", "library, details",
                                            "library, in a hold", "library, new context"};
    double times[WAYS][REPEATS];
    for (int r = 0; r < REPEATS; r++) {
        for (int way = 0; way < WAYS; way++) {
            double begin = cpu_ns();
            run(bench, way, key);
            times[way][r] = (cpu_ns() - begin) / EVALUATIONS;
        }
    }
    for (int way = 0; way < WAYS; way++) {
        qsort(times[way], REPEATS, sizeof times[way][0], order);
        printf("%-12s %-22s %6.1f ns per evaluation (%.1f to %.1f)\n", key, NAMES[way],
               times[way][REPEATS / 2], times[way][0], times[way][REPEATS - 1]);
    }
}

int main(void)
{
    struct bench bench = {
        .country = {.kind = FLAGS_JSON_STRING, .key = SLICE("country"), .text = SLICE("DE")},
        .provider = open_library(),
        .context = sluice_flags_context_create(),
    };
    bench.tree = (struct flags_json){.kind = FLAGS_JSON_OBJECT, .count = 1, .first = &bench.country};
    compile(&bench.set);
    CHECK(bench.context != NULL && sluice_flags_context_set_targeting_key(bench.context, "user-0000042") &&
          sluice_flags_context_set_string(bench.context, "country", "DE"));
    measure(&bench, "static");
    measure(&bench, "fractional");
    measure(&bench, "rule");
    sluice_flags_context_destroy(bench.context);
    sluice_flags_close(bench.provider);
    return 0;
}
