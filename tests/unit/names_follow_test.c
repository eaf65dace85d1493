// SPDX-License-Identifier: Apache-2.0
// Names followed against a name server that answers, changes, fails, falls silent and lies.
#include <stdlib.h>
#include <time.h>

#include "base/heap.h"
#include "names_world.h"
#include "net/names/names_private.h"

enum { TEN = 10 << 24 }; // 10.0.0.0

static struct world world;
static struct names *names;

static void begin(void)
{
    const struct names_config config = {.resolv_conf = NULL};
    world_open(&world);
    assert_int_equal(names_create(&config, &names), STATUS_OK);
}

static void end(void)
{
    names_destroy(names);
    world_close(&world);
}

static void want(const char *const *texts, uint32_t count)
{
    assert_int_equal(names_want(names, texts, count, world.servers), STATUS_OK);
}

static void want_one(const char *text)
{
    want(&text, 1);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// The addresses as text, as soon as state and count are these; fails the test rather than hang.
static const struct names_answer *wait_for(const char *text, enum names_state state, uint32_t count)
{
    uint64_t until_ms = now_ms() + WORLD_WAIT_MS;
    for (;;) {
        (void)names_take(names);
        const struct names_answer *answer = names_find(names, text);
        if (answer != NULL && answer->state == state && answer->address_count == count)
            return answer;
        if (now_ms() > until_ms)
            fail_msg("%s did not become %s with %u addresses; it is %s with %u", text,
                     names_state_name(state), count,
                     answer != NULL ? names_state_name(answer->state) : "not there",
                     answer != NULL ? answer->address_count : 0);
        usleep(2000);
    }
}

static void expect_address(const struct names_answer *answer, uint32_t i, const char *expected)
{
    char text[IO_ADDR_TEXT_BYTES];
    assert_true(i < answer->address_count);
    io_addr_format(&answer->addresses[i], text);
    assert_string_equal(text, expected);
}

static struct world_record a(const char *name, uint32_t address, uint32_t count, uint32_t ttl_s)
{
    struct world_record record = {.type = TYPE_A, .ttl_s = ttl_s, .count = count, .address = address};
    snprintf(record.name, sizeof record.name, "%s", name);
    return record;
}

static struct world_record says(const char *name, int rcode, enum world_way way)
{
    struct world_record record = a(name, TEN + 9, 1, 1);
    record.rcode = rcode;
    record.way = way;
    return record;
}

static struct world_record srv(const char *name, uint16_t priority, const char *target, uint16_t port)
{
    struct world_record record = {
        .type = TYPE_SRV, .ttl_s = 1, .count = 1, .priority = priority, .port = port};
    snprintf(record.name, sizeof record.name, "%s", name);
    snprintf(record.target, sizeof record.target, "%s", target);
    return record;
}

TEST(addresses_are_all_told_and_follow_the_records)
{
    begin();
    WORLD_SAY(&world, a("shop.example", TEN + 1, 2, 1));
    want_one("shop.example:9001");
    names_await(names, 5000);
    assert_true(names_take(names));
    const struct names_answer *answer = names_find(names, "shop.example:9001");
    assert_non_null(answer);
    assert_int_equal(answer->state, NAMES_KNOWN);
    assert_int_equal(answer->before, NAMES_WAITING);
    assert_true(answer->moved);
    assert_int_equal(answer->address_count, 2);
    expect_address(answer, 0, "10.0.0.1:9001");
    expect_address(answer, 1, "10.0.0.2:9001");
    WORLD_SAY(&world, a("shop.example", TEN + 2, 3, 1));
    answer = wait_for("shop.example:9001", NAMES_KNOWN, 3);
    expect_address(answer, 0, "10.0.0.2:9001");
    expect_address(answer, 2, "10.0.0.4:9001");
    assert_true(answer->moved);
    assert_true(names_lookups(names, NAMES_LOOKUP_KNOWN) >= 2);
    end();
}

TEST(a_failing_name_server_takes_no_address_away)
{
    begin();
    WORLD_SAY(&world, a("shop.example", TEN + 1, 2, 1));
    want_one("shop.example:80");
    (void)wait_for("shop.example:80", NAMES_KNOWN, 2);
    WORLD_SAY(&world, says("shop.example", RCODE_SERVFAIL, WAY_ANSWER));
    const struct names_answer *answer = wait_for("shop.example:80", NAMES_FAILING, 2);
    expect_address(answer, 0, "10.0.0.1:80");
    assert_false(answer->moved);
    assert_int_equal(answer->before, NAMES_KNOWN);
    assert_non_null(answer->problem);
    assert_true(answer->good_us > 0);
    WORLD_SAY(&world, a("shop.example", TEN + 5, 1, 1));
    answer = wait_for("shop.example:80", NAMES_KNOWN, 1);
    expect_address(answer, 0, "10.0.0.5:80");
    assert_int_equal(answer->before, NAMES_FAILING);
    assert_null(answer->problem);
    end();
}

TEST(a_name_that_is_gone_is_said_and_keeps_its_addresses)
{
    begin();
    WORLD_SAY(&world, a("shop.example", TEN + 1, 1, 1));
    want_one("shop.example:80");
    (void)wait_for("shop.example:80", NAMES_KNOWN, 1);
    WORLD_SAY(&world, says("shop.example", RCODE_NXDOMAIN, WAY_ANSWER));
    const struct names_answer *answer = wait_for("shop.example:80", NAMES_MISSING, 1);
    assert_string_equal(answer->problem, "there is no such name");
    assert_false(answer->moved);
    struct world_record nothing = a("shop.example", 0, 0, 1);
    WORLD_SAY(&world, nothing);
    uint64_t until_ms = now_ms() + WORLD_WAIT_MS;
    while (strcmp(answer->problem, "the name has no address") != 0 && now_ms() < until_ms) {
        usleep(5000);
        (void)names_take(names);
        answer = names_find(names, "shop.example:80");
    }
    assert_string_equal(answer->problem, "the name has no address");
    expect_address(answer, 0, "10.0.0.1:80");
    end();
}

TEST(a_silent_server_delays_no_other_name_and_no_start)
{
    static const char *const texts[] = {"shop.example:80", "dead.example:80"};
    begin();
    WORLD_SAY(&world, a("shop.example", TEN + 1, 1, 60), says("dead.example", RCODE_OK, WAY_SILENT));
    uint64_t start_ms = now_ms();
    want(texts, 2);
    names_await(names, 500);
    uint64_t took_ms = now_ms() - start_ms;
    assert_true(took_ms >= 490); // and the silent one is still waited for, below
    assert_true(names_take(names));
    assert_int_equal(names_find(names, "shop.example:80")->state, NAMES_KNOWN);
    assert_int_equal(names_find(names, "dead.example:80")->state, NAMES_WAITING);
    assert_int_equal(names_find(names, "dead.example:80")->address_count, 0);
    const struct names_answer *answer = wait_for("dead.example:80", NAMES_FAILING, 0);
    assert_string_equal(answer->problem, "the name servers are silent");
    assert_int_equal(answer->good_us, 0);
    end();
}

TEST(a_time_to_live_of_nothing_asks_once_a_second)
{
    begin();
    WORLD_SAY(&world, a("shop.example", TEN + 1, 1, 0));
    want_one("shop.example:80");
    uint64_t start_ms = now_ms();
    (void)wait_for("shop.example:80", NAMES_KNOWN, 1);
    usleep(2500000);
    uint32_t asked = atomic_load(&world.asked_a);
    assert_in_range(asked, 2, 2 + (now_ms() - start_ms) / 1000);
    end();
}

TEST(lies_are_no_addresses)
{
    static const char *const texts[] = {"other.test:80", "cut.test:80", "loop.test:80"};
    begin();
    WORLD_SAY(&world, says("other.test", RCODE_OK, WAY_OTHER_NAME), says("cut.test", RCODE_OK, WAY_CUT),
              says("loop.test", RCODE_OK, WAY_CNAME_LOOP));
    want(texts, 3);
    names_await(names, 10000);
    (void)names_take(names);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const struct names_answer *answer = names_find(names, texts[i]);
        assert_int_equal(answer->address_count, 0);
        assert_true(answer->state == NAMES_MISSING || answer->state == NAMES_FAILING);
    }
    end();
}

