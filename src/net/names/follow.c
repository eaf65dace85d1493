// SPDX-License-Identifier: Apache-2.0
// What is known of each host, and when it is asked for again. An answer replaces what was known of its kind;
// a failure, or the word that there is nothing, never leaves a name without the addresses that it had.
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/names/names_private.h"

uint64_t names_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// ---- lists ----

static int address_compare(const struct io_addr *a, const struct io_addr *b)
{
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return memcmp(a->bytes, b->bytes, a->len);
}

static int target_compare(const struct target *a, const struct target *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (int)a->port - (int)b->port;
}

void address_insert(struct address_list *list, const struct io_addr *addr)
{
    uint32_t at = 0;
    while (at < list->count && address_compare(&list->items[at], addr) < 0)
        at++;
    if (at < list->count && address_compare(&list->items[at], addr) == 0)
        return;
    list->left_out += list->count == NAMES_ADDRESSES_MAX;
    if (at == NAMES_ADDRESSES_MAX)
        return;
    list->count -= list->count == NAMES_ADDRESSES_MAX;
    memmove(&list->items[at + 1], &list->items[at], (list->count - at) * sizeof *addr);
    list->items[at] = *addr;
    list->count++;
}

void target_insert(struct target_list *list, const struct target *target)
{
    uint32_t at = 0;
    while (at < list->count && target_compare(&list->items[at], target) < 0)
        at++;
    if (at < list->count && target_compare(&list->items[at], target) == 0)
        return;
    list->left_out += list->count == NAMES_ADDRESSES_MAX;
    if (at == NAMES_ADDRESSES_MAX)
        return;
    list->count -= list->count == NAMES_ADDRESSES_MAX;
    memmove(&list->items[at + 1], &list->items[at], (list->count - at) * sizeof *target);
    list->items[at] = *target;
    list->count++;
}

// ---- hosts ----

static struct host *host_find(const struct follower *follower, const char *name, bool srv)
{
    struct host *host = follower->hosts;
    while (host != NULL && (host->srv != srv || strcmp(host->name, name) != 0))
        host = host->next;
    return host;
}

// Due at once. NULL: no room, or no memory.
static struct host *host_add(struct follower *follower, const char *name, bool srv)
{
    struct host *host = follower->host_count < NAMES_HOSTS_MAX ? heap_alloc(1, sizeof *host) : NULL;
    if (host == NULL)
        return NULL;
    if (srv && (host->targets = heap_alloc(1, sizeof *host->targets)) == NULL) {
        heap_free(host);
        return NULL;
    }
    memcpy(host->name, name, strlen(name) + 1);
    host->srv = srv;
    host->follower = follower;
    for (int i = 0; i < QUESTIONS; i++)
        host->queries[i] = (struct query){.host = host, .question = (enum question)i};
    host->next = follower->hosts;
    follower->hosts = host;
    follower->host_count++;
    return host;
}

static void host_free(struct host *host)
{
    heap_free(host->targets);
    heap_free(host);
}

static void want(struct follower *follower, const char *name, bool srv, bool add)
{
    struct host *host = host_find(follower, name, srv);
    if (host == NULL && add)
        host = host_add(follower, name, srv);
    if (host != NULL)
        host->wanted = true;
}

// The hosts of the wanted names, and those that their SRV records name.
static void want_all(struct follower *follower, bool add)
{
    for (uint32_t i = 0; i < follower->wanted_count; i++)
        want(follower, follower->wanted[i].name, follower->wanted[i].srv, add);
    for (const struct host *host = follower->hosts; host != NULL; host = host->next)
        for (uint32_t i = 0; host->srv && host->wanted && i < host->targets->count; i++)
            want(follower, host->targets->items[i].name, false, add);
}

// What nobody needs any more leaves first: its room may be what the new ones need.
static void keep_wanted(struct follower *follower)
{
    for (struct host *host = follower->hosts; host != NULL; host = host->next)
        host->wanted = false;
    want_all(follower, false);
    for (struct host **place = &follower->hosts; *place != NULL;) {
        struct host *host = *place;
        if (host->wanted || host->asked > 0) {
            place = &host->next;
            continue;
        }
        *place = host->next;
        follower->host_count--;
        host_free(host);
    }
    want_all(follower, true);
}

