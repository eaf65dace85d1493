// SPDX-License-Identifier: Apache-2.0
// control: while a decision waits for the journal, no table shows it, whatever the table is built for. (Found
// by the simulated daemon: a file read again while the disk was failing put an unrecorded weight in force.)
#include <unistd.h>

#include "failing_disk.h"
#include "folder.h"
#include "net/io/sim.h"
#include "net/proxy/proxy_private.h"
#include "ship/targets/targets.h"
#include "test.h"

static const char YAML[] = "listen: [10.0.0.9:80]\n"
                           "services:\n"
                           "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80]}, stable: v1}\n"
                           "rollouts:\n"
                           "  ship:\n"
                           "    service: shop\n"
                           "    to: v2\n"
                           "    stages: [{weight: 10%}, {weight: 50%}, {weight: 100%}]\n"
                           "    checks: {latency: off}\n";

EACH_TEST(NULL, disk_heals);

static bool automatic;

struct daemon {
    char path[FOLDER_PATH_BYTES];
    struct io_sim *sim;
    struct io_loop *loop;
    struct proxy *proxy;
    struct journal *journal;
    struct targets *targets;
    struct engine *engine;
    struct log log;
};

static struct config *read_file(void)
{
    static struct config_errors errors;
    struct config *config = NULL;
    char yaml[sizeof YAML + 32];
    snprintf(yaml, sizeof yaml, "%s%s", YAML, automatic ? "    start: auto\n" : "");
    assert_int_equal(config_load_text("t.yaml", slice_of(yaml), &config, &errors), STATUS_OK);
    return config;
}

static void process_start(struct daemon *daemon)
{
    struct io_sim_config world = {.seed = 1, .latency_us_min = 1, .latency_us_max = 1};
    struct proxy_config proxy = {.workers = 1};
    struct fault problem;
    static struct fault fault;
    assert_int_equal(io_sim_create(&world, &daemon->sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(daemon->sim, &daemon->loop), STATUS_OK);
    assert_int_equal(proxy_create(&proxy, &daemon->proxy), STATUS_OK);
    assert_int_equal(journal_open(daemon->path, JOURNAL_WRITE, &daemon->journal, &problem), STATUS_OK);
    log_init(&daemon->log, NULL, false, LOG_INFO);
    struct targets_parts parts = {
        .config = read_file(),
        .loop = daemon->loop,
        .proxy = daemon->proxy,
        .journal = daemon->journal,
        .log = &daemon->log,
        .workers = 1,
    };
    assert_int_equal(targets_create(&parts, &daemon->targets, &fault), STATUS_OK);
    daemon->engine = daemon->targets->engine;
}

static void daemon_start(struct daemon *daemon)
{
    snprintf(daemon->path, sizeof daemon->path, "%s/sluice-owed-%s.db", folder_root(), folder_mark());
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    process_start(daemon);
}

static void process_end(struct daemon *daemon)
{
    targets_destroy(daemon->targets);
    proxy_stop(daemon->proxy);
    proxy_destroy(daemon->proxy);
    journal_close(daemon->journal);
    io_loop_destroy(daemon->loop);
    io_sim_destroy(daemon->sim);
}

static void daemon_end(struct daemon *daemon)
{
    process_end(daemon);
    fault_vfs_remove();
    folder_remove_journal(daemon->path);
}

static enum status command(struct daemon *daemon, enum rollout_command what)
{
    static struct fault fault;
    return engine_command(daemon->engine, "ship", what, "me", "here", &fault);
}

static uint32_t weight_in_force(const struct daemon *daemon)
{
    return daemon->proxy->newest->services[0].weight;
}

// The disk fills up at every write of a promotion in turn: of those, some leave the decision owed.
TEST(reload_shows_nothing_owed)
{
    int owed = 0;
    bool promoted = false;
    for (uint64_t n = 1; n < 200 && !promoted; n++) {
        struct daemon daemon;
        static struct fault fault;
        daemon_start(&daemon);
        assert_int_equal(command(&daemon, ROLLOUT_COMMAND_START), STATUS_OK);
        assert_int_equal(weight_in_force(&daemon), 10000);
        fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = n, .write_fails_count = UINT64_MAX / 2});
        uint64_t entries = journal_count(daemon.journal);
        promoted = command(&daemon, ROLLOUT_COMMAND_PROMOTE) == STATUS_OK;
        owed += !promoted && journal_count(daemon.journal) > entries;
        struct config *again = read_file();
        if (engine_reload(daemon.engine, again, &fault) != STATUS_OK)
            config_destroy(again);
        assert_int_equal(weight_in_force(&daemon), promoted ? 50000 : 10000);
        // The disk has room again: what was owed comes first, then the next word.
        bool was_owed = !promoted && journal_count(daemon.journal) > entries;
        fault_vfs_set(&(struct fault_vfs_plan){0});
        assert_int_equal(command(&daemon, ROLLOUT_COMMAND_PAUSE), STATUS_OK);
        assert_int_equal(weight_in_force(&daemon), promoted || was_owed ? 50000 : 10000);
        daemon_end(&daemon);
    }
    assert_true(promoted);
    assert_true(owed > 0);
}

// `start: auto` must hold though the first process dies at any write of starting it.
TEST(automatic_start_is_finished)
{
    bool started = false;
    int half_done = 0;
    for (uint64_t n = 1; n < 200 && !started; n++) {
        struct daemon daemon;
        automatic = true;
        daemon_start(&daemon);
        fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = n, .write_fails_count = UINT64_MAX / 2});
        uint64_t entries = journal_count(daemon.journal);
        engine_start(daemon.engine);
        started = weight_in_force(&daemon) == 10000;
        half_done += !started && journal_count(daemon.journal) > entries;
        fault_vfs_set(&(struct fault_vfs_plan){0});
        process_end(&daemon);
        process_start(&daemon);
        engine_start(daemon.engine);
        assert_int_equal(weight_in_force(&daemon), 10000);
        daemon_end(&daemon);
        automatic = false;
    }
    assert_true(started);
    assert_true(half_done > 0);
}
