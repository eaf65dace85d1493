// SPDX-License-Identifier: Apache-2.0
// The daemon under its signals. One small thread waits for signals and posts them to the engine's loop, which
// alone acts on them.
#include "base/check.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "daemon/supervise/supervise.h"
#include "net/io/loop.h"
#include "net/proxy/proxy.h"
#include "operate/log/log.h"
#include "ship/engine/engine.h"

enum { SERVE_DRAIN_MS_MAX = 30000 };

static void on_stop(struct io_task *task)
{
    struct serve *serve = CONTAINER_OF(task, struct serve, stop_task);
    uint64_t drain_ms = engine_config(serve->engine)->timeouts.drain_ms;
    atomic_store(&serve->stop_posted, false);
    engine_shutdown(serve->engine, drain_ms < SERVE_DRAIN_MS_MAX ? drain_ms : SERVE_DRAIN_MS_MAX,
                    serve_stopped, serve);
}

static void on_reload(struct io_task *task)
{
    struct serve *serve = CONTAINER_OF(task, struct serve, reload_task);
    atomic_store(&serve->reload_posted, false);
    char storage[64];
    struct text told = text_over(storage, sizeof storage);
    (void)serve_reload(serve, &told); // the log says it whole
}

// The journal and what answers operators and SDKs go to another process; what is connected is served on.
static void on_retire(struct io_task *task)
{
    struct serve *serve = CONTAINER_OF(task, struct serve, retire_task);
    log_write(serve->options.log, LOG_INFO, "another process takes over", NULL, 0);
    engine_retire(serve->engine);
    serve_evaluation_part.close(serve);
    serve_api_part.close(serve);
    serve_journal_part.close(serve);
    on_stop(&serve->stop_task);
    supervise_retired();
}

// A task's storage is the loop's until it has run, so a signal that comes twice meanwhile counts once.
static void post_once(struct serve *serve, atomic_bool *posted, struct io_task *task)
{
    if (!atomic_exchange(posted, true))
        io_loop_post(serve->loop, task);
}

static void *wait_for_signals(void *context)
{
    struct serve *serve = context;
    for (;;) {
        int number = 0;
        if (sigwait(&serve->signals, &number) != 0 || atomic_load(&serve->over))
            return NULL;
        if (number == SIGHUP)
            post_once(serve, &serve->reload_posted, &serve->reload_task);
        else if (number != SIGUSR1)
            post_once(serve, &serve->stop_posted, &serve->stop_task);
    }
}

// ---- the supervisor's questions, on its thread ----

static uint64_t stalled_ms(void *context)
{
    struct serve *serve = context;
    return proxy_stalled_ms(serve->proxy, io_loop_clock_us(serve->loop) / 1000);
}

static void retire(void *context)
{
    struct serve *serve = context;
    post_once(serve, &serve->retire_posted, &serve->retire_task);
}

static void end(void *context)
{
    struct serve *serve = context;
    log_write(serve->options.log, LOG_ERROR, "the supervisor has gone", NULL, 0);
    post_once(serve, &serve->stop_posted, &serve->stop_task);
}

static void say_started(struct serve *serve)
{
    const struct config *config = engine_config(serve->engine);
    char listening[IO_ADDR_TEXT_BYTES * 4];
    struct text text = text_over(listening, sizeof listening);
    for (uint32_t i = 0; i < config->listen_count; i++) {
        struct io_addr addr;
        char one[IO_ADDR_TEXT_BYTES];
        proxy_listen_addr(serve->proxy, i, &addr);
        io_addr_format(&addr, one);
        text_addf(&text, "%s%s", i > 0 ? "," : "", one);
    }
    struct io_addr admin;
    char admin_text[IO_ADDR_TEXT_BYTES];
    api_addr(serve->api, &admin);
    io_addr_format(&admin, admin_text);
    struct io_addr flags;
    char flags_text[IO_ADDR_TEXT_BYTES] = "";
    if (serve_evaluation_addr(serve, &flags))
        io_addr_format(&flags, flags_text);
    log_write(serve->options.log, LOG_INFO, "serving",
              LOG_FIELDS(LOG_TEXT("version", SLUICE_VERSION), LOG_TEXT("listen", listening),
                         LOG_TEXT("admin", admin_text), LOG_TEXT("flags", flags_text),
                         LOG_NUMBER("workers", serve->workers), LOG_TEXT("journal", config->journal)));
}

enum serve_outcome serve_under_signals(struct serve *serve, const struct serve_options *options,
                                       const char *path)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1); // ends the thread
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    enum serve_outcome outcome = serve_start(serve, options);
    if (outcome != SERVE_OK)
        return outcome;
    serve->path = path;
    serve->signals = signals;
    serve->stop_task.run = on_stop;
    serve->reload_task.run = on_reload;
    serve->retire_task.run = on_retire;
    CHECK(pthread_create(&serve->thread, NULL, wait_for_signals, serve) == 0);
    serve_say_notes(serve, engine_config(serve->engine));
    say_started(serve);
    const struct supervise_watch watch = {
        .context = serve, .stalled_ms = stalled_ms, .retire = retire, .end = end};
    if (options->begin != NULL)
        supervise_serving(&watch);
    serve_run(serve);
    supervise_leave();
    atomic_store(&serve->over, true);
    pthread_kill(serve->thread, SIGUSR1);
    pthread_join(serve->thread, NULL);
    serve_end(serve);
    log_write(options->log, LOG_INFO, "stopped; the journal is closed and the next start goes on from it",
              NULL, 0);
    return SERVE_OK;
}
