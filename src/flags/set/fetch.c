// SPDX-License-Identifier: Apache-2.0
// Sources over HTTP: one thread and one multi handle of libcurl for all of them, so that a server that hangs
// delays neither another source nor a kill switch. Requests carry the entity tag of the content at hand (RFC
// 9110 section 13.1.2), answers other than 200 and 304 are failures, and the wait after each failure in a row
// is longer. Invariant: only the thread touches jobs; orders and results cross under the lock.
#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "flags/set/flagset_private.h"

enum { TAG_BYTES = 1024, TOKEN_BYTES = 4096, BODY_FIRST = 65536, CONNECT_MS = 3000 };

struct job {
    char url[FLAGSET_NAME_BYTES];
    char *token_file;
    uint64_t every_ms;
    CURL *easy; // while under way
    struct curl_slist *fields;
    char tag[TAG_BYTES];      // entity tag of the content that the loader has
    char tag_next[TAG_BYTES]; // entity tag of the content that is coming
    char *body;
    size_t body_len;
    size_t body_cap;
    bool too_large;
    uint32_t failures; // in a row
    uint64_t due_us;
    bool tried;
};

struct order {
    struct job *jobs;
    uint32_t count;
};

struct flagset_fetcher {
    pthread_t thread;
    CURLM *multi;
    int wake_fd;
    struct job *jobs;
    uint32_t job_count;
    struct rng rng;

    pthread_mutex_t lock;
    pthread_cond_t tried; // signalled when each job was tried once
    struct order *order;
    struct flagset_fetched *results;
    struct flagset_fetched **results_end;
    bool all_tried;
    bool stop;
};

// ---- one fetch ----

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct job *job = context;
    size_t len = size * count;
    if (len > FLAGSET_SOURCE_BYTES_MAX - job->body_len) {
        job->too_large = true;
        return 0;
    }
    if (job->body_len + len > job->body_cap) {
        size_t cap = 2 * (job->body_len + len) + BODY_FIRST;
        void *grown = heap_resize(job->body, cap);
        if (grown == NULL)
            return 0;
        job->body = grown;
        job->body_cap = cap;
    }
    memcpy(job->body + job->body_len, data, len);
    job->body_len += len;
    return len;
}

// In a chain of redirects, the entity tag of the last answer counts.
static size_t on_field(char *data, size_t size, size_t count, void *context)
{
    struct job *job = context;
    struct slice line = {data, size * count};
    struct slice name = SLICE("etag:");
    if (slice_starts_with(line, SLICE("HTTP/")))
        job->tag_next[0] = '\0';
    if (line.len < name.len || !slice_equal_nocase((struct slice){data, name.len}, name))
        return line.len;
    size_t from = name.len;
    size_t end = line.len;
    while (from < end && (data[from] == ' ' || data[from] == '\t'))
        from++;
    while (end > from && (unsigned char)data[end - 1] <= ' ')
        end--;
    if (end - from < TAG_BYTES)
        (void)snprintf(job->tag_next, TAG_BYTES, "%.*s", (int)(end - from), data + from);
    return line.len;
}

// The first line of the file. It is read for each fetch, so that a token may be replaced.
static bool read_token(const struct job *job, char token[TOKEN_BYTES])
{
    FILE *file = fopen(job->token_file, "re");
    if (file == NULL)
        return false;
    bool read = fgets(token, TOKEN_BYTES, file) != NULL;
    (void)fclose(file);
    if (!read)
        return false;
    token[strcspn(token, "\r\n")] = '\0';
    for (const char *c = token; *c != '\0'; c++)
        if (*c <= ' ' || *c == 0x7f)
            return false;
    return token[0] != '\0';
}

static void push_result(struct flagset_fetcher *fetcher, struct flagset_fetched *result)
{
    uint64_t one = 1;
    pthread_mutex_lock(&fetcher->lock);
    *fetcher->results_end = result;
    fetcher->results_end = &result->next;
    pthread_mutex_unlock(&fetcher->lock);
    (void)!write(fetcher->wake_fd, &one, sizeof one);
}

static uint64_t jittered_us(struct flagset_fetcher *fetcher, uint64_t ms)
{
    uint64_t us = ms * 1000;
    return us - us / 10 + rng_below(&fetcher->rng, us / 5 + 1);
}

