// SPDX-License-Identifier: Apache-2.0
// `sluice demo`: the real daemon between two small origins and an open-loop load, all on loopback. One thread
// is the world (origins and clients), one is the engine, this one tells the story from the API as any client
// would.
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/api/api.h"
#include "daemon/cli/client.h"
#include "daemon/cli/screen.h"
#include "daemon/cli/view.h"
#include "daemon/serve/serve.h"
#include "net/io/loop.h"
#include "net/proxy/proxy.h"
#include "operate/load/load.h"
#include "operate/load/origin.h"
#include "ship/engine/replay.h"
#include "ship/store/journal.h"

enum {
    DEMO_POLL_MS = 200,
    DEMO_LINE_EVERY_MS = 3000,
    DEMO_PAUSE_MS = 5000,    // between the acts, to read the verdict
    DEMO_ACT_MS_MAX = 60000, // an act that takes longer has failed
    DEMO_RATE_DEFAULT = 800,
};

static const char *const demo_file =
    "workers: 1\n"
    "journal: %s/demo.db\n"
    "listen: [{address: \"127.0.0.1:0\"}]\n"
    "admin: {address: \"127.0.0.1:0\"}\n"
    "log: {requests: none}\n"
    "services:\n"
    "  shop:\n"
    "    versions:\n"
    "      v1: {endpoints: [\"%s\"]}\n"
    "      v2: {endpoints: [\"%s\"]}\n"
    "    stable: v1\n"
    "rollouts:\n"
    "  shop-v2:\n"
    "    service: shop\n"
    "    to: v2\n"
    "    stages: [{weight: 5%%, for: 1s}, {weight: 25%%, for: 2s}, {weight: 50%%, for: 2s},\n"
    "             {weight: 100%%, for: 1s, soak: 4s}]\n"
    "    checks: {errors: {negligible: 1%%}, latency: {margin: 1.5, baseline: 3000}}\n"
    "    alpha: 0.001\n"
    "    warmup: 1s\n"
    "    drain: 2s\n";

static const struct load_origin_options origin_v1 = {.version = "v1",
                                                     .latency_us = 2000,
                                                     .latency_sigma = 0.4,
                                                     .error_share = 0.001,
                                                     .body_bytes = 512,
                                                     .seed = 1};
static const struct load_origin_options origin_v2_bad = {.version = "v2",
                                                         .latency_us = 2000,
                                                         .latency_sigma = 0.4,
                                                         .tail_share = 0.10,
                                                         .tail_factor = 6,
                                                         .error_share = 0.02,
                                                         .body_bytes = 512,
                                                         .seed = 2};
static const struct load_origin_options origin_v2_good = {.version = "v2",
                                                          .latency_us = 2000,
                                                          .latency_sigma = 0.4,
                                                          .error_share = 0.001,
                                                          .body_bytes = 512,
                                                          .seed = 3};

struct demo {
    const struct cli_call *call;
    // the world: only its own thread touches loop, origins and load while it runs
    struct io_loop *world;
    struct load_origin *v1;
    struct load_origin *v2;
    struct load *load;
    struct load_totals totals;
    struct io_task task;
    void (*order)(struct demo *demo);
    atomic_bool ordered;
    atomic_bool world_over;
    struct load_origin_counts v1_counts;
    struct load_origin_counts v2_counts;
    int64_t v2_last_ms; // wall clock of v2's newest request, when last asked
    double rate;
    struct io_addr proxy_addr;
    pthread_t world_thread;
    // the daemon
    struct serve daemon;
    struct log log;
    struct io_task stop_task;
    pthread_t engine_thread;
    char directory[64];
    // the story
    struct cli_client *client;
    struct cli_screen *screen;
    char *frame;
    bool left; // the person pressed q
    struct cli_view rolled_back;
    struct cli_view completed;
    int64_t back_requests_ms; // v2's last request minus the verdict
    uint64_t switch_us;
};

// ---- the world ----

static void on_order(struct io_task *task)
{
    struct demo *demo = CONTAINER_OF(task, struct demo, task);
    demo->order(demo);
    atomic_store(&demo->ordered, false);
}

// Runs an order on the world's thread and waits for it.
static void world_do(struct demo *demo, void (*order)(struct demo *demo))
{
    demo->order = order;
    atomic_store(&demo->ordered, true);
    io_loop_post(demo->world, &demo->task);
    while (atomic_load(&demo->ordered))
        usleep(500);
}

