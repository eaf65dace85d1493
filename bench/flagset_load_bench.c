// SPDX-License-Identifier: Apache-2.0
// What a large flag set costs: loading a file of FLAGS flags with RULES rules each (default 100 000 and 10),
// the memory it takes, how long a changed file takes to be in force, and how long a kill does. Wall time, as
// the owner of the set sees it. --check: a few flags, and a failure when anything is wrong; for tests.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "flags/set/flagset.h"

enum { UPDATES = 3, KILLS = 5, READERS = 4 };

static double now_ms(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

// One line of /proc/self/status in MiB: "VmRSS:", "VmHWM:".
static double memory_mib(const char *name)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtod(line + strlen(name), NULL);
    if (file != NULL)
        CHECK(fclose(file) == 0);
    return kib / 1024;
}

static void write_rule(FILE *file, unsigned flag, unsigned r)
{
    switch (r % 4) {
    case 0:
        fprintf(file, "{\"==\":[{\"var\":\"email\"},\"user%u@example.com\"]}", flag * 31 + r);
        return;
    case 1:
        fprintf(file, "{\"in\":[{\"var\":\"country\"},[\"C%u\",\"FR\",\"IT\",\"ES\",\"PT\"]]}", flag % 977);
        return;
    case 2:
        fprintf(file, "{\"starts_with\":[{\"var\":\"device.model\"},\"tab-%u\"]}", flag % 977);
        return;
    default:
        fprintf(file,
                "{\"and\":[{\">\":[{\"var\":\"age\"},%u]},"
                "{\"sem_ver\":[{\"var\":\"version\"},\">=\",\"3.%u.0\"]}]}",
                20 + flag % 40, r);
    }
}

// Replaces the file as an editor does.
static double write_set(const char *path, unsigned flags, unsigned rules, unsigned change)
{
    char fresh[256];
    snprintf(fresh, sizeof fresh, "%s.fresh", path);
    FILE *file = fopen(fresh, "we");
    CHECK(file != NULL);
    fprintf(
        file,
        "{\"flags\":{\"change\":{\"state\":\"ENABLED\",\"variants\":{\"v%u\":%u},\"defaultVariant\":\"v%u\"}",
        change, change, change);
    for (unsigned f = 0; f < flags; f++) {
        fprintf(
            file,
            ",\n\"service-%u.feature-%u\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
            "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[",
            f % 97, f);
        for (unsigned r = 0; r < rules; r++) {
            write_rule(file, f, r);
            fprintf(file, r % 2 == 0 ? ",\"on\"," : ",\"off\",");
        }
        fprintf(file, "null]}}");
    }
    fprintf(file, "}}\n");
    double mib = (double)ftell(file) / (1 << 20);
    CHECK(fclose(file) == 0);
    CHECK(rename(fresh, path) == 0);
    return mib;
}

static void changed(void *context, const struct flagset_snapshot *snapshot)
{
    (void)context;
    (void)snapshot;
}

static double number_of(const struct flagset *set, const char *key)
{
    static char scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_context context = {.time_s = 0};
    struct flags_result result;
    flags_evaluate(&flagset_current(set)->all.set, slice_of(key), FLAGS_ANY, &context,
                   (struct flags_scratch){scratch, sizeof scratch}, &result);
    return result.has_value ? result.number : -1;
}

static void turn_until(struct io_loop *loop, const struct flagset *set, double change, double killed)
{
    double begin = now_ms();
    while (number_of(set, "change") != change ||
           (killed >= 0 && flagset_current(set)->change < (uint64_t)killed)) {
        CHECK(io_loop_turn(loop, 1000) == STATUS_OK);
        CHECK(now_ms() - begin < 120000);
    }
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, order);
    return values[count / 2];
}

static void measure_updates(struct io_loop *loop, const struct flagset *set, const char *path, unsigned flags,
                            unsigned rules)
{
    double times[UPDATES];
    for (unsigned u = 0; u < UPDATES; u++) {
        write_set(path, flags, rules, u + 2);
        double begin = now_ms();
        turn_until(loop, set, u + 2, -1);
        times[u] = now_ms() - begin;
    }
    printf("changed file in force after  %8.1f ms (compiling %.1f ms)\n", median(times, UPDATES),
           (double)flagset_build_us(set) / 1e3);
}

static void measure_kills(struct io_loop *loop, struct flagset *set)
{
    double times[KILLS];
    struct flags_patch patch = {.key = SLICE("service-1.feature-1"), .kill = true};
    for (unsigned k = 0; k < KILLS; k++) {
        double begin = now_ms();
        CHECK(flagset_overlay(set, SLICE(""), &patch, k % 2 == 0, k + 1) == STATUS_OK);
        turn_until(loop, set, UPDATES + 1, k + 1);
        times[k] = now_ms() - begin;
    }
    printf("kill in force after          %8.1f ms\n", median(times, KILLS));
}

static void measure(const char *path, unsigned flags, unsigned rules)
{
    struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = path};
    struct fault problems[FLAGSET_PROBLEMS_MAX];
    uint32_t problem_count;
    struct io_loop *loop;
    struct flagset *set;
    CHECK(io_loop_create(&loop_config, &loop) == STATUS_OK);
    struct flagset_config config = {
        .loop = loop, .sources = &source, .source_count = 1, .reader_count = READERS, .changed = changed};
    double mib = write_set(path, flags, rules, 1);
    double before = memory_mib("VmRSS:");
    double begin = now_ms();
    CHECK(flagset_create(&config, &set, problems, &problem_count) == STATUS_OK && problem_count == 0);
    printf("%u flags with %u rules each: a file of %.1f MiB, an image of %.1f MiB\n", flags, rules, mib,
           (double)flagset_current(set)->all.set.len / (1 << 20));
    printf("loaded after                 %8.1f ms (compiling %.1f ms)\n", now_ms() - begin,
           (double)flagset_build_us(set) / 1e3);
    CHECK(number_of(set, "change") == 1);
    printf("memory                       %8.1f MiB (%.1f at most)\n", memory_mib("VmRSS:") - before,
           memory_mib("VmHWM:") - before);
    measure_updates(loop, set, path, flags, rules);
    printf("memory                       %8.1f MiB (%.1f at most, both at once)\n",
           memory_mib("VmRSS:") - before, memory_mib("VmHWM:") - before);
    measure_kills(loop, set);
    printf("memory with patches          %8.1f MiB\n", memory_mib("VmRSS:") - before);
    flagset_destroy(set);
    io_loop_destroy(loop);
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/flagset-bench-XXXXXX";
    char path[64];
    bool check = argc > 1 && strcmp(argv[1], "--check") == 0;
    unsigned flags = argc > 1 && !check ? (unsigned)strtoul(argv[1], NULL, 10) : 100000;
    unsigned rules = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 10;
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/flags.json", folder);
    measure(path, check ? 200 : flags, rules);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    return 0;
}