TEST(a_name_has_so_many_addresses_and_no_more)
{
    begin();
    WORLD_SAY(&world, a("many.test", TEN + 1, 4000, 60));
    want_one("many.test:80");
    const struct names_answer *answer = wait_for("many.test:80", NAMES_KNOWN, NAMES_ADDRESSES_MAX);
    assert_int_equal(answer->left_out, 4000 - NAMES_ADDRESSES_MAX);
    expect_address(answer, 0, "10.0.0.1:80");
    expect_address(answer, NAMES_ADDRESSES_MAX - 1, "10.0.0.64:80");
    end();
}

TEST(srv_records_give_ports_and_the_first_priority_that_has_an_address)
{
    static const char text[] = "srv:_http._tcp.shop.example";
    begin();
    WORLD_SAY(&world, srv("_http._tcp.shop.example", 10, "one.test", 8001),
              srv("_http._tcp.shop.example", 10, "two.test", 8002),
              srv("_http._tcp.shop.example", 20, "spare.test", 8003), a("one.test", TEN + 1, 1, 1),
              a("two.test", TEN + 2, 1, 1), a("spare.test", TEN + 3, 1, 1));
    want_one(text);
    names_await(names, 5000);
    const struct names_answer *answer = wait_for(text, NAMES_KNOWN, 2);
    expect_address(answer, 0, "10.0.0.1:8001");
    expect_address(answer, 1, "10.0.0.2:8002");
    WORLD_SAY(&world, srv("_http._tcp.shop.example", 10, "gone.test", 8001),
              srv("_http._tcp.shop.example", 20, "spare.test", 8003), a("spare.test", TEN + 3, 1, 1));
    answer = wait_for(text, NAMES_MISSING, 1);
    expect_address(answer, 0, "10.0.0.3:8003");
    end();
}