static void plan_next(struct flagset_fetcher *fetcher, struct job *job)
{
    uint64_t wait_ms = job->every_ms;
    if (job->failures > 0) {
        uint64_t most = wait_ms > FLAGSET_RETRY_MS_MAX ? wait_ms : FLAGSET_RETRY_MS_MAX;
        uint32_t doublings = job->failures < 17 ? job->failures - 1 : 16;
        wait_ms = (wait_ms < FLAGSET_RETRY_MS ? wait_ms : FLAGSET_RETRY_MS) << doublings;
        if (wait_ms > most)
            wait_ms = most;
    }
    job->due_us = flagset_now_us() + jittered_us(fetcher, wait_ms);
}

static void end_fetch(struct flagset_fetcher *fetcher, struct job *job)
{
    if (job->easy != NULL) {
        (void)curl_multi_remove_handle(fetcher->multi, job->easy);
        curl_easy_cleanup(job->easy);
    }
    curl_slist_free_all(job->fields);
    heap_free(job->body);
    job->easy = NULL;
    job->fields = NULL;
    job->body = NULL;
    job->body_len = 0;
    job->body_cap = 0;
    job->tried = true;
}

__attribute__((format(printf, 3, 4))) static void fail(struct flagset_fetcher *fetcher, struct job *job,
                                                       const char *format, ...)
{
    char words[200];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    struct flagset_fetched *result = heap_alloc(1, sizeof *result);
    job->failures++;
    plan_next(fetcher, job);
    end_fetch(fetcher, job);
    if (result == NULL)
        return; // the next failure will report it
    struct text text = text_over(result->problem, sizeof result->problem);
    text_addf(&text, "%s: %s", job->url, words);
    (void)snprintf(result->url, sizeof result->url, "%s", job->url);
    push_result(fetcher, result);
}

static bool set_options(struct job *job, CURL *easy, const char *token)
{
    bool secure = strncmp(job->url, "https://", 8) == 0;
    bool well =
        curl_easy_setopt(easy, CURLOPT_URL, job->url) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
        // Never follow a redirect from a verified server to an unverified one.
        curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https") == CURLE_OK;
    // Only the configuration says which server to ask: ignore proxies of the environment.
    (void)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)FLAGSET_REDIRECTS_MAX);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)FLAGSET_HTTP_MS_MAX);
    (void)curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)FLAGSET_SOURCE_BYTES_MAX);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
    (void)curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, NULL);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, job);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_field);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, job);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, job);
    if (token != NULL)
        well = well && curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER) == CURLE_OK &&
               curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, token) == CURLE_OK;
    return well;
}

static bool set_fields(struct job *job, CURL *easy)
{
    char field[TAG_BYTES + 32];
    job->fields = curl_slist_append(NULL, "Accept: application/json, */*;q=0.1");
    if (job->fields == NULL)
        return false;
    if (job->tag[0] != '\0') {
        (void)snprintf(field, sizeof field, "If-None-Match: %s", job->tag);
        struct curl_slist *both = curl_slist_append(job->fields, field);
        if (both == NULL)
            return false;
        job->fields = both;
    }
    return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, job->fields) == CURLE_OK;
}

static void begin_fetch(struct flagset_fetcher *fetcher, struct job *job)
{
    char token[TOKEN_BYTES];
    job->too_large = false;
    job->tag_next[0] = '\0';
    if (job->token_file != NULL && !read_token(job, token)) {
        fail(fetcher, job, "no token can be read from %.120s", job->token_file);
        return;
    }
    job->easy = curl_easy_init();
    if (job->easy == NULL || !set_fields(job, job->easy) ||
        !set_options(job, job->easy, job->token_file != NULL ? token : NULL) ||
        curl_multi_add_handle(fetcher->multi, job->easy) != CURLM_OK)
        fail(fetcher, job, "cannot be fetched");
}

static void succeed(struct flagset_fetcher *fetcher, struct job *job, bool changed)
{
    struct flagset_fetched *result = heap_alloc(1, sizeof *result);
    if (result == NULL) {
        fail(fetcher, job, "no memory to fetch it");
        return;
    }
    (void)snprintf(result->url, sizeof result->url, "%s", job->url);
    if (changed) {
        result->json = job->body != NULL ? job->body : heap_alloc(1, 1);
        result->len = job->body_len;
        job->body = NULL;
        memcpy(job->tag, job->tag_next, sizeof job->tag);
    }
    job->failures = 0;
    plan_next(fetcher, job);
    end_fetch(fetcher, job);
    push_result(fetcher, result);
}