static void order_counts(struct demo *demo)
{
    demo->v1_counts = *load_origin_counts(demo->v1);
    demo->v2_counts = *load_origin_counts(demo->v2);
    int64_t ago_us = (int64_t)(io_loop_clock_us(demo->world) - demo->v2_counts.last_request_us);
    demo->v2_last_ms = cli_now_ms() - ago_us / 1000;
}

static void order_repair(struct demo *demo)
{
    load_origin_set(demo->v2, &origin_v2_good);
}

static void order_stop(struct demo *demo)
{
    load_stop(demo->load);
}

static void *run_world(void *context)
{
    struct demo *demo = context;
    while (!load_done(demo->load))
        (void)!io_loop_turn(demo->world, 20000);
    demo->totals = *load_totals(demo->load);
    load_close(demo->load);
    while (!load_closed(demo->load))
        (void)!io_loop_turn(demo->world, 5000);
    load_destroy(demo->load);
    // Orders may still come until the story says that it is over.
    while (!atomic_load(&demo->world_over))
        (void)!io_loop_turn(demo->world, 20000);
    return NULL;
}

static enum status world_make(struct demo *demo)
{
    struct io_loop_config config = {.kind = IO_KIND_EPOLL};
    struct io_addr any;
    enum status status = io_loop_create(&config, &demo->world);
    if (status == STATUS_OK)
        status = io_addr_parse("127.0.0.1:0", &any);
    if (status == STATUS_OK)
        status = load_origin_create(demo->world, &any, &origin_v1, &demo->v1);
    if (status == STATUS_OK)
        status = load_origin_create(demo->world, &any, &origin_v2_bad, &demo->v2);
    demo->task.run = on_order;
    return status;
}

static enum status world_start(struct demo *demo)
{
    struct load_config config = {.to = demo->proxy_addr,
                                 .rate = demo->rate,
                                 .poisson = true,
                                 .duration_us = UINT64_C(10) * 60 * 1000000,
                                 .timeout_us = 10000000,
                                 .seed = (uint64_t)getpid()};
    enum status status = load_create(demo->world, &config, &demo->load);
    if (status != STATUS_OK)
        return status;
    return pthread_create(&demo->world_thread, NULL, run_world, demo) == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

static void origin_end(struct demo *demo, struct load_origin *origin)
{
    if (origin == NULL)
        return;
    load_origin_close(origin);
    while (!load_origin_closed(origin))
        (void)!io_loop_turn(demo->world, 5000);
    load_origin_destroy(origin);
}

static void world_end(struct demo *demo)
{
    origin_end(demo, demo->v1);
    origin_end(demo, demo->v2);
    if (demo->world != NULL)
        io_loop_destroy(demo->world);
}

// ---- the daemon ----

static void on_stop(struct io_task *task)
{
    struct demo *demo = CONTAINER_OF(task, struct demo, stop_task);
    engine_shutdown(demo->daemon.engine, 3000, serve_stopped, &demo->daemon);
}

static void *run_control(void *context)
{
    struct demo *demo = context;
    serve_run(&demo->daemon);
    return NULL;
}

static struct config *make_config(struct demo *demo)
{
    struct io_addr addr;
    char v1[IO_ADDR_TEXT_BYTES], v2[IO_ADDR_TEXT_BYTES], text[2048];
    load_origin_addr(demo->v1, &addr);
    io_addr_format(&addr, v1);
    load_origin_addr(demo->v2, &addr);
    io_addr_format(&addr, v2);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, demo_file, demo->directory, v1, v2);
#pragma GCC diagnostic pop
    struct config_errors *errors = heap_alloc(1, sizeof *errors);
    struct config *config = NULL;
    enum status status =
        errors != NULL ? config_load_text("demo", slice_of(text), &config, errors) : STATUS_NO_MEMORY;
    if (status != STATUS_OK && errors != NULL && errors->count > 0)
        fprintf(demo->call->err, "sluice demo: %s\n", errors->items[0].message);
    heap_free(errors);
    return status == STATUS_OK ? config : NULL;
}

