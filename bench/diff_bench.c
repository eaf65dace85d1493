// SPDX-License-Identifier: Apache-2.0
// The comparison of two answers.
//   diff_bench speed FOLDER   JSON documents of a folder: MB of both bodies per second of one processor
//   diff_bench rules [RUNS]   which paths are called different, by our rule and by one with two thresholds
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "ship/diff/noise.h"

enum { BODY_MAX = 4 << 20, SPACE_BYTES = 256 << 20, LOOK_EVERY = 100, REQUESTS = 10000, PATHS = 200 };

static char *original, *changed;
static void *memory;
static struct diff_comparison found;

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool compare(struct slice first, struct slice second)
{
    static const struct diff_header json = {{"content-type", 12}, {"application/json", 16}};
    struct diff_recipe recipe = {.key = {123, 456}};
    struct diff_answer a = {.status = 200, .headers = &json, .header_count = 1, .body = first}, b = a;
    b.body = second;
    bool same = diff_compare(&recipe, &a, &b, (struct diff_space){memory, SPACE_BYTES}, &found);
    if (found.notes != 0)
        fprintf(stderr, "notes %" PRIu32 "\n", found.notes);
    return same;
}

static bool is_number_at(const char *text, size_t at)
{
    return text[at] >= '1' && text[at] <= '8' && strchr(" :,[.", text[at - 1]) != NULL;
}

// Adds one to the first digit of each n-th number from `from` on, or of the first one only (n = 0). Only
// outside of strings, as far as spaces and commas tell; that is enough to have differences.
static void change_numbers(size_t len, size_t from, uint32_t n)
{
    uint32_t seen = 0;
    for (size_t i = from > 0 ? from : 1; i < len; i++)
        if (is_number_at(changed, i) && (n == 0 || ++seen % n == 0)) {
            changed[i]++;
            if (n == 0)
                return;
        }
}

static double measure(size_t len, size_t other_len)
{
    double best = 0;
    for (int round = 0; round < 7; round++) {
        uint32_t times = 0;
        double begin = cpu_seconds(), took;
        do {
            (void)compare((struct slice){original, len}, (struct slice){changed, other_len});
            times++;
        } while ((took = cpu_seconds() - begin) < 0.1);
        double rate = (double)(len + other_len) * times / took / 1e6;
        best = rate > best ? rate : best;
    }
    return best;
}

static size_t read_file(const char *path, char *into)
{
    FILE *file = fopen(path, "rb");
    size_t len = file != NULL ? fread(into, 1, BODY_MAX, file) : 0;
    if (file != NULL)
        fclose(file);
    return len;
}

// The same document with members by name, other spaces and other escapes, into `changed`.
static size_t write_anew(size_t len)
{
    json_t *root = json_loadb(original, len, JSON_DECODE_ANY, NULL);
    size_t out = json_dumpb(root, changed, BODY_MAX,
                            JSON_SORT_KEYS | JSON_ENSURE_ASCII | JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    json_decref(root);
    return out <= BODY_MAX ? out : 0;
}

static void measure_file(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    size_t len = read_file(path, original);
    if (len == 0)
        return;
    memcpy(changed, original, len);
    double same = measure(len, len);
    change_numbers(len, len - len / 10, 0);
    double one = measure(len, len);
    memcpy(changed, original, len);
    change_numbers(len, 0, 10);
    double many = measure(len, len);
    size_t other = write_anew(len);
    double order = other > 0 ? measure(len, other) : 0;
    bool equal = other > 0 && compare((struct slice){original, len}, (struct slice){changed, other});
    printf("| %s | %zu | %.0f | %.0f | %.0f | %.0f%s |\n", name, len / 1000, same, one, many, order,
           equal || other == 0 ? "" : " (not equal)");
}

static int speed(const char *folder)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, alphasort);
    original = malloc(BODY_MAX);
    changed = malloc(BODY_MAX);
    memory = aligned_alloc(64, SPACE_BYTES);
    if (count < 0 || original == NULL || changed == NULL || memory == NULL)
        return 1;
    printf(
        "MB/s of both bodies, best of seven\n| document | kB | same bytes | one number | a tenth of the numbers | "
        "other order and spaces |\n|---|---|---|---|---|---|\n");
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.')
            measure_file(folder, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return 0;
}

// --- rules ---

// What a path does: how often an answer of either version differs from the primary's, and how often the new
// version's does besides.
struct model {
    const char *name;
    double noise_min, noise_max; // rates of the noisy paths, spread evenly between
    uint32_t noisy;              // how many of PATHS
    double regression;           // of path 0, which is not noisy
    bool together;               // all paths of one answer are noisy or none
};

static const struct model MODELS[] = {
    {"identical, rare noise", 0.0005, 0.01, PATHS, 0, false},
    {"identical, common noise", 0.05, 0.9, PATHS, 0, false},
    {"identical, noise of whole answers", 0.02, 0.02, PATHS, 0, true},
    {"1 % of answers wrong, no noise", 0, 0, 0, 0.01, false},
    {"1 % of answers wrong, noise elsewhere", 0.0005, 0.5, PATHS - 1, 0.01, false},
    {"5 % of answers wrong, noise elsewhere", 0.0005, 0.5, PATHS - 1, 0.05, false},
    {"all answers wrong, noise elsewhere", 0.0005, 0.5, PATHS - 1, 1, false},
};