TEST(what_is_wanted_again_keeps_what_is_known)
{
    static const char *const texts[] = {"shop.example:80", "shop.example:80", "new.example:81", "no name"};
    begin();
    WORLD_SAY(&world, a("shop.example", TEN + 1, 1, 60));
    want_one("shop.example:80");
    (void)wait_for("shop.example:80", NAMES_KNOWN, 1);
    WORLD_SAY(&world, says("shop.example", RCODE_SERVFAIL, WAY_ANSWER), a("new.example", TEN + 7, 1, 60));
    want(texts, 4);
    const struct names_answer *answer = wait_for("new.example:81", NAMES_KNOWN, 1);
    expect_address(answer, 0, "10.0.0.7:81");
    assert_int_equal(names_answers(names)->count, 2);
    answer = names_find(names, "shop.example:80");
    assert_int_equal(answer->state, NAMES_KNOWN);
    assert_int_equal(answer->address_count, 1);
    want_one("new.example:81");
    while (names_answers(names)->count != 1)
        if (!names_take(names))
            usleep(1000);
    assert_null(names_find(names, "shop.example:80"));
    const char *more[NAMES_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        more[i] = "shop.example:80";
    assert_int_equal(names_want(names, more, NAMES_MAX + 1, ""), STATUS_FULL);
    end();
}

TEST(the_hosts_file_counts)
{
    begin();
    want_one("localhost:80");
    names_await(names, 5000);
    assert_true(names_take(names));
    const struct names_answer *answer = names_find(names, "localhost:80");
    assert_int_equal(answer->state, NAMES_KNOWN);
    expect_address(answer, 0, "127.0.0.1:80");
    assert_int_equal(atomic_load(&world.asked_a), 0);
    end();
}

static void write_resolv_conf(const char *path, const char *search)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fprintf(file, "search %s\n", search);
    assert_int_equal(fclose(file), 0);
}

TEST(another_resolv_conf_is_read)
{
    char path[] = "/tmp/sluice-names-XXXXXX";
    int handle = mkstemp(path);
    assert_true(handle >= 0);
    close(handle);
    const struct names_config config = {.resolv_conf = path};
    world_open(&world);
    WORLD_SAY(&world, a("shop.second.test", TEN + 1, 1, 60));
    write_resolv_conf(path, "first.test");
    assert_int_equal(names_create(&config, &names), STATUS_OK);
    want_one("shop:80");
    (void)wait_for("shop:80", NAMES_MISSING, 0);
    write_resolv_conf(path, "second.test");
    (void)wait_for("shop:80", NAMES_KNOWN, 1);
    assert_int_equal(unlink(path), 0);
    end();
}

// NAMES_HOSTS_MAX names that begin so.
static void want_full(struct follower *follower, char first)
{
    struct names_text *wanted = heap_alloc(NAMES_HOSTS_MAX, sizeof *wanted);
    assert_non_null(wanted);
    for (int i = 0; i < NAMES_HOSTS_MAX; i++)
        snprintf(wanted[i].name, sizeof wanted[i].name, "%c%d.example", first, i);
    follow_want(follower, NULL, wanted, NAMES_HOSTS_MAX);
}

// A file that names other hosts than the one before gets the room that those leave.
TEST(names_that_left_make_room_for_others)
{
    struct follower *follower = heap_alloc(1, sizeof *follower);
    assert_non_null(follower);
    want_full(follower, 'a');
    want_full(follower, 'b');
    assert_int_equal(follower->host_count, NAMES_HOSTS_MAX);
    for (const struct host *host = follower->hosts; host != NULL; host = host->next)
        assert_true(host->name[0] == 'b' && host->wanted);
    follow_deinit(follower);
    heap_free(follower);
}
