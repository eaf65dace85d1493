// SPDX-License-Identifier: Apache-2.0
// What one flag evaluation costs (a static flag, a fractional one, one of ten rules), and what a large set
// does: 100 000 flags with ten rules each compiled, opened, compiled again after a change, overridden by a
// second document, and patched. CPU time of this thread; medians of nine. With an argument (static,
// fractional, rules) only that evaluation runs, a fixed number of times, for counting instructions under
// callgrind.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/eval/evaluate.h"

enum { REPEATS = 9, EVALUATIONS = 200000, COUNTED = 100000, FLAGS = 100000, RULES = 10 };

static double cpu_us(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct document {
    char *data;
    size_t len;
    size_t cap;
};

static void add(struct document *d, const char *piece)
{
    size_t len = strlen(piece);
    if (d->len + len > d->cap) {
        d->cap = 2 * d->cap + len + 4096;
        d->data = heap_resize(d->data, d->cap);
        CHECK(d->data != NULL);
    }
    memcpy(d->data + d->len, piece, len);
    d->len += len;
}

// Ten rules, each a condition of another kind in turn; the context below matches none before the last.
static void add_rules(struct document *d, unsigned salt)
{
    char piece[200];
    add(d, "{\"if\":[");
    for (unsigned r = 0; r < RULES; r++) {
        switch (r % 4) {
        case 0:
            snprintf(piece, sizeof piece, "{\"==\":[{\"var\":\"email\"},\"user%u@example.com\"]},",
                     salt * 31 + r);
            break;
        case 1:
            snprintf(piece, sizeof piece,
                     "{\"in\":[{\"var\":\"country\"},[\"C%u\",\"FR\",\"IT\",\"ES\",\"PT\"]]},", salt % 977);
            break;
        case 2:
            snprintf(piece, sizeof piece, "{\"starts_with\":[{\"var\":\"device.model\"},\"tab-%u\"]},",
                     salt % 977);
            break;
        default:
            snprintf(piece, sizeof piece,
                     "{\"and\":[{\">\":[{\"var\":\"age\"},%u]},{\"sem_ver\":[{\"var\":"
                     "\"version\"},\">=\",\"3.%u.0\"]}]},",
                     20 + salt % 40, r);
            break;
        }
        add(d, piece);
        add(d, r % 2 == 0 ? "\"on\"," : "\"off\",");
    }
    add(d, "null]}");
}

static void add_flag(struct document *d, const char *key, const char *targeting)
{
    add(d, "\"");
    add(d, key);
    add(d, "\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\"");
    if (targeting != NULL) {
        add(d, ",\"targeting\":");
        add(d, targeting);
    }
    add(d, "}");
}

static void build_large(struct document *d, unsigned change)
{
    char key[40];
    d->len = 0;
    add(d, "{\"flags\":{");
    add_flag(d, "static", NULL);
    add(d, ",");
    add_flag(d, "fractional", "{\"fractional\":[[\"on\",10000],[\"off\",90000]]}");
    for (unsigned f = 0; f < FLAGS; f++) {
        struct document rules = {0};
        add_rules(&rules, f == 0 ? change : f);
        snprintf(key, sizeof key, "service-%u.feature-%u", f % 97, f);
        add(d, ",");
        rules.data = heap_resize(rules.data, rules.len + 1);
        CHECK(rules.data != NULL);
        rules.data[rules.len] = '\0';
        add_flag(d, key, rules.data);
        heap_free(rules.data);
    }
    add(d, "}}");
}

struct set {
    void *image;
    size_t len;
    double compile_ms;
    struct flags_image view;
};

static void compile(const struct document *d, uint32_t count, struct set *set, void *image, size_t cap)
{
    struct flags_bundle_document documents[2];
    struct flags_compile_options options = {0};
    struct flags_json_space space = {.node_cap = 1 << 16, .char_cap = 1 << 16};
    struct flags_finding problem;
    size_t problems;
    space.nodes = heap_alloc(space.node_cap, sizeof *space.nodes);
    space.chars = heap_alloc(space.char_cap, 1);
    CHECK(space.nodes != NULL && space.chars != NULL);
    double begin = cpu_us();
    for (uint32_t i = 0; i < count; i++)
        documents[i] = (struct flags_bundle_document){.json = {d[i].data, d[i].len}, .name = ""};
    struct flags_bundle bundle = {.documents = documents, .document_count = count};
    enum status status =
        flags_bundle_compile(&bundle, &options, &space, image, cap, &set->len, &problem, 1, &problems);
    set->compile_ms = (cpu_us() - begin) / 1e3;
    CHECK(status == STATUS_OK && problems == 0);
    set->image = image;
    heap_free(space.nodes);
    heap_free(space.chars);
    begin = cpu_us();
    CHECK(flags_image_open(image, set->len, &set->view) == STATUS_OK);
    printf("compile %u document(s) %8.1f ms   open (checksum) %6.1f ms   source %.1f MB   image %.1f MB\n",
           count, set->compile_ms, (cpu_us() - begin) / 1e3, (double)d->len / 1e6, (double)set->len / 1e6);
}

// A kill switch and a step of a rollout over the large set: what everybody waits for.
static void measure_patches(const struct flags_image *base, void *out, size_t cap)
{
    const struct flags_patch patches[] = {
        {.key = SLICE("service-7.feature-7"), .kill = true},
        {.key = SLICE("static"),
         .split = true,
         .split_from = SLICE("off"),
         .split_to = SLICE("on"),
         .split_share = 5000},
    };
    double times[REPEATS];
    struct flags_finding problem;
    size_t problems;
    size_t len;
    for (int r = 0; r < REPEATS; r++) {
        double begin = cpu_us();
        CHECK(flags_image_patch(base, patches, ARRAY_LEN(patches), out, cap, &len, &problem, 1, &problems) ==
              STATUS_OK);
        times[r] = (cpu_us() - begin) / 1e3;
        CHECK(problems == 0);
    }
    double first = times[0];
    qsort(times, REPEATS, sizeof times[0], order);
    printf("patch (copy and checksum) %6.1f ms (%.1f to %.1f; into fresh memory %.1f)\n", times[REPEATS / 2],
           times[0], times[REPEATS - 1], first);
}

static struct flags_json *context_tree(void)
{
    static struct flags_json nodes[64];
    static char chars[256];
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = 64, .chars = chars, .char_cap = sizeof chars};
    struct flags_json_error fault;
    struct flags_json *root;
    CHECK(flags_json_parse(SLICE("{\"email\":\"somebody@example.org\",\"country\":\"DE\",\"age\":41,"
                                 "\"version\":\"2.14.1\",\"device\":{\"model\":\"phone-7\",\"os\":\"x\"}}"),
                           &space, &root, &fault) == STATUS_OK);
    return root;
}

