// SPDX-License-Identifier: Apache-2.0
// load: every scheduled request ends as an answer or a named failure; latency counts from the schedule; the
// origin errs and misbehaves as told; access logs become safe request lists.
#include "net/io/sim.h"
#include "operate/load/load.h"
#include "operate/load/origin.h"
#include "test.h"

struct run {
    struct load_origin_options origin;
    struct load_config load;
    struct io_sim_config sim;
    struct load_totals totals;
    struct load_origin_counts counts;
};

// Runs origin and load in one simulated world until the load is done.
static void run_sim(struct run *run)
{
    struct io_sim *sim = NULL;
    struct io_loop *origin_loop = NULL, *load_loop = NULL;
    struct load_origin *origin = NULL;
    struct load *load = NULL;
    struct io_addr addr;
    if (run->sim.latency_us_max == 0)
        run->sim.latency_us_min = run->sim.latency_us_max = 100;
    assert_int_equal(io_sim_create(&run->sim, &sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(sim, &origin_loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(sim, &load_loop), STATUS_OK);
    assert_int_equal(io_addr_parse("10.0.0.1:80", &addr), STATUS_OK);
    assert_int_equal(load_origin_create(origin_loop, &addr, &run->origin, &origin), STATUS_OK);
    run->load.to = addr;
    assert_int_equal(load_create(load_loop, &run->load, &load), STATUS_OK);
    for (uint64_t at = 0; !load_done(load) && at < 200000000; at += 100000)
        io_sim_run(sim, io_sim_now_us(sim) + 100000);
    assert_true(load_done(load));
    run->totals = *load_totals(load);
    run->counts = *load_origin_counts(origin);
    load_close(load);
    load_origin_close(origin);
    io_sim_run(sim, io_sim_now_us(sim) + 1000000);
    assert_true(load_closed(load));
    assert_true(load_origin_closed(origin));
    load_destroy(load);
    load_origin_destroy(origin);
    io_loop_destroy(load_loop);
    io_loop_destroy(origin_loop);
    io_sim_destroy(sim);
    const struct load_totals *t = &run->totals;
    assert_int_equal(t->scheduled, t->answers + t->failed - t->failures[LOAD_FAILED_STATUS] + t->pending);
    assert_int_equal(t->pending, 0);
}

static struct run plain(void)
{
    return (struct run){.origin = {.version = "v1", .body_bytes = 100, .seed = 1},
                        .load = {.rate = 1000, .duration_us = 5000000, .seed = 2, .timeout_us = 2000000},
                        .sim = {.seed = 3}};
}

TEST(plain)
{
    static struct run run;
    run = plain();
    run_sim(&run);
    assert_in_range(run.totals.scheduled, 4999, 5001);
    assert_int_equal(run.totals.answers, run.totals.scheduled);
    assert_int_equal(run.totals.failed, 0);
    assert_int_equal(run.totals.mismatched, 0);
    assert_int_equal(run.counts.requests, run.totals.scheduled);
    assert_int_equal(run.totals.version_count, 1);
    assert_string_equal(run.totals.versions[0].name, "v1");
    // Connections are kept: far fewer than requests.
    assert_true(run.totals.connections_opened < 50);
}

TEST(errors_and_latency)
{
    static struct run run;
    run = plain();
    run.origin.error_share = 0.1;
    run.origin.latency_us = 20000;
    run.origin.latency_sigma = 0.3;
    run.load.poisson = true;
    run_sim(&run);
    assert_in_range(run.totals.failures[LOAD_FAILED_STATUS], 400, 600);
    assert_int_equal(run.totals.failures[LOAD_FAILED_STATUS], run.counts.errors);
    assert_int_equal(run.totals.failed, run.counts.errors);
    uint64_t p50 = stats_histogram_quantile(&run.totals.latency_us, 0.5);
    assert_in_range(p50, 19000, 23000);
    assert_true(stats_histogram_quantile(&run.totals.latency_us, 0.99) > 35000);
}

// One connection and an origin that takes 10 ms: at 200 per second half of the requests must wait ever
// longer, and the wait must show in the latency. A closed loop would report 10 ms.
TEST(stalls_are_admitted)
{
    static struct run run;
    run = plain();
    run.origin.latency_us = 10000;
    run.load.rate = 200;
    run.load.duration_us = 2000000;
    run.load.connections_max = 1;
    run.load.timeout_us = 60000000;
    run_sim(&run);
    assert_int_equal(run.totals.failed, 0);
    assert_true(stats_histogram_quantile(&run.totals.latency_us, 0.5) > 300000);
}

TEST(misbehaviour)
{
    static const struct {
        enum load_origin_behaviour behaviour;
        enum load_failure failure;
    } CASES[] = {
        {LOAD_ORIGIN_REFUSES, LOAD_FAILED_RESET},
        {LOAD_ORIGIN_GARBAGE, LOAD_FAILED_FRAMING},
        {LOAD_ORIGIN_STALLS, LOAD_FAILED_TIMEOUT},
        {LOAD_ORIGIN_CUTS, LOAD_FAILED_RESET},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        static struct run run;
        run = plain();
        run.origin.behaviour = CASES[i].behaviour;
        run.load.rate = 100;
        run.load.duration_us = 1000000;
        run_sim(&run);
        assert_int_equal(run.totals.answers, 0);
        assert_int_equal(run.totals.failures[CASES[i].failure], run.totals.scheduled);
    }
}

TEST(faulty_network)
{
    static struct run run, again;
    run = plain();
    run.sim = (struct io_sim_config){.seed = 9,
                                     .latency_us_min = 50,
                                     .latency_us_max = 3000,
                                     .stall_ppm = 10000,
                                     .stall_us_max = 200000,
                                     .reset_ppm = 3000,
                                     .refuse_ppm = 50000,
                                     .fragment_ppm = 300000};
    again = run;
    run_sim(&run);
    assert_true(run.totals.retried > 10 && run.totals.answers > 4000);
    run_sim(&again);
    assert_int_equal(again.totals.answers, run.totals.answers);
    assert_int_equal(again.totals.retried, run.totals.retried);
    assert_int_equal(again.totals.latency_us.sum, run.totals.latency_us.sum);
}

TEST(epoll)
{
    struct io_loop *loop = NULL;
    struct io_loop_config config = {.kind = IO_KIND_EPOLL};
    struct load_origin *origin = NULL;
    struct load *load = NULL;
    struct load_origin_options options = {
        .version = "v2", .latency_us = 2000, .seed = 1, .body_bytes = 16000};
    struct load_config k = {.rate = 500, .duration_us = 500000, .seed = 2};
    assert_int_equal(io_loop_create(&config, &loop), STATUS_OK);
    assert_int_equal(io_addr_parse("127.0.0.1:0", &k.to), STATUS_OK);
    assert_int_equal(load_origin_create(loop, &k.to, &options, &origin), STATUS_OK);
    load_origin_addr(origin, &k.to);
    assert_int_equal(load_create(loop, &k, &load), STATUS_OK);
    while (!load_done(load))
        assert_int_equal(io_loop_turn(loop, 100000), STATUS_OK);
    assert_int_equal(load_totals(load)->failed, 0);
    assert_in_range(load_totals(load)->answers, 249, 251);
    assert_true(stats_histogram_quantile(&load_totals(load)->latency_us, 0.5) >= 2000);
    load_close(load);
    load_origin_close(origin);
    while (!load_closed(load) || !load_origin_closed(origin))
        assert_int_equal(io_loop_turn(loop, 10000), STATUS_OK);
    load_destroy(load);
    load_origin_destroy(origin);
    io_loop_destroy(loop);
}

TEST(bad_configs)
{
    struct io_loop *loop = NULL;
    struct io_loop_config config = {.kind = IO_KIND_EPOLL};
    struct load *load = NULL;
    assert_int_equal(io_loop_create(&config, &loop), STATUS_OK);
    struct load_config k = {.rate = 0, .duration_us = 1};
    assert_int_equal(load_create(loop, &k, &load), STATUS_RANGE);
    k.rate = -5;
    assert_int_equal(load_create(loop, &k, &load), STATUS_RANGE);
    k.rate = 1e300;
    assert_int_equal(load_create(loop, &k, &load), STATUS_RANGE);
    static char long_value[40000];
    memset(long_value, 'x', sizeof long_value - 1);
    struct load_header header = {"x", long_value};
    k.rate = 1;
    k.headers = &header;
    k.header_count = 1;
    assert_int_equal(load_create(loop, &k, &load), STATUS_RANGE);
    io_loop_destroy(loop);
}

TEST(log)
{
    static const char TEXT[] = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET /a/b.png?q=1 HTTP/1.1\" 200 "
                               "12 \"http://r/\" \"Agent (x; y)\"\n"
                               "5.6.7.8 - - [t] \"HEAD / HTTP/1.0\" 304 - \"-\" \"-\"\r\n"
                               "9.9.9.9 - - [t] \"POST /order HTTP/1.1\" 200 1 \"-\" \"x\"\n"
                               "9.9.9.9 - - [t] \"GET http://elsewhere/ HTTP/1.1\" 200 1 \"-\" \"x\"\n"
                               "9.9.9.9 - - [t] \"GET /b\x80\x81 HTTP/1.1\" 200 1 \"-\" \"x\"\n"
                               "not a log line at all\n\n"
                               "7.7.7.7 - - [t] \"GET /last HTTP/1.1\" 200 1";
    struct load_log log;
    assert_int_equal(load_log_parse((struct slice){TEXT, sizeof TEXT - 1}, &log), STATUS_OK);
    assert_int_equal(log.count, 3);
    assert_string_equal(log.requests[0].method, "GET");
    assert_string_equal(log.requests[0].path, "/a/b.png?q=1");
    assert_string_equal(log.requests[0].agent, "Agent (x; y)");
    assert_string_equal(log.requests[0].session, "1.2.3.4");
    assert_string_equal(log.requests[1].method, "HEAD");
    assert_null(log.requests[1].agent);
    assert_string_equal(log.requests[2].path, "/last");
    assert_int_equal(log.skipped_method, 1);
    assert_int_equal(log.skipped_target, 2);
    assert_int_equal(log.skipped_malformed, 1);
    load_log_free(&log);
    assert_int_equal(load_log_parse(SLICE("nothing here"), &log), STATUS_INVALID);
    assert_int_equal(load_log_parse(SLICE(""), &log), STATUS_INVALID);
}
