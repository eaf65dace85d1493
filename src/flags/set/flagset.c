// SPDX-License-Identifier: Apache-2.0
// The owner's side and the thread between: orders go to the thread under the lock, newest wins; reports come
// back as a task on the owner's loop, newest wins. The owner never waits but at the start and at the end.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "flags/set/flagset_private.h"

// A report on its way. It is its own block, since the loop may still hold it when the set is gone.
struct flagset_delivery {
    struct io_task task;
    struct flagset *set; // NULL: nobody waits for it any more
};

// ---- to the owner ----

static void release_retired(struct io_timer *timer)
{
    struct flagset *set = CONTAINER_OF(timer, struct flagset, release);
    flagset_snapshot_unref(set->retired);
    set->retired = NULL;
}

static void install(struct flagset *set, struct flagset_report *report)
{
    const struct flagset_snapshot *snapshot = report->snapshot;
    bool newer = snapshot != NULL && (set->current == NULL || snapshot->version > set->current->version);
    report->snapshot = NULL;
    flagset_report_destroy(set->report);
    set->report = report;
    if (!newer) {
        flagset_snapshot_unref(snapshot);
        if (!report->silent && set->running)
            set->config.changed(set->config.context, NULL);
        return;
    }
    // Somebody may have borrowed the old one in this very turn: it goes in a later one.
    flagset_snapshot_unref(set->retired);
    set->retired = set->current;
    set->current = snapshot;
    if (set->newest != NULL && snapshot->change >= set->newest_change) {
        flagset_document_unref(set->newest);
        set->newest = NULL;
    }
    io_timer_set(set->config.loop, &set->release, io_loop_now_us(set->config.loop) + 1000);
    if (set->running)
        set->config.changed(set->config.context, snapshot);
}

static void deliver(struct io_task *task)
{
    struct flagset_delivery *delivery = CONTAINER_OF(task, struct flagset_delivery, task);
    struct flagset *set = delivery->set;
    heap_free(delivery);
    if (set == NULL)
        return;
    pthread_mutex_lock(&set->lock);
    struct flagset_report *report = set->ready;
    set->ready = NULL;
    set->delivery = NULL;
    pthread_mutex_unlock(&set->lock);
    if (report != NULL)
        install(set, report);
}

// From the thread. A report not yet taken is replaced; what it would have told is told by this one.
static void hand_over(struct flagset *set, struct flagset_report *report)
{
    bool post = false;
    pthread_mutex_lock(&set->lock);
    if (set->ready != NULL)
        report->silent = report->silent && set->ready->silent;
    struct flagset_report *old = set->ready;
    set->ready = report;
    if (set->delivery == NULL && (set->delivery = heap_alloc(1, sizeof *set->delivery)) != NULL) {
        set->delivery->task.run = deliver;
        set->delivery->set = set;
        post = true;
    }
    struct flagset_delivery *delivery = set->delivery;
    pthread_mutex_unlock(&set->lock);
    flagset_report_destroy(old);
    if (post)
        io_loop_post(set->config.loop, &delivery->task);
}

static void report_now(struct flagset *set)
{
    struct flagset_report *report = flagset_loader_report(&set->loader);
    if (report != NULL)
        hand_over(set, report);
}

// ---- the thread ----

static struct flagset_overlay_order *take_overlay(struct flagset *set)
{
    pthread_mutex_lock(&set->lock);
    struct flagset_overlay_order *order = set->overlay_order;
    set->overlay_order = NULL;
    pthread_mutex_unlock(&set->lock);
    return order;
}

// Lays over what is in force what was ordered meanwhile. True when what was refused should be tried again.
static bool lay_over(struct flagset *set)
{
    struct flagset_overlay_order *order = take_overlay(set);
    if (order == NULL)
        return false;
    bool again = flagset_loader_overlay(&set->loader, order);
    report_now(set);
    return again;
}