void follow_want(struct follower *follower, char (*texts)[NAMES_TEXT_BYTES], struct names_text *wanted,
                 uint32_t count)
{
    heap_free(follower->texts);
    heap_free(follower->wanted);
    follower->texts = texts;
    follower->wanted = wanted;
    follower->wanted_count = count;
    follower->changed = true;
    keep_wanted(follower);
}

void follow_deinit(struct follower *follower)
{
    ask_close(&follower->asker);
    while (follower->hosts != NULL) {
        struct host *host = follower->hosts;
        follower->hosts = host->next;
        host_free(host);
    }
    heap_free(follower->texts);
    heap_free(follower->wanted);
}

// ---- the end of a round ----

static void state_set(struct host *host, enum names_state state, const char *problem)
{
    if (host->state != state || host->problem != problem)
        host->follower->changed = true;
    host->state = state;
    host->problem = problem;
}

static uint64_t clamp_ttl_us(uint32_t ttl_s)
{
    uint64_t ttl_ms = (uint64_t)ttl_s * 1000;
    if (ttl_ms < NAMES_TTL_MS_MIN)
        ttl_ms = NAMES_TTL_MS_MIN;
    return (ttl_ms < NAMES_TTL_MS_MAX ? ttl_ms : NAMES_TTL_MS_MAX) * 1000;
}

// Within a quarter of the time, so that names that failed together do not come back together.
static uint64_t retry_us(struct host *host)
{
    uint64_t ms = (uint64_t)NAMES_RETRY_MS_MIN << (host->failures < 8 ? host->failures : 8);
    host->failures++;
    ms = ms < NAMES_RETRY_MS_MAX ? ms : NAMES_RETRY_MS_MAX;
    return ms * 750 + rng_below(&host->follower->rng, ms * 500 + 1);
}

static void count_lookup(struct host *host, enum names_lookup result)
{
    atomic_fetch_add_explicit(&host->follower->lookups[result], 1, memory_order_relaxed);
}

// A kind of address that the name never had does not count as failing: many name servers fail for AAAA alone.
static bool matters(const struct host *host, const struct query *query)
{
    bool found = host->queries[QUESTION_IPV4].reply == REPLY_FOUND ||
                 host->queries[QUESTION_IPV6].reply == REPLY_FOUND;
    return host->srv || !found || host->addresses[query->question].count > 0;
}

static void forget_addresses(struct host *host, enum question question)
{
    host->follower->changed |= host->addresses[question].count > 0;
    host->addresses[question] = (struct address_list){.count = 0};
}

static void round_over(struct host *host)
{
    const struct query *found = NULL, *none = NULL, *failed = NULL;
    uint64_t now_us = names_now_us();
    for (int i = 0; i < QUESTIONS; i++) {
        const struct query *query = &host->queries[i];
        found = query->reply == REPLY_FOUND ? query : found;
        none = query->reply == REPLY_NONE ? query : none;
        failed = query->reply == REPLY_FAILED && matters(host, query) ? query : failed;
    }
    if (found != NULL) {
        host->good_us = now_us;
        for (int i = 0; i < QUESTION_SRV; i++)
            if (host->queries[i].reply == REPLY_NONE)
                forget_addresses(host, (enum question)i);
    }
    if (failed != NULL) {
        state_set(host, NAMES_FAILING, failed->why);
        count_lookup(host, NAMES_LOOKUP_FAILED);
    } else if (found != NULL) {
        state_set(host, NAMES_KNOWN, NULL);
        count_lookup(host, NAMES_LOOKUP_KNOWN);
        host->failures = 0;
    } else if (none != NULL) {
        state_set(host, NAMES_MISSING, none->why);
        count_lookup(host, NAMES_LOOKUP_MISSING);
    }
    host->due_us = now_us + (host->state == NAMES_KNOWN ? clamp_ttl_us(host->ttl_s) : retry_us(host));
}

