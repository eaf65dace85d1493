// SPDX-License-Identifier: Apache-2.0
// Files with endpoints: what is good is taken up once it has settled, what is not changes nothing.
#include "net/proxy/proxy_private.h"
#include "ship/routing/routing_private.h"
#include "ship/targets/targets_private.h"
#include "targets_bench.h"

enum { LOOKS = 10 }; // ticks after which a file was looked at twice

static struct bench bench;
static char folder[FOLDER_PATH_BYTES], path[FOLDER_PATH_BYTES + 16], yaml[512];

static void write_list(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int up(void **state)
{
    (void)state;
    bench = (struct bench){.path = ""};
    folder_make(folder);
    snprintf(path, sizeof path, "%s/list", folder);
    snprintf(yaml, sizeof yaml,
             "listen: [127.0.0.1:1]\nservices:\n  shop: {versions: {v1: {endpoints_file: '%s'}}}\n", path);
    write_list("[10.0.0.1:80, {address: 10.0.0.2:80, weight: 0}]");
    assert_int_equal(bench_up(&bench, yaml), STATUS_OK);
    return 0;
}

static int down(void **state)
{
    (void)state;
    bench_down(&bench);
    bench_forget(&bench);
    folder_remove(folder);
    return 0;
}
EACH_TEST(up, down);

static void ticks(int count)
{
    for (int i = 0; i < count; i++)
        routing_tick_began(bench.targets->routing);
}

static uint32_t listed(void)
{
    uint32_t count;
    const struct config *config = routing_config(bench.targets->routing);
    (void)routing_listed(bench.targets->routing, &config->services[0], &config->services[0].versions[0],
                         &count);
    return count;
}

static struct routing_list shown(void)
{
    assert_int_equal(routing_lists_count(bench.targets->routing), 1);
    return routing_list_get(bench.targets->routing, 0);
}

static const struct proxy_version *newest(void)
{
    return &bench.proxy->newest->services[0].versions[0];
}

TEST(a_list_is_in_force_from_the_start)
{
    assert_int_equal(shown().state, ROUTING_LIST_GOOD);
    assert_int_equal(newest()->endpoint_count, 1);
    assert_int_equal(newest()->listed_count, 2);
}

TEST(a_change_is_taken_once_it_has_settled)
{
    ticks(LOOKS);
    write_list("[10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80]");
    ticks(LOOKS / 2);
    assert_int_equal(listed(), 2); // it may still be written
    write_list("[10.0.0.4:80, 10.0.0.5:80, 10.0.0.6:80, 10.0.0.7:80]");
    ticks(LOOKS / 2);
    assert_int_equal(listed(), 2);
    ticks(LOOKS / 2);
    assert_int_equal(listed(), 4);
    assert_true(bench.targets->routing->names_moved || newest()->listed_count == 4);
}

TEST(a_bad_list_changes_nothing)
{
    static const struct {
        const char *text, *problem;
    } CASES[] = {
        {"[10.0.0.1:80, nonsense]", "line 1: 'nonsense' is not an address"},
        {"- 10.0.0.1:80\n- {address: 10.0.0.2:80, wieght: 2}\n", "line 2: unknown word 'wieght'"},
        {"[]", "line 1: 'endpoints' is empty"},
        {"", "line 1: the list is empty"},
        {"[10.0.0.1:80, 10.0.0.1:80]", "stands in this list twice"},
        {"- 127.0.0.1:1\n", "line 1: '127.0.0.1:1' is a listener of this file"},
        {"[", "line "},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        write_list(CASES[i].text);
        ticks(2 * LOOKS);
        assert_int_equal(shown().state, ROUTING_LIST_BAD);
        if (strstr(shown().problem, CASES[i].problem) == NULL)
            fail_msg("\"%s\" is not \"%s\"", shown().problem, CASES[i].problem);
        assert_int_equal(listed(), 2);
    }
    write_list("[10.0.0.9:80]");
    ticks(2 * LOOKS);
    assert_int_equal(shown().state, ROUTING_LIST_GOOD);
    assert_string_equal(shown().problem, "");
    assert_int_equal(listed(), 1);
}

TEST(a_missing_list_leaves_the_last_one_also_over_a_reload)
{
    assert_int_equal(remove(path), 0);
    ticks(2 * LOOKS);
    assert_int_equal(shown().state, ROUTING_LIST_MISSING);
    assert_int_equal(bench_reload(&bench, yaml), STATUS_OK);
    assert_int_equal(shown().state, ROUTING_LIST_MISSING);
    assert_int_equal(listed(), 2);
    assert_int_equal(newest()->listed_count, 2);
}

// A reload that is refused leaves the lists of the file in force.
TEST(a_refused_file_changes_no_list)
{
    char other[sizeof yaml + 64];
    snprintf(other, sizeof other,
             "listen: [127.0.0.1:1]\nservices:\n  shop:\n    versions: {v1: {endpoints_file: '%s.other'}}\n"
             "    tls: {ca: /nowhere/ca.pem}\n",
             path);
    assert_int_not_equal(bench_reload(&bench, other), STATUS_OK);
    assert_string_equal(shown().file, path);
    assert_int_equal(listed(), 2);
    ticks(2 * LOOKS);
    assert_int_equal(listed(), 2);
}

static enum status give(const char *version, const char *list)
{
    struct routing_override change = {.service = "shop", .who = "ann", .list = slice_of(list)};
    snprintf(change.version, sizeof change.version, "%s", version);
    return targets_endpoints_change(bench.targets, &change, &bench.fault);
}

static void restart(void)
{
    char place[FOLDER_PATH_BYTES];
    memcpy(place, bench.path, sizeof place);
    bench_down(&bench);
    bench = (struct bench){.path = ""};
    assert_int_equal(bench_up(&bench, yaml), STATUS_OK);
    assert_string_equal(bench.path, place);
}

// What an operator gives holds over the list and its changes, over a reload and a restart, until it is taken
// back.
TEST(an_override_holds_until_it_is_taken_back)
{
    assert_int_equal(give("v1", "[10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80]"), STATUS_OK);
    assert_int_equal(newest()->endpoint_count, 3);
    write_list("[10.0.0.9:80]");
    ticks(2 * LOOKS);
    assert_int_equal(listed(), 3);
    assert_int_equal(bench_reload(&bench, yaml), STATUS_OK);
    assert_int_equal(listed(), 3);
    restart();
    assert_int_equal(newest()->endpoint_count, 3);
    assert_string_equal(routing_override_find(bench.targets->routing, "shop", "v1")->who, "ann");
    assert_int_equal(give("v1", ""), STATUS_OK);
    assert_int_equal(newest()->endpoint_count, 1);
    restart();
    assert_int_equal(newest()->endpoint_count, 1);
    assert_null(routing_override_find(bench.targets->routing, "shop", "v1"));
}

// As many names as a version may have.
static const char *named(char letter)
{
    static char list[CONFIG_ENDPOINTS_MAX * 16];
    struct text text = text_over(list, sizeof list);
    for (int i = 0; i < CONFIG_ENDPOINTS_MAX; i++)
        text_addf(&text, "%s%c%d.lan:80", i == 0 ? "[" : ", ", letter, i);
    text_add(&text, SLICE("]"));
    assert_false(text.cut);
    return list;
}

// What is replaced takes no room from what replaces it.
TEST(an_override_is_replaced_where_there_is_no_room_for_more)
{
    static const char FOUR[] =
        "listen: [127.0.0.1:1]\nservices:\n  shop:\n    stable: v1\n    versions: {v1: {endpoints: [10.0.0.1:80]}, "
        "v2: {endpoints: [10.0.0.2:80]}, v3: {endpoints: [10.0.0.3:80]}, v4: {endpoints: [10.0.0.4:80]}}\n";
    _Static_assert(CONFIG_ALL_NAMES_MAX == 4 * CONFIG_ENDPOINTS_MAX, "they are full with four");
    assert_int_equal(bench_reload(&bench, FOUR), STATUS_OK);
    assert_int_equal(give("v1", named('a')), STATUS_OK);
    assert_int_equal(give("v2", named('b')), STATUS_OK);
    assert_int_equal(give("v3", named('c')), STATUS_OK);
    assert_int_equal(give("v4", named('d')), STATUS_OK);
    assert_int_equal(give("v1", named('e')), STATUS_OK);
    assert_int_equal(listed(), CONFIG_ENDPOINTS_MAX);
}

TEST(a_bad_override_is_refused_and_changes_nothing)
{
    assert_int_equal(give("v1", "[nonsense]"), STATUS_INVALID);
    assert_non_null(strstr(bench.fault.text, "line 1: 'nonsense' is not an address"));
    assert_int_equal(give("v1", "[127.0.0.1:1]"), STATUS_INVALID);
    assert_int_equal(give("v9", "[10.0.0.1:80]"), STATUS_NOT_FOUND);
    assert_int_equal(give("v1", ""), STATUS_NOT_FOUND);
    assert_int_equal(listed(), 2);
    restart();
    assert_int_equal(listed(), 2);
}

TEST(a_daemon_starts_without_its_list)
{
    bench_down(&bench);
    bench_forget(&bench);
    assert_int_equal(remove(path), 0);
    bench = (struct bench){.path = ""};
    assert_int_equal(bench_up(&bench, yaml), STATUS_OK);
    assert_int_equal(shown().state, ROUTING_LIST_MISSING);
    assert_int_equal(listed(), 0);
    assert_int_equal(bench_reload(&bench, yaml), STATUS_OK);
    assert_int_equal(listed(), 0);
    write_list("[10.0.0.1:80]");
    ticks(2 * LOOKS);
    assert_int_equal(listed(), 1);
}