static void run(const struct flags_image *set, const struct flags_json *tree, struct slice key, int count)
{
    static char scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_context context = {.tree = tree, .has_targeting_key = true, .time_s = 1795251600};
    struct flags_result result;
    char user[24] = "user-0000000";
    context.targeting_key = (struct slice){user, strlen(user)};
    for (int i = 0; i < count; i++) {
        user[11] = (char)('0' + i % 10);
        user[10] = (char)('0' + i / 10 % 10);
        flags_evaluate(set, key, FLAGS_BOOLEAN, &context, (struct flags_scratch){scratch, sizeof scratch},
                       &result);
        CHECK(result.has_value);
    }
}

static void measure(const struct flags_image *set, const char *name, const char *key)
{
    const struct flags_json *tree = context_tree();
    double times[REPEATS];
    for (int r = 0; r < REPEATS; r++) {
        double begin = cpu_us();
        run(set, tree, slice_of(key), EVALUATIONS);
        times[r] = (cpu_us() - begin) * 1e3 / EVALUATIONS;
    }
    qsort(times, REPEATS, sizeof times[0], order);
    printf("%-12s %6.1f ns per evaluation (%.1f to %.1f)\n", name, times[REPEATS / 2], times[0],
           times[REPEATS - 1]);
}

// Keys all over the set: what the caches do not hold counts.
static void measure_spread(const struct flags_image *set)
{
    enum { PICKS = 65536 };
    static char keys[PICKS][40];
    const struct flags_json *tree = context_tree();
    double times[REPEATS];
    for (unsigned i = 0; i < PICKS; i++) {
        unsigned f = i * 2654435761U % FLAGS;
        snprintf(keys[i], sizeof keys[i], "service-%u.feature-%u", f % 97, f);
    }
    for (int r = 0; r < REPEATS; r++) {
        double begin = cpu_us();
        for (unsigned i = 0; i < PICKS; i++)
            run(set, tree, slice_of(keys[i]), 1);
        times[r] = (cpu_us() - begin) * 1e3 / PICKS;
    }
    qsort(times, REPEATS, sizeof times[0], order);
    printf("%-12s %6.1f ns per evaluation (%.1f to %.1f)\n", "spread", times[REPEATS / 2], times[0],
           times[REPEATS - 1]);
}

static void count_only(const char *which)
{
    static _Alignas(8) uint8_t image[65536];
    struct document d = {0};
    struct document rules = {0};
    struct set set;
    add_rules(&rules, 1);
    rules.data = heap_resize(rules.data, rules.len + 1);
    CHECK(rules.data != NULL);
    rules.data[rules.len] = '\0';
    add(&d, "{\"flags\":{");
    add_flag(&d, "static", NULL);
    add(&d, ",");
    add_flag(&d, "fractional", "{\"fractional\":[[\"on\",10000],[\"off\",90000]]}");
    add(&d, ",");
    add_flag(&d, "rules", rules.data);
    add(&d, "}}");
    compile(&d, 1, &set, image, sizeof image);
    run(&set.view, context_tree(), slice_of(which), COUNTED);
    heap_free(d.data);
    heap_free(rules.data);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        count_only(argv[1]);
        return 0;
    }
    struct document d[2] = {{0}, {0}};
    struct set first;
    struct set second;
    size_t cap = (size_t)600 << 20;
    void *images[3] = {heap_alloc(cap, 1), heap_alloc(cap, 1), heap_alloc(cap, 1)};
    CHECK(images[0] != NULL && images[1] != NULL && images[2] != NULL);
    printf("%d flags with %d rules each\n", FLAGS, RULES);
    build_large(&d[0], 0);
    build_large(&d[1], 1);
    compile(&d[0], 1, &first, images[0], cap);
    compile(d, 2, &second, images[1], cap);
    compile(&d[1], 1, &second, images[1], cap);
    measure_patches(&second.view, images[2], cap);
    measure(&second.view, "static", "static");
    measure(&second.view, "fractional", "fractional");
    measure(&second.view, "ten rules", "service-7.feature-7");
    measure_spread(&second.view);
    heap_free(d[0].data);
    heap_free(d[1].data);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        heap_free(images[i]);
    return 0;
}
