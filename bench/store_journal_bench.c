// SPDX-License-Identifier: Apache-2.0
// What a commit costs: one hour of ticks with a payload of --bytes each, in compressed time, every
// --full-every-th one a full (synced) commit. Prints the wall time of the commits of each kind and the size
// on disk as Markdown.
//     store_journal_bench [--ticks N] [--bytes N] [--full-every N] [--path FILE]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/rng.h"
#include "ship/store/journal.h"
#include "stats/histogram.h"

enum { PAYLOAD_MAX = 65536 };

struct bench {
    uint64_t ticks;
    uint64_t bytes;
    uint64_t full_every;
    const char *path;
};

struct timing {
    struct stats_histogram us;
    uint64_t max_us;
};

static struct timing timings[2]; // by journal_sync
static char payload[PAYLOAD_MAX];

static uint64_t now_us(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void one_tick(struct journal *journal, const struct bench *bench, uint64_t tick)
{
    struct fault problem;
    enum journal_sync sync = tick % bench->full_every == 0 ? JOURNAL_SYNC_FULL : JOURNAL_SYNC_NORMAL;
    struct journal_entry entry = {.time_ms = (int64_t)tick * 100,
                                  .kind = sync == JOURNAL_SYNC_FULL ? JOURNAL_DECISION : JOURNAL_INPUT,
                                  .run = 1,
                                  .subject = "checkout-v2",
                                  .payload = {payload, bench->bytes}};
    uint64_t began = now_us();
    if (journal_begin(journal, sync, &problem) != STATUS_OK ||
        journal_append(journal, &entry, NULL, &problem) != STATUS_OK ||
        journal_commit(journal, &problem) != STATUS_OK) {
        fprintf(stderr, "%s\n", problem.text);
        exit(1);
    }
    uint64_t took = now_us() - began;
    stats_histogram_record(&timings[sync].us, took);
    timings[sync].max_us = took > timings[sync].max_us ? took : timings[sync].max_us;
}

static void options_read(int argc, char **argv, struct bench *bench)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--ticks") == 0)
            bench->ticks = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--bytes") == 0)
            bench->bytes = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--full-every") == 0)
            bench->full_every = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--path") == 0)
            bench->path = argv[i + 1];
    }
    CHECK(bench->bytes <= PAYLOAD_MAX && bench->full_every > 0);
}

static void files_remove(const char *path)
{
    static const char *const ENDS[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        char name[1024];
        snprintf(name, sizeof name, "%s%s", path, ENDS[i]);
        unlink(name);
    }
}

int main(int argc, char **argv)
{
    struct bench bench = {.ticks = 36000, .bytes = 250, .full_every = 100, .path = NULL};
    options_read(argc, argv, &bench);
    char own[] = "/tmp/sluice-journal-bench-XXXXXX";
    if (bench.path == NULL) {
        int fd = mkstemp(own);
        CHECK(fd >= 0);
        close(fd);
        unlink(own);
        bench.path = own;
    } else if (access(bench.path, F_OK) == 0) {
        fprintf(stderr, "%s is there already and is left as it is\n", bench.path);
        return 1;
    }
    struct rng rng;
    rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)rng_next(&rng);
    struct journal *journal = NULL;
    struct fault problem;
    if (journal_open(bench.path, JOURNAL_WRITE, &journal, &problem) != STATUS_OK) {
        fprintf(stderr, "%s\n", problem.text);
        return 1;
    }
    for (uint64_t tick = 1; tick <= bench.ticks; tick++)
        one_tick(journal, &bench, tick);
    double mib = (double)journal_bytes(journal) / 1048576;
    printf("| commit | count | p50 µs | p99 µs | max µs |\n|---|---|---|---|---|\n");
    for (int sync = JOURNAL_SYNC_NORMAL; sync <= JOURNAL_SYNC_FULL; sync++)
        printf("| %s | %llu | %llu | %llu | %llu |\n", sync == JOURNAL_SYNC_FULL ? "full" : "normal",
               (unsigned long long)timings[sync].us.count,
               (unsigned long long)stats_histogram_quantile(&timings[sync].us, 0.5),
               (unsigned long long)stats_histogram_quantile(&timings[sync].us, 0.99),
               (unsigned long long)timings[sync].max_us);
    printf("\n%llu entries of %llu bytes: %.1f MiB with the log beside the file\n",
           (unsigned long long)journal_count(journal), (unsigned long long)bench.bytes, mib);
    journal_close(journal);
    files_remove(bench.path);
    return 0;
}
