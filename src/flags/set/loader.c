// SPDX-License-Identifier: Apache-2.0
// What the loader thread keeps: the sources as read, the set in force, and the reports about both.
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/siphash.h"
#include "flags/set/flagset_private.h"

static const char EMPTY[] = "{\"flags\":{}}";

// ---- orders ----

void flagset_overlay_order_destroy(struct flagset_overlay_order *order)
{
    if (order == NULL)
        return;
    heap_free(order->json);
    flagset_patches_unref(order->patches);
    heap_free(order);
}

static void free_feeds(struct flagset_feed *feeds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        flagset_feed_deinit(&feeds[i]);
    heap_free(feeds);
}

void flagset_reconfigure_order_destroy(struct flagset_reconfigure_order *order)
{
    if (order == NULL)
        return;
    free_feeds(order->feeds, order->feed_count);
    heap_free(order->segments);
    heap_free(order);
}

void flagset_report_destroy(struct flagset_report *report)
{
    if (report == NULL)
        return;
    flagset_snapshot_unref(report->snapshot);
    heap_free(report->states);
    heap_free(report);
}

// ---- reading ----

// A source that is configured again keeps what was read before and is in force.
static void inherit(struct flagset_feed *feed, struct flagset_feed *before)
{
    for (uint32_t i = 0; i < before->item_count; i++) {
        struct flagset_item *old = &before->items[i];
        if (feed->kind == FLAGSET_INLINE) {
            feed->items[0].good = old->good;
            old->good = NULL;
        }
    }
    if (feed->kind == FLAGSET_INLINE)
        return;
    struct flagset_feed own = *feed;
    uint64_t every_ms = feed->every_ms;
    *feed = *before;
    feed->every_ms = every_ms;
    feed->token_file = own.token_file;
    own.token_file = before->token_file;
    feed->due_us = 0;
    *before = own;
}

static void keep_what_stays(struct flagset_loader *loader, struct flagset_reconfigure_order *order)
{
    for (uint32_t n = 0; n < order->feed_count; n++) {
        for (uint32_t i = 0; i < loader->feed_count; i++) {
            struct flagset_feed *old = &loader->feeds[i];
            if (old->kind != order->feeds[n].kind || strcmp(old->name, order->feeds[n].name) != 0 ||
                old->item_count == 0)
                continue;
            inherit(&order->feeds[n], old);
            break;
        }
    }
}

static void set_segments(struct flagset_loader *loader, struct flagset_reconfigure_order *order)
{
    struct flagset_document *segments = NULL;
    loader->segments_problem[0] = '\0';
    if (order->segments_len > 0) {
        char *json = order->segments;
        order->segments = NULL;
        if (flagset_document_create("segments", "segments", json, order->segments_len, &segments,
                                    loader->segments_problem) != STATUS_OK)
            return;
    }
    flagset_document_unref(loader->segments);
    loader->segments = segments;
}

static void fetch_feeds(struct flagset_loader *loader)
{
    bool any = false;
    for (uint32_t i = 0; i < loader->feed_count; i++)
        any |= loader->feeds[i].kind == FLAGSET_HTTP;
    enum status status = STATUS_OK;
    if (any && loader->fetcher == NULL)
        status = flagset_fetcher_create(loader->wake_fd, &loader->fetcher);
    if (status == STATUS_OK && loader->fetcher != NULL)
        status = flagset_fetcher_set(loader->fetcher, loader->feeds, loader->feed_count);
    for (uint32_t i = 0; status != STATUS_OK && i < loader->feed_count; i++)
        if (loader->feeds[i].kind == FLAGSET_HTTP)
            (void)snprintf(loader->feeds[i].problem, FLAGSET_PROBLEM_BYTES, "%.300s: no memory to fetch it",
                           loader->feeds[i].name);
}

void flagset_loader_reconfigure(struct flagset_loader *loader, struct flagset_reconfigure_order *order)
{
    keep_what_stays(loader, order);
    free_feeds(loader->feeds, loader->feed_count);
    loader->feeds = order->feeds;
    loader->feed_count = order->feed_count;
    order->feeds = NULL;
    order->feed_count = 0;
    if (loader->watch != NULL)
        flagset_watch_forget(loader->watch);
    set_segments(loader, order);
    fetch_feeds(loader);
    flagset_reconfigure_order_destroy(order);
}

static unsigned take_fetched(struct flagset_loader *loader)
{
    unsigned changed = 0;
    if (loader->fetcher == NULL)
        return 0;
    for (struct flagset_fetched *result = flagset_fetcher_take(loader->fetcher); result != NULL;) {
        struct flagset_fetched *next = result->next;
        for (uint32_t i = 0; i < loader->feed_count; i++) {
            struct flagset_feed *feed = &loader->feeds[i];
            if (feed->kind != FLAGSET_HTTP || strcmp(feed->name, result->url) != 0)
                continue;
            changed |= FLAGSET_NEW_MESSAGES;
            (void)snprintf(feed->problem, sizeof feed->problem, "%s", result->problem);
            if (result->problem[0] == '\0')
                feed->read_ms = flagset_wall_ms();
            if (result->json == NULL)
                continue;
            // Two sources with one address share one fetch: the second gets a copy.
            char *copy = heap_alloc(result->len + 1, 1);
            if (copy == NULL)
                continue;
            memcpy(copy, result->json, result->len);
            changed |= flagset_feed_take(feed, copy, result->len);
        }
        heap_free(result->json);
        heap_free(result);
        result = next;
    }
    return changed;
}