// While something is compiled: the newest patches, over what is in force. The order itself stays for when
// that is done, since what it lays over may need compiling too.
static void breathe(void *context)
{
    struct flagset *set = context;
    struct flagset_loader *loader = &set->loader;
    struct flagset_patches *patches = NULL;
    uint64_t change = loader->change;
    pthread_mutex_lock(&set->lock);
    struct flagset_overlay_order *order = set->overlay_order;
    if (order != NULL && !order->patched) {
        const struct flagset_contents *contents = loader->snapshot->contents;
        const struct flagset_document *overlay = contents->documents[contents->document_count - 1];
        order->patched = true;
        patches = flagset_patches_ref(order->patches);
        bool same = order->json == NULL
                        ? overlay == loader->overlay
                        : order->len == overlay->len && memcmp(order->json, overlay->json, overlay->len) == 0;
        change = same ? order->change : change;
    }
    pthread_mutex_unlock(&set->lock);
    if (patches == NULL)
        return;
    if (flagset_loader_patch(loader, patches, change) == STATUS_OK)
        report_now(set);
    flagset_patches_unref(patches);
}

static void wait_for_signs(struct flagset *set)
{
    struct flagset_loader *loader = &set->loader;
    uint64_t due_us = flagset_loader_due_us(loader);
    uint64_t now_us = flagset_now_us();
    int wait_ms = 1000;
    if (due_us <= now_us || loader->woken)
        wait_ms = 0;
    else if (due_us - now_us < 1000000)
        wait_ms = (int)((due_us - now_us) / 1000) + 1;
    struct pollfd fds[2] = {{.fd = loader->wake_fd, .events = POLLIN}};
    if (loader->watch != NULL)
        fds[1] = (struct pollfd){.fd = flagset_watch_fd(loader->watch), .events = POLLIN};
    (void)poll(fds, loader->watch != NULL ? 2 : 1, wait_ms);
    uint64_t count;
    (void)!read(loader->wake_fd, &count, sizeof count);
    loader->woken = false;
}

static void *run(void *context)
{
    struct flagset *set = context;
    for (;;) {
        pthread_mutex_lock(&set->lock);
        bool stop = set->stop;
        struct flagset_reconfigure_order *order = set->reconfigure_order;
        set->reconfigure_order = NULL;
        pthread_mutex_unlock(&set->lock);
        if (stop)
            return NULL;
        bool again = lay_over(set);
        if (order != NULL)
            flagset_loader_reconfigure(&set->loader, order);
        unsigned changed = flagset_loader_look(&set->loader, order != NULL);
        again |= order != NULL || (changed & FLAGSET_NEW_CONTENT) != 0;
        if (again)
            flagset_loader_build(&set->loader);
        if (again || changed != 0)
            report_now(set);
        if (flagset_loader_share(&set->loader))
            report_now(set);
        wait_for_signs(set);
    }
}

static void wake(struct flagset *set)
{
    uint64_t one = 1;
    (void)!write(set->loader.wake_fd, &one, sizeof one);
}

// ---- beginning ----

static enum status make_order(const struct flagset_source *sources, uint32_t count, struct slice segments,
                              struct flagset_reconfigure_order **out)
{
    if (count > FLAGSET_SOURCES_MAX)
        return STATUS_RANGE;
    struct flagset_reconfigure_order *order = heap_alloc(1, sizeof *order);
    if (order == NULL)
        return STATUS_NO_MEMORY;
    order->feeds = heap_alloc(count + 1, sizeof *order->feeds);
    order->segments = heap_alloc(segments.len + 1, 1);
    enum status status = order->feeds == NULL || order->segments == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        order->feed_count++;
        status = flagset_feed_init(&order->feeds[i], &sources[i]);
    }
    if (status != STATUS_OK) {
        flagset_reconfigure_order_destroy(order);
        return status;
    }
    if (segments.len > 0)
        memcpy(order->segments, segments.data, segments.len);
    order->segments_len = segments.len;
    *out = order;
    return STATUS_OK;
}

static enum status make_overlay_order(struct slice json, const struct flags_patch *patches,
                                      uint32_t patch_count, uint64_t change,
                                      struct flagset_overlay_order **out)
{
    if (json.len == 0 && json.data != NULL)
        json = SLICE("{\"flags\":{}}");
    if (json.len > FLAGSET_SOURCE_BYTES_MAX)
        return STATUS_RANGE;
    struct flagset_overlay_order *order = heap_alloc(1, sizeof *order);
    if (order == NULL)
        return STATUS_NO_MEMORY;
    enum status status = flagset_patches_create(patches, patch_count, &order->patches);
    if (status == STATUS_OK && json.data != NULL && (order->json = heap_strndup(json.data, json.len)) == NULL)
        status = STATUS_NO_MEMORY;
    if (status != STATUS_OK) {
        flagset_overlay_order_destroy(order);
        return status;
    }
    order->len = json.len;
    order->change = change;
    *out = order;
    return STATUS_OK;
}