static int daemon_start(struct demo *demo)
{
    struct config *config = make_config(demo);
    if (config == NULL)
        return CLI_EXIT_START;
    log_init(&demo->log, NULL, false, LOG_ERROR);
    struct serve_options options = {.config = config, .log = &demo->log, .err = demo->call->err};
    if (serve_start(&demo->daemon, &options) != SERVE_OK)
        return CLI_EXIT_START;
    proxy_listen_addr(demo->daemon.proxy, 0, &demo->proxy_addr);
    struct io_addr admin;
    char text[IO_ADDR_TEXT_BYTES];
    api_addr(demo->daemon.api, &admin);
    io_addr_format(&admin, text);
    demo->client = cli_client_open(text);
    demo->stop_task.run = on_stop;
    if (demo->client == NULL || pthread_create(&demo->engine_thread, NULL, run_control, demo) != 0) {
        serve_end(&demo->daemon);
        return CLI_EXIT_START;
    }
    return CLI_EXIT_OK;
}

// ---- the story ----

static void show(struct demo *demo, const char *headline, const struct cli_view *view)
{
    struct cli_style style = cli_style_of(demo->call->out);
    struct text text = text_over(demo->frame, CLI_VIEW_FRAME_BYTES);
    text_addf(&text, style.colour ? " \033[7m%.*s\033[0m\n\n" : " %.*s\n\n", (int)style.columns - 2,
              headline);
    style.rows = style.rows > 4 ? style.rows - 3 : 1;
    if (view != NULL)
        cli_view_draw(view, cli_now_ms(), &style, &text);
    cli_screen_show(demo->screen, text_slice(&text));
}

static void tell(const struct demo *demo, const char *text)
{
    if (demo->screen != NULL)
        return;
    fprintf(demo->call->out, "%s\n", text);
    fflush(demo->call->out);
}

static bool wait_a_moment(struct demo *demo, uint64_t wait_ms)
{
    if (demo->screen == NULL)
        usleep((useconds_t)(wait_ms * 1000));
    else if (cli_screen_wait(demo->screen, wait_ms) == 'q')
        demo->left = true;
    return !demo->left;
}

static enum status ask_view(struct demo *demo, struct cli_view *view)
{
    unsigned http;
    json_t *answer;
    enum status status = cli_client_get(demo->client, "/v1/rollouts/shop-v2", &http, &answer);
    if (status != STATUS_OK)
        return status;
    status = http == 200 ? cli_view_read(answer, view) : STATUS_INVALID;
    json_decref(answer);
    return status;
}

static enum status start_rollout(struct demo *demo)
{
    unsigned http;
    json_t *answer;
    enum status status = cli_client_ask(demo->client, "POST", "/v1/rollouts/shop-v2/start", SLICE("{}"),
                                        "demo", &http, &answer);
    if (status != STATUS_OK)
        return status;
    json_decref(answer);
    return http == 200 ? STATUS_OK : STATUS_CONFLICT;
}

static void tell_progress(struct demo *demo, const struct cli_view *view, const struct cli_view *before,
                          int64_t *told_ms)
{
    int64_t now_ms = cli_now_ms();
    bool news = view->verdict_ms != before->verdict_ms || strcmp(view->state, before->state) != 0;
    if (!news && now_ms - *told_ms < DEMO_LINE_EVERY_MS)
        return;
    *told_ms = now_ms;
    char line[1024];
    struct text text = text_over(line, sizeof line);
    text_add(&text, SLICE("  "));
    cli_view_line(view, now_ms, &text);
    tell(demo, line);
    if (view->has_verdict && view->verdict_ms != before->verdict_ms)
        tell(demo, view->verdict);
}

// Starts the rollout and follows it to its end. STATUS_OK with the last view.
static enum status act(struct demo *demo, const char *headline, struct cli_view *view)
{
    struct cli_view before = {.name = ""};
    int64_t told_ms = 0;
    int64_t until_ms = cli_now_ms() + DEMO_ACT_MS_MAX;
    tell(demo, headline);
    enum status status = start_rollout(demo);
    while (status == STATUS_OK) {
        status = ask_view(demo, view);
        if (status != STATUS_OK)
            break;
        if (demo->screen != NULL)
            show(demo, headline, view);
        else
            tell_progress(demo, view, &before, &told_ms);
        before = *view;
        if (cli_view_final(view))
            return STATUS_OK;
        if (!wait_a_moment(demo, DEMO_POLL_MS))
            return STATUS_CANCELLED;
        if (cli_now_ms() > until_ms)
            return STATUS_TIMEOUT;
    }
    return status;
}

