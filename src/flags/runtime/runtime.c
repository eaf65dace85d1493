// SPDX-License-Identifier: Apache-2.0
// The life of flags at runtime: opened with the file, handed what changes, followed as sets come into force.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "flags/eval/image.h"
#include "flags/runtime/runtime_private.h"
#include "net/io/loop.h"

struct flagset *runtime_flagset(const struct runtime *runtime)
{
    return runtime->set;
}

const struct usage *runtime_usage(const struct runtime *runtime)
{
    return runtime->usage;
}

void runtime_watch(struct runtime *runtime, struct runtime_watcher *watcher)
{
    list_push_back(&runtime->watchers, &watcher->link);
}

void runtime_unwatch(struct runtime_watcher *watcher)
{
    list_remove(&watcher->link);
}

// ---- handing over ----

static enum status hand_over(struct runtime *runtime)
{
    struct runtime_over over;
    bool definitions =
        runtime->definitions != runtime->overlay.definitions || flagset_overlay_lost(runtime->set);
    enum status status = runtime_over_make(runtime, definitions, &over);
    if (status == STATUS_OK)
        status = flagset_overlay(runtime->set, (struct slice){over.json, over.len}, over.patches,
                                 over.patch_count, runtime->change);
    if (status == STATUS_OK)
        runtime->definitions = runtime->overlay.definitions;
    runtime_over_free(&over);
    return status;
}

void runtime_refresh(struct runtime *runtime)
{
    if (runtime->set == NULL)
        return;
    runtime->change++;
    runtime->handed_over = hand_over(runtime) == STATUS_OK;
    if (!runtime->handed_over)
        log_repeat(runtime->parts.log, LOG_ERROR,
                   "no memory to put a change of flags in force; tried again at every tick", NULL, 0);
}

// ---- a new set ----

static void retired_drop(struct runtime *runtime, uint32_t i)
{
    flagset_snapshot_unref(runtime->retired[i].set);
    runtime->retired_count--;
    memmove(&runtime->retired[i], &runtime->retired[i + 1],
            (runtime->retired_count - i) * sizeof *runtime->retired);
}

// Readers may still count in a set that was replaced: it is gathered for a second longer, or until too many
// wait.
static void usage_follow(struct runtime *runtime, const struct flagset_snapshot *snapshot)
{
    if (runtime->counted == snapshot)
        return;
    if (runtime->retired_count == RUNTIME_RETIRED_SETS) {
        usage_gather(runtime->usage, runtime->retired[0].set, io_loop_wall_ms(runtime->parts.loop));
        retired_drop(runtime, 0);
    }
    if (runtime->counted != NULL)
        runtime->retired[runtime->retired_count++] = (struct runtime_retired){
            .set = runtime->counted, .until_us = io_loop_now_us(runtime->parts.loop) + 1000000};
    runtime->counted = flagset_snapshot_ref(snapshot);
}

// Each problem is logged when it comes up, not with every set in which it still is.
static void note_problems(struct runtime *runtime)
{
    static const struct siphash_key salt = {0x70726f626c656d73ULL, 1};
    const struct fault *problems;
    uint64_t hashes[FLAGSET_PROBLEMS_MAX];
    uint32_t count = flagset_problems(runtime->set, &problems);
    bool refused = flagset_refused(runtime->set);
    for (uint32_t i = 0; i < count; i++) {
        bool told = false;
        hashes[i] = siphash(salt, problems[i].text, strlen(problems[i].text)) ^ (refused ? 1 : 0);
        for (uint32_t j = 0; j < runtime->told_count; j++)
            told |= runtime->told[j] == hashes[i];
        if (!told)
            log_write(runtime->parts.log, problems[i].status != STATUS_OK ? LOG_ERROR : LOG_WARN,
                      problems[i].status != STATUS_OK && refused
                          ? "a change of flags was refused whole; the last good set stays"
                          : "flags have a problem",
                      LOG_FIELDS(LOG_TEXT("problem", problems[i].text)));
    }
    memcpy(runtime->told, hashes, count * sizeof *hashes);
    runtime->told_count = count;
}

static void on_changed(void *context, const struct flagset_snapshot *snapshot)
{
    struct runtime *runtime = context;
    note_problems(runtime);
    if (snapshot == NULL)
        return;
    usage_follow(runtime, snapshot);
    runtime->parts.changed(runtime->parts.context, snapshot);
    log_write(runtime->parts.log, LOG_INFO, "flags are in force",
              LOG_FIELDS(LOG_NUMBER("set", snapshot->version),
                         LOG_NUMBER("flags", flags_image_flag_count(&snapshot->all.set)),
                         LOG_NUMBER("change", snapshot->change)));
    struct list *link = runtime->watchers.next;
    while (link != &runtime->watchers) {
        struct runtime_watcher *watcher = CONTAINER_OF(link, struct runtime_watcher, link);
        link = link->next; // the watcher may leave
        watcher->changed(watcher, snapshot);
    }
}

// ---- use ----

static enum status usage_begin(struct runtime *runtime, struct fault *fault)
{
    char path[CONFIG_PATH_BYTES + 16];
    bool damaged = false;
    snprintf(path, sizeof path, "%s-usage", runtime->parts.journal_path);
    enum status status = usage_open(path, io_loop_wall_ms(runtime->parts.loop), &runtime->usage, &damaged);
    if (status != STATUS_OK)
        return fault_set(fault, status, "%s cannot be used (%s); move it away to begin a new one", path,
                         status_name(status));
    if (damaged)
        log_write(runtime->parts.log, LOG_WARN,
                  "what was known of the use of flags was damaged and set aside; it begins anew",
                  LOG_FIELDS(LOG_TEXT("file", path)));
    return STATUS_OK;
}