static void query_over(struct query *query, enum reply reply, const char *why)
{
    struct host *host = query->host;
    query->reply = reply;
    query->why = why;
    host->follower->asked--;
    if (--host->asked == 0)
        round_over(host);
}

void follow_addresses(struct query *query, const struct address_list *found, uint32_t ttl_s)
{
    struct host *host = query->host;
    struct address_list *known = &host->addresses[query->question];
    bool same = known->count == found->count && known->left_out == found->left_out;
    for (uint32_t i = 0; i < found->count && same; i++)
        same = address_compare(&known->items[i], &found->items[i]) == 0;
    host->follower->changed |= !same;
    *known = *found;
    host->ttl_s = ttl_s < host->ttl_s ? ttl_s : host->ttl_s;
    if (host->state == NAMES_WAITING)
        state_set(host, NAMES_KNOWN, NULL);
    query_over(query, REPLY_FOUND, NULL);
}

void follow_targets(struct query *query, const struct target_list *found, uint32_t ttl_s)
{
    struct host *host = query->host;
    bool same = host->targets->count == found->count && host->targets->left_out == found->left_out;
    for (uint32_t i = 0; i < found->count && same; i++)
        same = target_compare(&host->targets->items[i], &found->items[i]) == 0;
    host->follower->changed |= !same;
    *host->targets = *found;
    host->ttl_s = ttl_s;
    query_over(query, REPLY_FOUND, NULL);
    if (!same)
        keep_wanted(host->follower);
}

void follow_none(struct query *query, const char *why)
{
    query_over(query, REPLY_NONE, why);
}

void follow_failed(struct query *query, const char *why)
{
    query_over(query, REPLY_FAILED, why);
}

void follow_cancelled(struct query *query)
{
    struct host *host = query->host;
    query->reply = REPLY_NOT_ASKED;
    host->follower->asked--;
    host->asked--;
    host->due_us = 0;
}

// ---- asking ----

// localhost is 127.0.0.1: c-ares 1.18 loses memory with every question for its IPv6 address.
static bool asks_ipv6(const struct follower *follower, const struct host *host)
{
    return !host->srv && follower->asker.ipv6 && strcasecmp(host->name, "localhost") != 0;
}

static void host_ask(struct follower *follower, struct host *host)
{
    bool asks[QUESTIONS] = {[QUESTION_IPV4] = !host->srv,
                            [QUESTION_IPV6] = asks_ipv6(follower, host),
                            [QUESTION_SRV] = host->srv};
    host->ttl_s = UINT32_MAX;
    // All are counted before the first is asked: its answer may come within the call.
    for (int i = 0; i < QUESTIONS; i++) {
        host->queries[i].reply = asks[i] ? REPLY_AWAITED : REPLY_NOT_ASKED;
        host->asked += asks[i];
        follower->asked += asks[i];
    }
    for (int i = 0; i < QUESTIONS; i++)
        if (asks[i])
            ask(&follower->asker, &host->queries[i]);
}

static bool host_due(const struct host *host, uint64_t now_us)
{
    return host->wanted && host->asked == 0 && host->due_us <= now_us;
}

// The one that waits for the longest time; NULL: none is due.
static struct host *next_due(const struct follower *follower, uint64_t now_us)
{
    struct host *next = NULL;
    for (struct host *host = follower->hosts; host != NULL; host = host->next)
        if (host_due(host, now_us) && (next == NULL || host->due_us < next->due_us))
            next = host;
    return next;
}

uint64_t follow_ask(struct follower *follower, uint64_t now_us)
{
    struct host *due = next_due(follower, now_us);
    if (due != NULL && !ask_ready(&follower->asker))
        return now_us + (uint64_t)NAMES_RETRY_MS_MIN * 1000;
    for (; due != NULL && follower->asked < NAMES_ASKED_MAX; due = next_due(follower, now_us))
        host_ask(follower, due);
    uint64_t next_us = UINT64_MAX;
    for (const struct host *host = follower->hosts; host != NULL && due == NULL; host = host->next)
        if (host->wanted && host->asked == 0 && host->due_us < next_us)
            next_us = host->due_us;
    return next_us;
}