static uint64_t ask_switch_us(struct demo *demo)
{
    unsigned http;
    json_t *answer;
    if (cli_client_get(demo->client, "/v1/status", &http, &answer) != STATUS_OK)
        return 0;
    json_int_t us = json_integer_value(json_object_get(json_object_get(answer, "table"), "switch_us_max"));
    json_decref(answer);
    return (uint64_t)us;
}

static enum status warm_up(struct demo *demo)
{
    for (int i = 0; i < 10; i++) {
        struct cli_view view;
        enum status status = ask_view(demo, &view);
        if (status != STATUS_OK)
            return status;
        if (demo->screen != NULL)
            show(demo, "All traffic is on v1. v2 is deployed and gets none yet.", &view);
        if (!wait_a_moment(demo, DEMO_POLL_MS))
            return STATUS_CANCELLED;
    }
    return STATUS_OK;
}

static enum status story(struct demo *demo)
{
    tell(demo, "All traffic is on v1. v2 is deployed and gets none yet.");
    enum status status = warm_up(demo);
    if (status != STATUS_OK)
        return status;
    status = act(demo, "Act 1: v2 is shipped. It has 2 % errors and a slow tail, and nobody knows.",
                 &demo->rolled_back);
    if (status != STATUS_OK)
        return status;
    if (strcmp(demo->rolled_back.outcome, "rolled back") != 0)
        return STATUS_MISMATCH;
    if (demo->screen != NULL)
        show(demo, "Act 1 is over: v2 was taken back, and here is why. Act 2 follows.", &demo->rolled_back);
    if (!wait_a_moment(demo, DEMO_PAUSE_MS))
        return STATUS_CANCELLED;
    // After the pause, so that a request that came late would be seen.
    world_do(demo, order_counts);
    demo->back_requests_ms = demo->v2_last_ms - demo->rolled_back.verdict_ms;
    world_do(demo, order_repair);
    status = act(demo, "Act 2: v2 is repaired and shipped again.", &demo->completed);
    if (status != STATUS_OK)
        return status;
    if (strcmp(demo->completed.outcome, "completed") != 0)
        return STATUS_MISMATCH;
    demo->switch_us = ask_switch_us(demo);
    (void)wait_a_moment(demo, DEMO_PAUSE_MS / 2);
    return STATUS_OK;
}

// ---- the end ----

static bool replay_equal(const struct demo *demo, uint64_t *entries, uint64_t *decisions)
{
    char path[96];
    snprintf(path, sizeof path, "%s/demo.db", demo->directory);
    struct fault problem;
    struct journal *journal;
    if (journal_open(path, JOURNAL_READ, &journal, &problem) != STATUS_OK)
        return false;
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    bool equal = false;
    if (replay != NULL) {
        equal = engine_replay_run(journal, replay, &problem) == STATUS_OK && !replay->differs;
        *entries = replay->entries;
        *decisions = replay->decisions;
        engine_replay_deinit(replay);
    }
    heap_free(replay);
    journal_close(journal);
    return equal;
}

static void add_failures(const struct load_totals *totals, struct text *text)
{
    for (int i = 0; i < LOAD_FAILURES; i++)
        if (i != LOAD_FAILED_STATUS && totals->failures[i] > 0)
            text_addf(text, " (%s %" PRIu64 ")", load_failure_name((enum load_failure)i),
                      totals->failures[i]);
}