static void finish_fetch(struct flagset_fetcher *fetcher, struct job *job, CURLcode code)
{
    long answer = 0;
    (void)curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &answer);
    if (job->too_large || code == CURLE_FILESIZE_EXCEEDED)
        fail(fetcher, job, "is larger than %d MiB", FLAGSET_SOURCE_BYTES_MAX >> 20);
    else if (code != CURLE_OK)
        fail(fetcher, job, "%s", curl_easy_strerror(code));
    else if (answer == 304 && job->tag[0] != '\0')
        succeed(fetcher, job, false);
    else if (answer == 200)
        succeed(fetcher, job, true);
    else
        fail(fetcher, job, "answered %ld", answer);
}

// ---- the thread ----

static void free_job(struct job *job)
{
    CHECK(job->easy == NULL);
    heap_free(job->token_file);
}

static bool same_job(const struct job *a, const struct job *b)
{
    bool both = a->token_file != NULL && b->token_file != NULL;
    return strcmp(a->url, b->url) == 0 && (both || a->token_file == b->token_file) &&
           (!both || strcmp(a->token_file, b->token_file) == 0);
}

static void take_order(struct flagset_fetcher *fetcher, struct order *order)
{
    for (uint32_t i = 0; i < fetcher->job_count; i++)
        if (fetcher->jobs[i].easy != NULL)
            end_fetch(fetcher, &fetcher->jobs[i]);
    for (uint32_t n = 0; n < order->count; n++) {
        for (uint32_t i = 0; i < fetcher->job_count; i++) {
            if (!same_job(&order->jobs[n], &fetcher->jobs[i]))
                continue;
            memcpy(order->jobs[n].tag, fetcher->jobs[i].tag, sizeof order->jobs[n].tag);
            order->jobs[n].tried = fetcher->jobs[i].tried;
        }
    }
    for (uint32_t i = 0; i < fetcher->job_count; i++)
        free_job(&fetcher->jobs[i]);
    heap_free(fetcher->jobs);
    fetcher->jobs = order->jobs;
    fetcher->job_count = order->count;
    heap_free(order);
}

static void note_tried(struct flagset_fetcher *fetcher)
{
    bool all = true;
    for (uint32_t i = 0; i < fetcher->job_count; i++)
        all = all && fetcher->jobs[i].tried;
    pthread_mutex_lock(&fetcher->lock);
    fetcher->all_tried = all && fetcher->order == NULL;
    if (fetcher->all_tried)
        pthread_cond_broadcast(&fetcher->tried);
    pthread_mutex_unlock(&fetcher->lock);
}

static void begin_due(struct flagset_fetcher *fetcher)
{
    for (uint32_t i = 0; i < fetcher->job_count; i++)
        if (fetcher->jobs[i].easy == NULL && fetcher->jobs[i].due_us <= flagset_now_us())
            begin_fetch(fetcher, &fetcher->jobs[i]);
}

static void wait_for_due(struct flagset_fetcher *fetcher)
{
    uint64_t now_us = flagset_now_us();
    uint64_t wait_us = 1000000;
    for (uint32_t i = 0; i < fetcher->job_count; i++) {
        const struct job *job = &fetcher->jobs[i];
        uint64_t left_us = job->due_us > now_us ? job->due_us - now_us : 0;
        if (job->easy == NULL && left_us < wait_us)
            wait_us = left_us;
    }
    (void)curl_multi_poll(fetcher->multi, NULL, 0, (int)((wait_us + 999) / 1000), NULL);
}

static void finish_done(struct flagset_fetcher *fetcher)
{
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(fetcher->multi, &left)) != NULL;) {
        struct job *job = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &job);
        finish_fetch(fetcher, job, code);
    }
}

static void *run(void *context)
{
    struct flagset_fetcher *fetcher = context;
    for (;;) {
        int running;
        pthread_mutex_lock(&fetcher->lock);
        struct order *order = fetcher->order;
        bool stop = fetcher->stop;
        fetcher->order = NULL;
        pthread_mutex_unlock(&fetcher->lock);
        if (order != NULL)
            take_order(fetcher, order);
        if (stop)
            break;
        begin_due(fetcher);
        (void)curl_multi_perform(fetcher->multi, &running);
        finish_done(fetcher);
        note_tried(fetcher);
        wait_for_due(fetcher);
    }
    for (uint32_t i = 0; i < fetcher->job_count; i++) {
        // A name server that hangs must not delay the end of the process.
        if (fetcher->jobs[i].easy != NULL)
            (void)curl_easy_setopt(fetcher->jobs[i].easy, CURLOPT_QUICK_EXIT, 1L);
        end_fetch(fetcher, &fetcher->jobs[i]);
        free_job(&fetcher->jobs[i]);
    }
    heap_free(fetcher->jobs);
    return NULL;
}

