// SPDX-License-Identifier: Apache-2.0
// The queue, the thread and the runs. One lock; the thread holds it while it adds what it has found, never
// while it decodes, compares or writes to the disk.
#include "ship/shadow/shadow.h"

#include "base/heap.h"
#include "base/utf8.h"
#include "ship/shadow/shadow_private.h"

struct queued {
    struct mirror_seen *seen;
    struct shadow_run *run; // pinned
    size_t bytes;
};

struct shadow {
    struct shadow_parts parts;
    pthread_mutex_t lock;
    pthread_cond_t told; // something was queued, or we end
    pthread_cond_t idle; // nothing is queued, and the thread waits
    pthread_t thread;
    bool started, ending, busy;
    struct queued queue[SHADOW_QUEUE_MAX]; // a ring
    uint32_t first, count;
    size_t bytes;
    uint64_t begun;
    struct shadow_run *runs[SHADOW_RUNS_MAX];
    struct shadow_work *work;
};

// ---- runs ----

static void run_free(struct shadow_run *run)
{
    if (run == NULL)
        return;
    shadow_examples_free(run);
    heap_free(run->words);
    heap_free(run);
}

static struct shadow_run *run_of(struct shadow *shadow, uint64_t number)
{
    for (int i = 0; i < SHADOW_RUNS_MAX; i++)
        if (shadow->runs[i] != NULL && shadow->runs[i]->number == number)
            return shadow->runs[i];
    return NULL;
}

static bool is_of(const struct shadow_run *run, struct slice service, struct slice rollout)
{
    return run != NULL && slice_equal(run->rules.rollout, rollout) &&
           (rollout.len > 0 || slice_equal(run->rules.service, service));
}

static struct shadow_run *last_of(struct shadow *shadow, struct slice service, struct slice rollout)
{
    struct shadow_run *last = NULL;
    for (int i = 0; i < SHADOW_RUNS_MAX; i++)
        if (is_of(shadow->runs[i], service, rollout) &&
            (last == NULL || shadow->runs[i]->order > last->order))
            last = shadow->runs[i];
    return last;
}

// Where a new run may be kept: a free place, or that of the run which began first of those that are over.
static struct shadow_run **place_for(struct shadow *shadow)
{
    struct shadow_run **oldest = NULL;
    for (int i = 0; i < SHADOW_RUNS_MAX; i++) {
        struct shadow_run *run = shadow->runs[i];
        if (run == NULL)
            return &shadow->runs[i];
        if (!run->running && run->pins == 0 && (oldest == NULL || run->order < (*oldest)->order))
            oldest = &shadow->runs[i];
    }
    return oldest;
}

static enum status take_place(struct shadow *shadow, struct shadow_run *run)
{
    struct shadow_run *before = last_of(shadow, run->rules.service, run->rules.rollout);
    if (run_of(shadow, run->number) != NULL)
        return STATUS_EXISTS;
    struct shadow_run **place = place_for(shadow);
    if (place == NULL)
        return STATUS_FULL;
    if (before != NULL)
        before->running = false;
    run_free(*place);
    run->order = ++shadow->begun;
    run->running = true;
    *place = run;
    return STATUS_OK;
}

// ---- the thread ----

static void note_time(struct shadow_run *run, int64_t time_ms)
{
    if (run->first_ms == 0 || time_ms < run->first_ms)
        run->first_ms = time_ms;
    if (time_ms > run->last_ms)
        run->last_ms = time_ms;
}

// Under the lock.
static void add(struct shadow *shadow, const struct queued *item, const struct shadow_outcome *outcome)
{
    struct shadow_work *work = shadow->work;
    struct shadow_run *run = item->run;
    if (!outcome->compared) {
        run->counts.uncompared[outcome->reason]++;
        return;
    }
    *(outcome->triple ? &run->counts.triples : &run->counts.pairs) += 1;
    run->counts.by_digest += outcome->by_digest;
    run->counts.differed += work->of_candidate.count > 0 || work->of_candidate.beyond > 0;
    diff_noise_add(&run->noise, &work->of_candidate, outcome->triple ? &work->of_secondary : NULL);
    shadow_examples_keep(run, item->seen, &work->of_candidate);
}