static int sum_up(struct demo *demo, enum status status)
{
    FILE *out = demo->call->out;
    const struct load_totals *totals = &demo->totals;
    uint64_t said_by_origins = demo->v1_counts.errors + demo->v2_counts.errors;
    uint64_t by_status = totals->failures[LOAD_FAILED_STATUS];
    uint64_t otherwise = totals->failed - by_status;
    uint64_t entries = 0, decisions = 0;
    bool equal = replay_equal(demo, &entries, &decisions);
    char kinds[256];
    struct text text = text_over(kinds, sizeof kinds);
    add_failures(totals, &text);
    fprintf(out, "\nWhat was seen:\n");
    if (demo->rolled_back.has_verdict)
        fprintf(out, "%s\n", demo->rolled_back.verdict);
    if (status == STATUS_OK && demo->back_requests_ms <= 0)
        fprintf(out, "  no request reached v2 after that moment");
    else if (status == STATUS_OK)
        fprintf(out, "  the last request reached v2 %" PRId64 " ms after that moment",
                demo->back_requests_ms);
    if (status == STATUS_OK)
        fprintf(out, "; every worker had each new routing table within %.2f ms\n",
                (double)demo->switch_us / 1000.0);
    if (demo->completed.has_verdict)
        fprintf(out, "%s\n", demo->completed.verdict);
    fprintf(out,
            "  %" PRIu64 " requests: %" PRIu64 " got a server error, %" PRIu64
            " of them said by the origins themselves; %" PRIu64 " failed in any other way%s\n",
            totals->scheduled, by_status, said_by_origins, otherwise, kinds);
    fprintf(out, "  journal: %" PRIu64 " entries, %" PRIu64 " decisions, %s\n", entries, decisions,
            equal ? "each derived again and found the same" : "NOT found the same when derived again");
    bool as_told = status == STATUS_OK && equal && otherwise == 0 && by_status == said_by_origins;
    if (status == STATUS_TIMEOUT)
        fprintf(out, "  The machine was too busy: an act did not end within %d s.\n", DEMO_ACT_MS_MAX / 1000);
    else if (status == STATUS_MISMATCH)
        fprintf(out, "  The verdict was not the one expected.\n");
    fprintf(out, "\nYour own service: sluice init, then sluice serve sluice.yaml\n");
    return as_told || status == STATUS_CANCELLED ? CLI_EXIT_OK : CLI_EXIT_NO;
}

static void remove_files(const struct demo *demo)
{
    static const char *const names[] = {"demo.db", "demo.db-wal", "demo.db-shm", "demo.db-lock",
                                        "demo.db.lock"};
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", demo->directory, names[i]);
        (void)!unlink(path);
    }
    (void)!rmdir(demo->directory);
}

static int play(struct demo *demo)
{
    if (!cli_given(demo->call, "plain"))
        demo->screen = cli_screen_open(demo->call->out);
    enum status status = story(demo);
    cli_screen_close(demo->screen);
    demo->screen = NULL;
    if (status != STATUS_OK && status != STATUS_CANCELLED && status != STATUS_TIMEOUT &&
        status != STATUS_MISMATCH)
        fprintf(demo->call->err, "sluice demo: the daemon no longer answers (%s)\n", status_name(status));
    world_do(demo, order_stop);
    usleep(500000);
    world_do(demo, order_counts);
    atomic_store(&demo->world_over, true);
    pthread_join(demo->world_thread, NULL);
    io_loop_post(demo->daemon.loop, &demo->stop_task);
    pthread_join(demo->engine_thread, NULL);
    serve_end(&demo->daemon);
    return sum_up(demo, status);
}

static int demo_run(struct demo *demo)
{
    snprintf(demo->directory, sizeof demo->directory, "/tmp/sluice-demo-XXXXXX");
    demo->frame = heap_alloc(1, CLI_VIEW_FRAME_BYTES);
    if (demo->frame == NULL || mkdtemp(demo->directory) == NULL) {
        fprintf(demo->call->err, "sluice demo: no directory can be made in /tmp\n");
        return CLI_EXIT_START;
    }
    enum status status = world_make(demo);
    int code = CLI_EXIT_START;
    if (status != STATUS_OK)
        fprintf(demo->call->err, "sluice demo: the origins cannot start: %s\n", status_name(status));
    else
        code = daemon_start(demo);
    if (code == CLI_EXIT_OK && world_start(demo) != STATUS_OK) {
        fprintf(demo->call->err, "sluice demo: the load cannot start\n");
        io_loop_post(demo->daemon.loop, &demo->stop_task);
        pthread_join(demo->engine_thread, NULL);
        serve_end(&demo->daemon);
        code = CLI_EXIT_START;
    } else if (code == CLI_EXIT_OK) {
        code = play(demo);
    }
    cli_client_close(demo->client);
    world_end(demo);
    remove_files(demo);
    return code;
}

int cli_run_demo(const struct cli_call *call)
{
    struct demo *demo = heap_alloc(1, sizeof *demo);
    if (demo == NULL)
        return CLI_EXIT_START;
    demo->call = call;
    int code = CLI_EXIT_USAGE;
    if (cli_value_number(call, "rate", DEMO_RATE_DEFAULT, &demo->rate) == STATUS_OK) {
        serve_raise_descriptors();
        signal(SIGPIPE, SIG_IGN);
        code = demo_run(demo);
    }
    heap_free(demo->frame);
    heap_free(demo);
    return code;
}