static void follow_signs(struct flagset_loader *loader, uint64_t now_us)
{
    uint64_t feeds = loader->watch != NULL ? flagset_watch_drain(loader->watch) : 0;
    for (uint32_t i = 0; i < loader->feed_count; i++) {
        struct flagset_feed *feed = &loader->feeds[i];
        if ((feeds >> i & 1) == 0 || feed->kind > FLAGSET_DIRECTORY)
            continue;
        if (feed->first_us == 0)
            feed->first_us = now_us;
        uint64_t quiet = now_us + FLAGSET_QUIET_MS * 1000;
        uint64_t last = feed->first_us + FLAGSET_QUIET_MS_MAX * 1000;
        feed->due_us = quiet < last ? quiet : last;
    }
}

unsigned flagset_loader_look(struct flagset_loader *loader, bool all)
{
    unsigned changed = take_fetched(loader);
    uint64_t now_us = flagset_now_us();
    follow_signs(loader, now_us);
    for (uint32_t i = 0; i < loader->feed_count; i++) {
        struct flagset_feed *feed = &loader->feeds[i];
        if (!all && feed->due_us > now_us)
            continue;
        // Watch first, then look: a change in between is then seen by one of the two.
        feed->watched = feed->kind <= FLAGSET_DIRECTORY && loader->watch != NULL &&
                        flagset_watch_feed(loader->watch, feed, i);
        changed |= flagset_feed_look(feed, now_us);
    }
    return changed;
}

uint64_t flagset_loader_due_us(const struct flagset_loader *loader)
{
    uint64_t due_us = UINT64_MAX;
    for (uint32_t i = 0; i < loader->feed_count; i++)
        if (loader->feeds[i].due_us < due_us)
            due_us = loader->feeds[i].due_us;
    return due_us;
}

// ---- telling ----

static void add_problem(struct flagset_report *report, const char *words, bool error)
{
    for (uint32_t i = 0; i < report->problem_count; i++)
        if (strcmp(report->problems[i].text, words) == 0)
            return;
    if (words[0] == '\0' || report->problem_count == FLAGSET_PROBLEMS_MAX)
        return;
    (void)fault_set(&report->problems[report->problem_count++], error ? STATUS_INVALID : STATUS_OK, "%s",
                    words);
}

// The first error that names the document.
static const char *error_of(const struct flagset_loader *loader, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; i < loader->errors.count; i++)
        if (strncmp(loader->errors.lines[i], name, len) == 0 && loader->errors.lines[i][len] == ':')
            return loader->errors.lines[i];
    return "refused together with other changes";
}

static void tell_feed(const struct flagset_loader *loader, const struct flagset_feed *feed,
                      struct flagset_report *report, struct flagset_source_state *state)
{
    const char *why = feed->problem;
    *state = (struct flagset_source_state){.kind = feed->kind, .read_ms = feed->read_ms};
    (void)snprintf(state->name, sizeof state->name, "%s", feed->name);
    add_problem(report, feed->problem, true);
    for (uint32_t i = 0; i < feed->item_count; i++) {
        const struct flagset_item *item = &feed->items[i];
        state->flag_count += item->good != NULL ? item->good->entry_count : 0;
        add_problem(report, item->problem, true);
        if (why[0] == '\0' && item->problem[0] != '\0')
            why = item->problem;
        report->refused |= item->problem[0] != '\0' && !feed->gone;
        if (why[0] == '\0' && item->newest != item->good)
            why = error_of(loader, item->path);
    }
    state->good = why[0] == '\0';
    (void)snprintf(state->problem, sizeof state->problem, "%s", why);
}

static uint64_t words_hash(const struct flagset_report *report)
{
    static const struct siphash_key KEY = {1, 2};
    uint64_t hash = report->refused;
    for (uint32_t i = 0; i < report->problem_count; i++)
        hash = hash * 31 + siphash(KEY, report->problems[i].text, strlen(report->problems[i].text));
    for (uint32_t i = 0; i < report->state_count; i++) {
        const struct flagset_source_state *state = &report->states[i];
        hash = hash * 31 + siphash(KEY, state->problem, strlen(state->problem)) + state->flag_count;
        hash = hash * 31 + siphash(KEY, state->name, strlen(state->name)) + (state->read_ms != 0);
    }
    return hash;
}