static void look_at(struct shadow *shadow, const struct queued *item)
{
    struct shadow_outcome outcome = shadow_compare(shadow->work, &item->run->rules.recipe, item->seen);
    pthread_mutex_lock(&shadow->lock);
    add(shadow, item, &outcome);
    item->run->pins--;
    pthread_mutex_unlock(&shadow->lock);
    mirror_seen_free(item->seen);
}

static struct queued take_first(struct shadow *shadow)
{
    struct queued item = shadow->queue[shadow->first];
    shadow->first = (shadow->first + 1) % SHADOW_QUEUE_MAX;
    shadow->count--;
    shadow->bytes -= item.bytes;
    return item;
}

static void *run_thread(void *context)
{
    struct shadow *shadow = context;
    pthread_mutex_lock(&shadow->lock);
    while (!shadow->ending) {
        if (shadow->count == 0) {
            shadow->busy = false;
            pthread_cond_broadcast(&shadow->idle);
            pthread_cond_wait(&shadow->told, &shadow->lock);
            continue;
        }
        struct queued item = take_first(shadow);
        shadow->busy = true;
        pthread_mutex_unlock(&shadow->lock);
        look_at(shadow, &item);
        pthread_mutex_lock(&shadow->lock);
    }
    pthread_mutex_unlock(&shadow->lock);
    return NULL;
}

static enum status start(struct shadow *shadow)
{
    if (shadow->started)
        return STATUS_OK;
    struct shadow_work *work = heap_alloc(1, sizeof *work);
    void *memory = heap_alloc(1, SHADOW_SPACE_BYTES);
    shadow->work = work;
    if (work != NULL && memory != NULL) {
        work->space = (struct diff_space){memory, SHADOW_SPACE_BYTES};
        shadow->started = pthread_create(&shadow->thread, NULL, run_thread, shadow) == 0;
    }
    if (shadow->started)
        return STATUS_OK;
    heap_free(memory);
    heap_free(work);
    shadow->work = NULL;
    return STATUS_NO_MEMORY;
}

// ---- outside ----

enum status shadow_create(const struct shadow_parts *parts, struct shadow **shadow)
{
    struct shadow *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->parts = *parts;
    CHECK(pthread_mutex_init(&made->lock, NULL) == 0);
    CHECK(pthread_cond_init(&made->told, NULL) == 0 && pthread_cond_init(&made->idle, NULL) == 0);
    *shadow = made;
    return STATUS_OK;
}

void shadow_destroy(struct shadow *shadow)
{
    if (shadow == NULL)
        return;
    pthread_mutex_lock(&shadow->lock);
    shadow->ending = true;
    pthread_cond_broadcast(&shadow->told);
    pthread_mutex_unlock(&shadow->lock);
    if (shadow->started) {
        (void)pthread_join(shadow->thread, NULL);
        heap_free(shadow->work->space.memory);
        heap_free(shadow->work);
    }
    while (shadow->count > 0)
        mirror_seen_free(take_first(shadow).seen);
    for (int i = 0; i < SHADOW_RUNS_MAX; i++)
        run_free(shadow->runs[i]);
    (void)pthread_cond_destroy(&shadow->told);
    (void)pthread_cond_destroy(&shadow->idle);
    (void)pthread_mutex_destroy(&shadow->lock);
    heap_free(shadow);
}

static bool enqueue(struct shadow *shadow, struct shadow_run *run, struct mirror_seen *seen)
{
    size_t bytes = sizeof *seen + seen->body.len + seen->primary.body.len + seen->candidate.body.len +
                   (seen->has_secondary ? seen->secondary.body.len : 0);
    if (shadow->count == SHADOW_QUEUE_MAX || bytes > SHADOW_QUEUE_BYTES_MAX - shadow->bytes) {
        run->counts.uncompared[SHADOW_QUEUE_FULL]++;
        return false;
    }
    shadow->queue[(shadow->first + shadow->count++) % SHADOW_QUEUE_MAX] = (struct queued){seen, run, bytes};
    shadow->bytes += bytes;
    run->pins++;
    pthread_cond_signal(&shadow->told);
    return true;
}

