// SPDX-License-Identifier: Apache-2.0
// store: power lost before every single operation of a scripted run, with unsynced sectors kept, lost or
// torn. What a full commit reported is there.
#include "store_script.h"
#include "test.h"

EACH_TEST(setup, teardown);

// The file is made while the power is on: a first start that loses it has nothing to keep. It is the same for
// every loss of a script, so it is made once and put back.
struct beginning {
    struct progress progress;
    size_t len;
    uint8_t bytes[1 << 20];
};

static struct beginning beginning;

static void make_beginning(const struct script *script)
{
    remove_files();
    beginning.progress = (struct progress){0};
    run_part(script, (uint64_t)script->per_commit * 4, &beginning.progress);
    assert_true(beginning.progress.finished);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    beginning.len = fread(beginning.bytes, 1, sizeof beginning.bytes, file);
    assert_true(feof(file));
    fclose(file);
}

static void put_beginning(void)
{
    remove_files();
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(beginning.bytes, 1, beginning.len, file), beginning.len);
    assert_int_equal(fclose(file), 0);
}

static void one_crash(const struct script *script, uint64_t off_at, enum fault_vfs_keep keep, bool *went_off)
{
    put_beginning();
    char when[96];
    snprintf(when, sizeof when, "power off at operation %llu, keep %d", (unsigned long long)off_at,
             (int)keep);
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    const struct progress first = beginning.progress;
    fault_vfs_set(&(struct fault_vfs_plan){.off_at = off_at});
    struct progress progress = run_script(script);
    if (progress.durable < first.durable)
        progress.durable = first.durable;
    *went_off = fault_vfs_counts_get().off;
    assert_int_equal(fault_vfs_crash(keep, off_at * 3 + (uint64_t)keep), STATUS_OK);
    fault_vfs_remove();
    char name[128];
    snprintf(name, sizeof name, "%s-shm", path);
    unlink(name); // memory of the machine that went off
    uint64_t count = read_back(script, when);
    if (count < progress.durable)
        fail_msg("%s: %llu entries were durable, %llu are there", when, (unsigned long long)progress.durable,
                 (unsigned long long)count);
    if (count > progress.reported + (uint64_t)script->per_commit && progress.reported >= first.reported)
        fail_msg("%s: %llu entries were reported, %llu are there", when,
                 (unsigned long long)progress.reported, (unsigned long long)count);
}

TEST(power_lost_before_every_operation)
{
    static const struct script SMALL = {.entries = 60, .per_commit = 2, .bytes = 900};
    int points = 0;
    make_beginning(&SMALL);
    for (int keep = FAULT_VFS_KEEP_NONE; keep <= FAULT_VFS_KEEP_RANDOM; keep++) {
        bool went_off = true;
        for (uint64_t at = 1; went_off; at++, points++)
            one_crash(&SMALL, at, (enum fault_vfs_keep)keep, &went_off);
    }
    print_message("%d losses of power\n", points);
    assert_true(points > 300);
}

// Large enough that the log is folded into the file several times on the way.
TEST(power_lost_around_checkpoints)
{
    static const struct script LARGE = {.entries = 280, .per_commit = 2, .bytes = 60000};
    int points = 0;
    bool went_off = true;
    make_beginning(&LARGE);
    for (uint64_t at = 997; went_off; at += 997, points++)
        one_crash(&LARGE, at, FAULT_VFS_KEEP_RANDOM, &went_off);
    print_message("%d losses of power\n", points);
    assert_true(points > 5);
}
