// SPDX-License-Identifier: Apache-2.0
// targets: what a later version may write into the journal is refused by name, whichever part of an entry is
// new, and the daemon does not start on half of it.
#include "targets_bench.h"

#include "ship/engine/replay.h"

enum { PAYLOAD_BYTES = 16384 };

static struct rollout_spec spec_of_bench(struct bench *bench)
{
    return *bench_rollout(bench).spec;
}

static void append(struct bench *bench, enum journal_kind kind, const uint8_t *data, size_t len)
{
    struct journal *journal;
    struct fault fault;
    struct journal_entry entry = {
        .time_ms = 1, .kind = kind, .run = 1, .subject = "ship", .payload = {(const char *)data, len}};
    assert_int_equal(journal_open(bench->path, JOURNAL_WRITE, &journal, &fault), STATUS_OK);
    assert_int_equal(journal_begin(journal, JOURNAL_SYNC_NORMAL, &fault), STATUS_OK);
    assert_int_equal(journal_append(journal, &entry, NULL, &fault), STATUS_OK);
    assert_int_equal(journal_commit(journal, &fault), STATUS_OK);
    journal_close(journal);
}

// A whole journal ends in an entry of that payload: the daemon names it and stays away.
static void expect_refused(enum journal_kind kind, const uint8_t *data, size_t len)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    bench_down(&bench);
    append(&bench, kind, data, len);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_UNSUPPORTED);
    if (strstr(bench.fault.text, "(ship) was written by a newer version of sluice") == NULL)
        fail_msg("%s", bench.fault.text);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(a_newer_input)
{
    uint8_t data[PAYLOAD_BYTES];
    struct wire_writer writer = {.data = data, .cap = sizeof data};
    wire_put_u64(&writer, 1000);
    expect_refused(JOURNAL_INPUT, data, writer.len);
}

TEST(a_newer_specification)
{
    uint8_t data[PAYLOAD_BYTES];
    struct wire_writer writer = {.data = data, .cap = sizeof data};
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    struct rollout_spec spec = spec_of_bench(&bench);
    bench_down(&bench);
    bench_forget(&bench);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = 1, .spec = &spec};
    rollout_input_encode(&input, &writer);
    size_t version_at = 3; // after the input's own version, kind and time, a byte each
    assert_int_equal(data[version_at], 4);
    data[version_at] = 5;
    expect_refused(JOURNAL_INPUT, data, writer.len);
}

TEST(a_newer_decision)
{
    uint8_t data[PAYLOAD_BYTES];
    struct wire_writer writer = {.data = data, .cap = sizeof data};
    wire_put_u64(&writer, 2);
    expect_refused(JOURNAL_DECISION, data, writer.len);
}

TEST(a_newer_change_of_a_flag)
{
    uint8_t data[PAYLOAD_BYTES];
    struct wire_writer writer = {.data = data, .cap = sizeof data};
    wire_put_u64(&writer, 2);
    expect_refused(JOURNAL_FLAG, data, writer.len);
}

TEST(an_entry_of_an_unknown_kind)
{
    expect_refused((enum journal_kind)(JOURNAL_FORGOTTEN + 1), (const uint8_t *)"", 0);
}