void shadow_take(void *context, struct mirror_seen *seen)
{
    struct shadow *shadow = context;
    pthread_mutex_lock(&shadow->lock);
    struct shadow_run *run = run_of(shadow, seen->run);
    bool taken = false;
    if (run != NULL && run->running) {
        note_time(run, seen->time_ms);
        shadow_count(&run->rules, seen, &run->counts);
        taken = !seen->client_gone && enqueue(shadow, run, seen);
    }
    pthread_mutex_unlock(&shadow->lock);
    if (!taken)
        mirror_seen_free(seen);
}

void shadow_wait(struct shadow *shadow)
{
    pthread_mutex_lock(&shadow->lock);
    while (shadow->started && (shadow->count > 0 || shadow->busy))
        pthread_cond_wait(&shadow->idle, &shadow->lock);
    pthread_mutex_unlock(&shadow->lock);
}

enum status shadow_begin(struct shadow *shadow, uint64_t number, const struct shadow_rules *rules)
{
    struct shadow_run *run = heap_alloc(1, sizeof *run);
    enum status status = run != NULL ? shadow_rules_copy(rules, shadow->parts.key, run) : STATUS_NO_MEMORY;
    if (status == STATUS_OK) {
        run->number = number;
        pthread_mutex_lock(&shadow->lock);
        status = start(shadow);
        if (status == STATUS_OK)
            status = take_place(shadow, run);
        pthread_mutex_unlock(&shadow->lock);
    }
    if (status != STATUS_OK)
        run_free(run);
    return status;
}

void shadow_end(struct shadow *shadow, uint64_t number)
{
    pthread_mutex_lock(&shadow->lock);
    struct shadow_run *run = run_of(shadow, number);
    if (run != NULL)
        run->running = false;
    pthread_mutex_unlock(&shadow->lock);
}

bool shadow_find(struct shadow *shadow, struct slice service, struct slice rollout, uint64_t *number)
{
    pthread_mutex_lock(&shadow->lock);
    struct shadow_run *run = last_of(shadow, service, rollout);
    if (run != NULL)
        *number = run->number;
    pthread_mutex_unlock(&shadow->lock);
    return run != NULL;
}

// ---- what is kept, as others take it ----

static uint32_t saturated(uint64_t count)
{
    return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

// What is told of the row at that index; past the end: it is gone.
static struct rollout_shadow_row row_at(const struct diff_noise *noise, uint32_t index)
{
    struct rollout_shadow_row told = {.row = (uint16_t)index};
    if (index >= noise->row_count)
        return told;
    const struct diff_row *row = &noise->rows[index];
    told.rank = row->rank;
    told.both = saturated(row->both);
    told.candidate = saturated(row->candidate);
    told.secondary = saturated(row->secondary);
    told.alone = saturated(row->alone);
    return told;
}

static bool same_row(const struct rollout_shadow_row *a, const struct rollout_shadow_row *b)
{
    return a->rank == b->rank && a->both == b->both && a->candidate == b->candidate &&
           a->secondary == b->secondary && a->alone == b->alone;
}

// Each delta goes on where the last one ended: rows that change all the time keep no others back.
static uint32_t new_rows(struct shadow_run *run, struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX])
{
    uint32_t count = 0, begin = run->told_up_to;
    for (uint32_t i = 0; i < DIFF_ROWS_MAX && count < ROLLOUT_SHADOW_ROWS_MAX; i++) {
        uint32_t index = (begin + i) % DIFF_ROWS_MAX;
        struct rollout_shadow_row row = row_at(&run->noise, index);
        run->told_up_to = index + 1;
        if (!same_row(&row, &run->told_rows[index]))
            rows[count++] = run->told_rows[index] = row;
    }
    return count;
}