// Whether the file asks for something that is not there or not well. What comes over HTTP may come later.
static bool starts_well(const struct flagset_loader *loader, const struct flagset_report *report)
{
    if (loader->snapshot == NULL || loader->segments_problem[0] != '\0' ||
        loader->segments != loader->segments_good)
        return false;
    for (uint32_t i = 0; i < report->state_count; i++)
        if (report->states[i].kind != FLAGSET_HTTP && !report->states[i].good)
            return false;
    return true;
}

static void copy_problems(const struct flagset_report *report, struct fault *problems,
                          uint32_t *problem_count)
{
    memcpy(problems, report->problems, report->problem_count * sizeof *problems);
    *problem_count = report->problem_count;
}

static enum status first_load(struct flagset *set, struct flagset_reconfigure_order *order,
                              struct fault *problems, uint32_t *problem_count)
{
    struct flagset_loader *loader = &set->loader;
    const struct flagset_config *config = &set->config;
    flagset_loader_reconfigure(loader, order);
    struct flagset_overlay_order *overlay;
    enum status status =
        make_overlay_order(config->overlay, config->patches, config->patch_count, config->change, &overlay);
    if (status != STATUS_OK)
        return status;
    flagset_loader_overlay_first(loader, overlay);
    if (loader->fetcher != NULL)
        flagset_fetcher_wait(loader->fetcher, FLAGSET_START_MS);
    (void)flagset_loader_look(loader, true);
    flagset_loader_build(loader);
    struct flagset_report *report = flagset_loader_report(loader);
    if (report == NULL)
        return STATUS_NO_MEMORY;
    copy_problems(report, problems, problem_count);
    if (!starts_well(loader, report)) {
        flagset_report_destroy(report);
        return STATUS_INVALID;
    }
    install(set, report);
    return STATUS_OK;
}

enum status flagset_create(const struct flagset_config *config, struct flagset **out, struct fault *problems,
                           uint32_t *problem_count)
{
    struct flagset_reconfigure_order *order;
    *problem_count = 0;
    enum status status = make_order(config->sources, config->source_count, config->segments, &order);
    if (status != STATUS_OK)
        return status;
    struct flagset *set = heap_alloc(1, sizeof *set);
    int wake_fd = set != NULL ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    if (wake_fd < 0) {
        flagset_reconfigure_order_destroy(order);
        heap_free(set);
        return set == NULL ? STATUS_NO_MEMORY : STATUS_NO_FD;
    }
    set->config = *config;
    io_timer_init(&set->release, release_retired);
    CHECK(pthread_mutex_init(&set->lock, NULL) == 0);
    status = flagset_loader_init(&set->loader, config, wake_fd);
    if (status == STATUS_OK)
        status = first_load(set, order, problems, problem_count);
    else
        flagset_reconfigure_order_destroy(order);
    set->loader.breathe = breathe;
    set->loader.context = set;
    if (status == STATUS_OK && pthread_create(&set->thread, NULL, run, set) != 0)
        status = STATUS_NO_MEMORY;
    set->running = status == STATUS_OK;
    if (status != STATUS_OK) {
        flagset_destroy(set);
        return status;
    }
    *out = set;
    return STATUS_OK;
}

void flagset_destroy(struct flagset *set)
{
    if (set == NULL)
        return;
    if (set->running) {
        pthread_mutex_lock(&set->lock);
        set->stop = true;
        pthread_mutex_unlock(&set->lock);
        wake(set);
        CHECK(pthread_join(set->thread, NULL) == 0);
    }
    if (set->delivery != NULL) {
        if (io_loop_unpost(set->config.loop, &set->delivery->task))
            heap_free(set->delivery);
        else
            set->delivery->set = NULL;
    }
    io_timer_clear(set->config.loop, &set->release);
    flagset_report_destroy(set->ready);
    flagset_report_destroy(set->report);
    flagset_overlay_order_destroy(set->overlay_order);
    flagset_reconfigure_order_destroy(set->reconfigure_order);
    flagset_snapshot_unref(set->retired);
    flagset_snapshot_unref(set->current);
    flagset_document_unref(set->newest);
    (void)close(set->loader.wake_fd);
    flagset_loader_deinit(&set->loader);
    (void)pthread_mutex_destroy(&set->lock);
    heap_free(set);
}