struct flagset_report *flagset_loader_report(struct flagset_loader *loader)
{
    struct flagset_report *report = heap_alloc(1, sizeof *report);
    if (report == NULL)
        return NULL;
    report->states = heap_alloc(loader->feed_count + 1, sizeof *report->states);
    if (report->states == NULL) {
        heap_free(report);
        return NULL;
    }
    report->refused = loader->refused || loader->overlay_refused || loader->overlay_problem[0] != '\0' ||
                      loader->segments_problem[0] != '\0';
    report->compile_us = loader->compile_us;
    for (uint32_t i = 0; i < loader->feed_count; i++)
        tell_feed(loader, &loader->feeds[i], report, &report->states[report->state_count++]);
    add_problem(report, loader->segments_problem, true);
    add_problem(report, loader->overlay_problem, true);
    for (uint32_t i = 0; i < loader->overlay_errors.count; i++)
        add_problem(report, loader->overlay_errors.lines[i], true);
    for (uint32_t i = 0; i < loader->errors.count; i++)
        add_problem(report, loader->errors.lines[i], true);
    add_problem(report, loader->share_problem, true);
    for (uint32_t i = 0; i < loader->patch_warnings.count; i++)
        add_problem(report, loader->patch_warnings.lines[i], false);
    for (uint32_t i = 0; i < loader->warnings.count; i++)
        add_problem(report, loader->warnings.lines[i], false);
    if (loader->snapshot != NULL) {
        report->snapshot = flagset_snapshot_ref(loader->snapshot);
        if (loader->snapshot->contents->selectors_cut)
            add_problem(report, "more sources and flagSetIds than can be selected", false);
        if (loader->snapshot->contents->view_problem[0] != '\0')
            add_problem(report, loader->snapshot->contents->view_problem, false);
    }
    uint64_t hash = words_hash(report);
    report->silent = hash == loader->told && loader->version == loader->told_version;
    loader->told = hash;
    loader->told_version = loader->version;
    return report;
}

// ---- sharing ----

bool flagset_loader_share(struct flagset_loader *loader)
{
    char before[FLAGSET_PROBLEM_BYTES];
    if (loader->share_directory == NULL || loader->snapshot == NULL ||
        loader->shared_version == loader->version)
        return false;
    (void)snprintf(before, sizeof before, "%s", loader->share_problem);
    enum status status = STATUS_OK;
    if (loader->share == NULL)
        status = share_writer_open(loader->share_directory, &loader->share);
    const struct flags_image *set = &loader->snapshot->all.set;
    if (status == STATUS_OK)
        status = share_writer_publish(loader->share, (struct slice){(const char *)set->image, set->len});
    loader->share_problem[0] = '\0';
    if (status == STATUS_OK)
        loader->shared_version = loader->version;
    else
        (void)snprintf(loader->share_problem, sizeof loader->share_problem,
                       "%.300s: the flags cannot be shared (%s)", loader->share_directory,
                       status_name(status));
    return strcmp(before, loader->share_problem) != 0;
}

// ---- beginning and end ----

static enum status compile_empty(struct flagset_loader *loader)
{
    struct flags_bundle_document document = {{EMPTY, sizeof EMPTY - 1}, "empty"};
    struct flags_bundle bundle = {.documents = &document, .document_count = 1};
    return flagset_build(&loader->builder, &bundle, &loader->empty);
}

enum status flagset_loader_init(struct flagset_loader *loader, const struct flagset_config *config,
                                int wake_fd)
{
    char problem[FLAGSET_PROBLEM_BYTES];
    char *empty = heap_strdup(EMPTY);
    *loader = (struct flagset_loader){.reader_count = config->reader_count, .wake_fd = wake_fd};
    loader->watch = flagset_watch_open();
    enum status status = empty == NULL ? STATUS_NO_MEMORY
                                       : flagset_document_create("runtime", "runtime", empty,
                                                                 sizeof EMPTY - 1, &loader->overlay, problem);
    if (status == STATUS_OK)
        status = compile_empty(loader);
    if (status == STATUS_OK && config->share != NULL &&
        (loader->share_directory = heap_strdup(config->share)) == NULL)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        loader->overlay_good = flagset_document_ref(loader->overlay);
    return status;
}

void flagset_loader_deinit(struct flagset_loader *loader)
{
    flagset_fetcher_destroy(loader->fetcher);
    flagset_watch_close(loader->watch);
    if (loader->share != NULL)
        share_writer_close(loader->share);
    heap_free(loader->share_directory);
    free_feeds(loader->feeds, loader->feed_count);
    flagset_builder_deinit(&loader->builder);
    flagset_builder_deinit(&loader->patcher);
    flagset_document_unref(loader->overlay);
    flagset_document_unref(loader->overlay_good);
    flagset_patches_unref(loader->patches);
    flagset_document_unref(loader->segments);
    flagset_document_unref(loader->segments_good);
    flagset_snapshot_unref(loader->snapshot);
    flagset_built_unref(loader->empty);
}