static uint64_t judged_uncompared(const struct shadow_counts *counts)
{
    uint64_t sum = 0;
    for (int i = SHADOW_CLIENT_GONE + 1; i < SHADOW_UNCOMPAREDS; i++)
        sum += counts->uncompared[i];
    return sum;
}

static uint64_t judged(const struct shadow_counts *counts)
{
    return counts->sent - counts->uncompared[SHADOW_CLIENT_GONE];
}

static struct rollout_shadow_delta delta_of(const struct shadow_counts *now, const struct shadow_counts *told)
{
    struct rollout_shadow_delta delta = {
        .sent = judged(now) - judged(told),
        .triples = now->triples - told->triples,
        .pairs = now->pairs - told->pairs,
        .uncompared = judged_uncompared(now) - judged_uncompared(told),
        .candidate_answered = now->candidate_ends[MIRROR_ANSWERED] - told->candidate_ends[MIRROR_ANSWERED],
        .candidate_errors = now->candidate_errors - told->candidate_errors,
        .primary_errors = now->primary_errors - told->primary_errors,
    };
    for (int k = 0; k < ROLLOUT_SHADOW_EDGES; k++) {
        delta.slow_candidate[k] = now->slow_candidate[k] - told->slow_candidate[k];
        delta.slow_primary[k] = now->slow_primary[k] - told->slow_primary[k];
    }
    return delta;
}

bool shadow_delta(struct shadow *shadow, uint64_t number,
                  struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX], struct rollout_shadow_delta *delta)
{
    pthread_mutex_lock(&shadow->lock);
    struct shadow_run *run = run_of(shadow, number);
    bool news = false;
    if (run != NULL) {
        struct rollout_shadow_delta made = delta_of(&run->counts, &run->told);
        made.rows = rows;
        made.row_count = new_rows(run, rows);
        news = made.row_count > 0 || memcmp(&run->counts, &run->told, sizeof run->told) != 0;
        run->told = run->counts;
        if (news)
            *delta = made;
    }
    pthread_mutex_unlock(&shadow->lock);
    return news;
}

static uint32_t copy_examples(const struct shadow_run *run, struct shadow_example *examples)
{
    uint32_t count = 0;
    for (int i = 0; i < SHADOW_EXAMPLE_PATHS_MAX && run->examples[i] != NULL; i++)
        for (uint32_t j = 0; j < run->examples[i]->count; j++, count++)
            if (examples != NULL)
                examples[count] = run->examples[i]->items[j];
    return count;
}

static struct shadow_report *copy_run(const struct shadow_run *run)
{
    struct shadow_report *made =
        heap_alloc(1, sizeof *made + copy_examples(run, NULL) * sizeof made->examples[0]);
    if (made == NULL)
        return NULL;
    utf8_copy(made->service, sizeof made->service, run->rules.service);
    utf8_copy(made->rollout, sizeof made->rollout, run->rules.rollout);
    utf8_copy(made->primary, sizeof made->primary, run->rules.primary);
    utf8_copy(made->candidate, sizeof made->candidate, run->rules.candidate);
    made->run = run->number;
    made->ended = !run->running;
    made->first_ms = run->first_ms;
    made->last_ms = run->last_ms;
    made->counts = run->counts;
    made->noise = run->noise;
    made->example_count = copy_examples(run, made->examples);
    return made;
}

enum status shadow_report(struct shadow *shadow, uint64_t number, struct shadow_report **report)
{
    double alpha = 0, beta = 0;
    pthread_mutex_lock(&shadow->lock);
    struct shadow_run *run = run_of(shadow, number);
    struct shadow_report *made = NULL;
    if (run != NULL) {
        made = copy_run(run);
        alpha = run->rules.alpha;
        beta = run->rules.beta;
    }
    pthread_mutex_unlock(&shadow->lock);
    if (made == NULL)
        return run == NULL ? STATUS_NOT_FOUND : STATUS_NO_MEMORY;
    made->judged_count = diff_noise_judge(&made->noise, alpha, beta, made->judged);
    *report = made;
    return STATUS_OK;
}