// The process ends: takes what was counted since the last gather and saves it now, because no other gather
// comes.
static void usage_end(struct runtime *runtime)
{
    int64_t now_ms = io_loop_wall_ms(runtime->parts.loop);
    while (runtime->retired_count > 0) {
        usage_gather(runtime->usage, runtime->retired[0].set, now_ms);
        retired_drop(runtime, 0);
    }
    if (runtime->counted != NULL)
        usage_gather(runtime->usage, runtime->counted, now_ms);
    flagset_snapshot_unref(runtime->counted);
    if (usage_save(runtime->usage, now_ms, true) != STATUS_OK)
        log_write(runtime->parts.log, LOG_WARN, "what is known of the use of flags cannot be saved", NULL, 0);
    usage_close(runtime->usage);
}

static void usage_tick(struct runtime *runtime)
{
    int64_t now_ms = io_loop_wall_ms(runtime->parts.loop);
    for (uint32_t i = runtime->retired_count; i-- > 0;) {
        usage_gather(runtime->usage, runtime->retired[i].set, now_ms);
        if (io_loop_now_us(runtime->parts.loop) >= runtime->retired[i].until_us)
            retired_drop(runtime, i);
    }
    usage_gather(runtime->usage, runtime->counted, now_ms);
    if (usage_save(runtime->usage, now_ms, false) != STATUS_OK)
        log_repeat(runtime->parts.log, LOG_WARN, "what is known of the use of flags cannot be saved", NULL,
                   0);
}

// ---- life ----

enum status runtime_create(const struct runtime_parts *parts, struct runtime **runtime)
{
    struct runtime *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->parts = *parts;
    list_init(&made->watchers);
    *runtime = made;
    return STATUS_OK;
}

void runtime_destroy(struct runtime *runtime)
{
    if (runtime == NULL)
        return;
    if (runtime->usage != NULL)
        usage_end(runtime);
    if (runtime->set != NULL)
        flagset_destroy(runtime->set);
    runtime_overlay_deinit(&runtime->overlay);
    heap_free(runtime);
}

static enum status set_open(struct runtime *runtime, const struct config *config, struct fault *fault)
{
    struct fault *problems = heap_alloc(FLAGSET_PROBLEMS_MAX, sizeof *problems);
    struct runtime_sources *sources = runtime_sources_make(config);
    struct runtime_over over = {.json = NULL};
    uint32_t count = 0;
    enum status status =
        problems != NULL && sources != NULL ? runtime_over_make(runtime, true, &over) : STATUS_NO_MEMORY;
    if (status != STATUS_OK) {
        (void)fault_set(fault, status, "no memory left for flags");
    } else {
        struct flagset_config wanted = {
            .loop = runtime->parts.loop,
            .sources = sources->items,
            .source_count = sources->count,
            .segments = runtime_segments(config),
            .reader_count = runtime->parts.readers,
            .share = config->flags.share[0] != '\0' ? config->flags.share : NULL,
            .overlay = {over.json, over.len},
            .patches = over.patches,
            .patch_count = over.patch_count,
            .change = runtime->change,
            .changed = on_changed,
            .context = runtime,
        };
        status = flagset_create(&wanted, &runtime->set, problems, &count);
        if (status != STATUS_OK)
            (void)runtime_problems_fault(problems, count, status, fault);
    }
    runtime_over_free(&over);
    runtime_sources_free(sources);
    heap_free(problems);
    return status;
}

enum status runtime_open(struct runtime *runtime, const struct config *config, struct fault *fault)
{
    if (!config->flags.given)
        return STATUS_OK;
    runtime->change = runtime->overlay.changes + 1;
    enum status status = set_open(runtime, config, fault);
    if (status == STATUS_OK)
        status = usage_begin(runtime, fault);
    if (status != STATUS_OK)
        return status;
    runtime->handed_over = true;
    runtime->definitions = runtime->overlay.definitions;
    note_problems(runtime);
    usage_follow(runtime, flagset_current(runtime->set));
    return STATUS_OK;
}

void runtime_reload(struct runtime *runtime, const struct config *config)
{
    // Without the word nothing changes until the next start, as the log says.
    if (!config->flags.given)
        return;
    struct runtime_sources *sources = runtime->set != NULL ? runtime_sources_make(config) : NULL;
    if (sources != NULL)
        flagset_reconfigure(runtime->set, sources->items, sources->count, runtime_segments(config));
    runtime_sources_free(sources);
    runtime_refresh(runtime);
}

void runtime_tick(struct runtime *runtime)
{
    if (runtime->set == NULL)
        return;
    if (!runtime->handed_over || flagset_overlay_lost(runtime->set))
        runtime_refresh(runtime);
    uint64_t now_us = io_loop_now_us(runtime->parts.loop);
    if (now_us < runtime->usage_due_us)
        return;
    runtime->usage_due_us = now_us + 1000000;
    usage_tick(runtime);
}

void runtime_drain(struct runtime *runtime)
{
    runtime->draining = true;
}