// ---- orders ----

// Without memory, or beyond the limits that the configuration keeps: everything stays as it is, and says so.
static void say_not_taken(struct flagset_report *report, enum status status)
{
    uint32_t last = FLAGSET_PROBLEMS_MAX - 1;
    (void)fault_set(&report->problems[report->problem_count <= last ? report->problem_count++ : last],
                    STATUS_INVALID, "the new sources of flags were not taken (%s)", status_name(status));
    report->refused = true;
}

void flagset_reconfigure(struct flagset *set, const struct flagset_source *sources, uint32_t source_count,
                         struct slice segments)
{
    struct flagset_reconfigure_order *order;
    enum status status = make_order(sources, source_count, segments, &order);
    if (status != STATUS_OK) {
        say_not_taken(set->report, status);
        return;
    }
    pthread_mutex_lock(&set->lock);
    struct flagset_reconfigure_order *old = set->reconfigure_order;
    set->reconfigure_order = order;
    pthread_mutex_unlock(&set->lock);
    flagset_reconfigure_order_destroy(old);
    wake(set);
}

// For checks of further changes, until it is in force. What is no JSON stays out: the thread will say so.
static enum status remember_newest(struct flagset *set, struct slice json, uint64_t change)
{
    const struct flagset_contents *contents = set->current->contents;
    const struct flagset_document *overlay = contents->documents[contents->document_count - 1];
    struct flagset_document *document = NULL;
    char problem[FLAGSET_PROBLEM_BYTES];
    if (json.len != overlay->len || memcmp(json.data, overlay->json, json.len) != 0) {
        char *copy = heap_strndup(json.data, json.len);
        if (copy == NULL)
            return STATUS_NO_MEMORY;
        enum status status =
            flagset_document_create("overlay", "overlay", copy, json.len, &document, problem);
        if (status == STATUS_NO_MEMORY)
            return status;
        if (status != STATUS_OK)
            document = NULL;
    }
    flagset_document_unref(set->newest);
    set->newest = document;
    set->newest_change = change;
    return STATUS_OK;
}

enum status flagset_overlay(struct flagset *set, struct slice json, const struct flags_patch *patches,
                            uint32_t patch_count, uint64_t change)
{
    struct flagset_overlay_order *order = NULL;
    enum status status = make_overlay_order(json, patches, patch_count, change, &order);
    if (status == STATUS_OK && order->json != NULL)
        status = remember_newest(set, (struct slice){order->json, order->len}, change);
    if (status != STATUS_OK) {
        flagset_overlay_order_destroy(order);
        return status;
    }
    pthread_mutex_lock(&set->lock);
    struct flagset_overlay_order *old = set->overlay_order;
    if (old != NULL && order->json == NULL) { // what was laid over before is still on its way
        order->json = old->json;
        order->len = old->len;
        old->json = NULL;
    }
    set->overlay_order = order;
    pthread_mutex_unlock(&set->lock);
    flagset_overlay_order_destroy(old);
    wake(set);
    return STATUS_OK;
}

// ---- questions ----

const struct flagset_snapshot *flagset_current(const struct flagset *set)
{
    return set->current;
}

uint32_t flagset_source_count(const struct flagset *set)
{
    return set->report->state_count;
}

void flagset_source_get(const struct flagset *set, uint32_t i, struct flagset_source_state *state)
{
    CHECK(i < set->report->state_count);
    *state = set->report->states[i];
}

uint32_t flagset_problems(const struct flagset *set, const struct fault **problems)
{
    *problems = set->report->problems;
    return set->report->problem_count;
}

bool flagset_overlay_lost(const struct flagset *set)
{
    return set->loader.text_lost;
}

bool flagset_refused(const struct flagset *set)
{
    return set->report->refused;
}

uint64_t flagset_build_us(const struct flagset *set)
{
    return set->report->compile_us;
}