// ---- the loader's side ----

static void free_order(struct order *order)
{
    if (order == NULL)
        return;
    for (uint32_t i = 0; i < order->count; i++)
        free_job(&order->jobs[i]);
    heap_free(order->jobs);
    heap_free(order);
}

enum status flagset_fetcher_create(int wake_fd, struct flagset_fetcher **out)
{
    struct flagset_fetcher *fetcher = heap_alloc(1, sizeof *fetcher);
    if (fetcher == NULL)
        return STATUS_NO_MEMORY;
    fetcher->wake_fd = wake_fd;
    fetcher->results_end = &fetcher->results;
    fetcher->all_tried = true;
    rng_init(&fetcher->rng, flagset_now_us() ^ ((uint64_t)getpid() << 40));
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    fetcher->multi = curl_multi_init();
    if (fetcher->multi == NULL) {
        heap_free(fetcher);
        return STATUS_NO_MEMORY;
    }
    CHECK(pthread_mutex_init(&fetcher->lock, NULL) == 0);
    CHECK(pthread_cond_init(&fetcher->tried, NULL) == 0);
    if (pthread_create(&fetcher->thread, NULL, run, fetcher) != 0) {
        (void)curl_multi_cleanup(fetcher->multi);
        heap_free(fetcher);
        return STATUS_NO_MEMORY;
    }
    *out = fetcher;
    return STATUS_OK;
}

void flagset_fetcher_destroy(struct flagset_fetcher *fetcher)
{
    if (fetcher == NULL)
        return;
    pthread_mutex_lock(&fetcher->lock);
    fetcher->stop = true;
    pthread_mutex_unlock(&fetcher->lock);
    (void)curl_multi_wakeup(fetcher->multi);
    CHECK(pthread_join(fetcher->thread, NULL) == 0);
    (void)curl_multi_cleanup(fetcher->multi);
    for (struct flagset_fetched *result = fetcher->results; result != NULL;) {
        struct flagset_fetched *next = result->next;
        heap_free(result->json);
        heap_free(result);
        result = next;
    }
    free_order(fetcher->order);
    (void)pthread_cond_destroy(&fetcher->tried);
    (void)pthread_mutex_destroy(&fetcher->lock);
    heap_free(fetcher);
}

enum status flagset_fetcher_set(struct flagset_fetcher *fetcher, const struct flagset_feed *feeds,
                                uint32_t count)
{
    struct order *order = heap_alloc(1, sizeof *order);
    if (order == NULL || (order->jobs = heap_alloc(count + 1, sizeof *order->jobs)) == NULL) {
        heap_free(order);
        return STATUS_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (feeds[i].kind != FLAGSET_HTTP)
            continue;
        struct job *job = &order->jobs[order->count++];
        (void)snprintf(job->url, sizeof job->url, "%s", feeds[i].name);
        job->every_ms = feeds[i].every_ms;
        if (feeds[i].token_file != NULL && (job->token_file = heap_strdup(feeds[i].token_file)) == NULL) {
            free_order(order);
            return STATUS_NO_MEMORY;
        }
    }
    pthread_mutex_lock(&fetcher->lock);
    struct order *old = fetcher->order;
    fetcher->order = order;
    fetcher->all_tried = false;
    pthread_mutex_unlock(&fetcher->lock);
    free_order(old);
    (void)curl_multi_wakeup(fetcher->multi);
    return STATUS_OK;
}

void flagset_fetcher_wait(struct flagset_fetcher *fetcher, uint32_t ms)
{
    struct timespec until;
    CHECK(clock_gettime(CLOCK_REALTIME, &until) == 0);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&fetcher->lock);
    while (!fetcher->all_tried && pthread_cond_timedwait(&fetcher->tried, &fetcher->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&fetcher->lock);
}

struct flagset_fetched *flagset_fetcher_take(struct flagset_fetcher *fetcher)
{
    pthread_mutex_lock(&fetcher->lock);
    struct flagset_fetched *results = fetcher->results;
    fetcher->results = NULL;
    fetcher->results_end = &fetcher->results;
    pthread_mutex_unlock(&fetcher->lock);
    return results;
}