// ---- telling ----

static uint32_t badness(enum names_state state)
{
    static const uint32_t order[NAMES_STATES] = {
        [NAMES_KNOWN] = 0, [NAMES_WAITING] = 1, [NAMES_MISSING] = 2, [NAMES_FAILING] = 3};
    return order[state];
}

static void answer_worsen(struct names_answer *answer, const struct host *host)
{
    if (badness(host->state) < badness(answer->state))
        return;
    answer->state = host->state;
    answer->problem = host->problem;
    answer->good_us = host->good_us;
}

static void add_addresses(struct address_list *list, const struct host *host, uint16_t port)
{
    for (int kind = 0; kind < 2; kind++) {
        list->left_out += host->addresses[kind].left_out;
        for (uint32_t i = 0; i < host->addresses[kind].count; i++) {
            struct io_addr addr = host->addresses[kind].items[i];
            io_addr_set_port(&addr, port);
            address_insert(list, &addr);
        }
    }
}

// Of the targets those of the lowest priority number that has an address; weights are left aside.
static void tell_srv(const struct follower *follower, const struct host *host, struct address_list *list,
                     struct names_answer *answer)
{
    const struct target_list *targets = host->targets;
    list->left_out += targets->left_out;
    for (uint32_t i = 0; i < targets->count; i++) {
        const struct target *target = &targets->items[i];
        const struct host *at = host_find(follower, target->name, false);
        if (i > 0 && target->priority != targets->items[i - 1].priority && list->count > 0)
            return;
        if (at == NULL) {
            list->left_out++;
            continue;
        }
        answer_worsen(answer, at);
        add_addresses(list, at, target->port);
    }
}

static void tell(const struct follower *follower, const struct names_text *wanted, struct address_list *list,
                 struct names_answer *answer)
{
    const struct host *host = host_find(follower, wanted->name, wanted->srv);
    *list = (struct address_list){.count = 0};
    *answer = (struct names_answer){.state = NAMES_FAILING, .problem = "no room or memory to look it up"};
    if (host == NULL)
        return;
    *answer = (struct names_answer){.state = host->state, .problem = host->problem, .good_us = host->good_us};
    if (wanted->srv)
        tell_srv(follower, host, list, answer);
    else
        add_addresses(list, host, wanted->port);
    answer->address_count = list->count;
    answer->left_out = list->left_out;
}

bool follow_settled(const struct follower *follower)
{
    for (const struct host *host = follower->hosts; host != NULL; host = host->next)
        if (host->wanted && host->state == NAMES_WAITING)
            return false;
    return true;
}

static size_t told_bytes(const struct follower *follower, struct address_list *list)
{
    size_t bytes = sizeof(struct names_answers);
    for (uint32_t i = 0; i < follower->wanted_count; i++) {
        struct names_answer answer;
        tell(follower, &follower->wanted[i], list, &answer);
        bytes += sizeof answer + NAMES_TEXT_BYTES + list->count * sizeof *list->items;
    }
    return bytes;
}

struct names_answers *follow_tell(const struct follower *follower)
{
    struct address_list list;
    struct names_answers *told = heap_alloc(1, told_bytes(follower, &list));
    if (told == NULL)
        return NULL;
    told->count = follower->wanted_count;
    told->items = (struct names_answer *)(told + 1);
    struct io_addr *addresses = (struct io_addr *)(told->items + told->count);
    for (uint32_t i = 0; i < told->count; i++) {
        tell(follower, &follower->wanted[i], &list, &told->items[i]);
        memcpy(addresses, list.items, list.count * sizeof *addresses);
        told->items[i].addresses = addresses;
        addresses += list.count;
    }
    char *text = (char *)addresses;
    for (uint32_t i = 0; i < told->count; i++, text += NAMES_TEXT_BYTES) {
        memcpy(text, follower->texts[i], NAMES_TEXT_BYTES);
        told->items[i].text = text;
    }
    return told;
}