static double noise_rate(const struct model *model, uint32_t path)
{
    if (path >= PATHS - model->noisy)
        return model->noise_min + (model->noise_max - model->noise_min) * (path - (PATHS - model->noisy)) /
                                      (model->noisy > 1 ? model->noisy - 1 : 1);
    return 0;
}

// A path differs when it differs more often between versions than within one, by 20 % of both and by 0.03 %
// of all answers: the rule of Diffy with its defaults.
static bool rule_of_thresholds(uint32_t raw, uint32_t noise, uint32_t total)
{
    double difference = (double)raw - noise;
    return raw > noise && difference / (raw + noise) * 100 > 20 && difference / total * 100 > 0.03;
}

struct outcome {
    uint32_t wrong_runs, wrong_end; // runs with a false finding at any look, and at the end
    uint32_t found;
    uint64_t requests_until; // of those that found it
};

static struct diff_noise noise;
static struct diff_judgement judged[DIFF_ROWS_MAX];
static struct diff_comparison answers[2];

static void add_path(struct diff_comparison *comparison, uint32_t path, uint32_t tallies[PATHS])
{
    tallies[path]++;
    if (comparison->count == DIFF_FINDINGS_MAX) {
        comparison->beyond++;
        return;
    }
    struct diff_finding *finding = &comparison->findings[comparison->count++];
    *finding = (struct diff_finding){.kind = DIFF_VALUE, .count = 1};
    snprintf(finding->path, sizeof finding->path, "body.g%u.p%u", (unsigned)(path / 20), (unsigned)path);
}

static void look(struct outcome *ours, struct outcome *theirs, uint32_t tallies[2][PATHS], uint32_t requests,
                 const struct model *model, bool wrong[2], bool done[2])
{
    bool now[2] = {false, false}, hit[2] = {false, false};
    uint32_t count = diff_noise_judge(&noise, 0.01, 0.05, judged);
    for (uint32_t i = 0; i < count && judged[i].verdict == DIFF_DIFFERENT; i++) {
        bool right = model->regression > 0 && strcmp(noise.rows[judged[i].row].path, "body.g0.p0") == 0;
        *(right ? &hit[0] : &now[0]) = true;
    }
    for (uint32_t path = 0; path < PATHS; path++)
        if (rule_of_thresholds(tallies[0][path], tallies[1][path], requests))
            *(model->regression > 0 && path == 0 ? &hit[1] : &now[1]) = true;
    struct outcome *outcomes[2] = {ours, theirs};
    for (int rule = 0; rule < 2; rule++) {
        wrong[rule] = wrong[rule] || now[rule];
        outcomes[rule]->wrong_end += requests == REQUESTS && now[rule];
        if (hit[rule] && !done[rule]) {
            done[rule] = true;
            outcomes[rule]->found++;
            outcomes[rule]->requests_until += requests;
        }
    }
}

static void run(const struct model *model, uint64_t seed, struct outcome *ours, struct outcome *theirs)
{
    static uint32_t tallies[2][PATHS];
    bool wrong[2] = {false, false}, done[2] = {false, false};
    struct rng rng;
    rng_init(&rng, seed);
    memset(&noise, 0, sizeof noise);
    memset(tallies, 0, sizeof tallies);
    for (uint32_t request = 1; request <= REQUESTS; request++) {
        for (int side = 0; side < 2; side++) {
            memset(&answers[side], 0, offsetof(struct diff_comparison, findings));
            bool whole = model->together && rng_double(&rng) < model->noise_min;
            for (uint32_t path = 0; path < PATHS; path++)
                if (model->together ? whole && path < DIFF_FINDINGS_MAX
                                    : rng_double(&rng) < noise_rate(model, path))
                    add_path(&answers[side], path, tallies[side]);
        }
        if (rng_double(&rng) < model->regression)
            add_path(&answers[0], 0, tallies[0]);
        diff_noise_add(&noise, &answers[0], &answers[1]);
        if (request % LOOK_EVERY == 0)
            look(ours, theirs, tallies, request, model, wrong, done);
    }
    ours->wrong_runs += wrong[0];
    theirs->wrong_runs += wrong[1];
}

static void print_outcome(const struct outcome *outcome, uint32_t runs, bool regression)
{
    printf(" %u of %u | %u |", outcome->wrong_runs, runs, outcome->wrong_end);
    if (!regression)
        printf(" |");
    else if (outcome->found == 0)
        printf(" never |");
    else
        printf(" %" PRIu64 " (%u of %u) |", outcome->requests_until / outcome->found, outcome->found, runs);
}

static int rules(uint32_t runs)
{
    printf(
        "%d paths, %d requests, looked at after each %d\n| versions | ours: false at any look | at the end | found "
        "after | thresholds: false at any look | at the end | found after |\n|---|---|---|---|---|---|---|\n",
        PATHS, REQUESTS, LOOK_EVERY);
    for (size_t i = 0; i < sizeof MODELS / sizeof MODELS[0]; i++) {
        struct outcome ours = {0}, theirs = {0};
        for (uint32_t n = 0; n < runs; n++)
            run(&MODELS[i], 1000 * (i + 1) + n, &ours, &theirs);
        printf("| %s |", MODELS[i].name);
        print_outcome(&ours, runs, MODELS[i].regression > 0);
        print_outcome(&theirs, runs, MODELS[i].regression > 0);
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "speed") == 0)
        return speed(argv[2]);
    if (argc >= 2 && strcmp(argv[1], "rules") == 0)
        return rules(argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100);
    fprintf(stderr, "usage: diff_bench speed FOLDER | rules [RUNS]\n");
    return 2;
}
