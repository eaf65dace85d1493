// SPDX-License-Identifier: Apache-2.0
// names.c has the owner's side and the thread; follow.c what is known of each host and when it is asked for
// again; ask.c asks, by c-ares. All but names.c runs on the thread alone.
#pragma once

#define CARES_NO_DEPRECATED // newer versions mark what older ones have instead
#include <ares.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/rng.h"
#include "net/names/names.h"

enum {
    ASK_SOCKETS_MAX = 64,
    ASK_TIMEOUT_MS = 1000, // the first try; c-ares doubles it
    ASK_TRIES = 2,         // of each server
};

// ---- follow.c ----

enum question { QUESTION_IPV4, QUESTION_IPV6, QUESTION_SRV, QUESTIONS };
enum reply { REPLY_NOT_ASKED, REPLY_AWAITED, REPLY_FOUND, REPLY_NONE, REPLY_FAILED };

struct target {
    char name[NAMES_NAME_BYTES];
    uint16_t priority;
    uint16_t port;
};

// Addresses or targets as they come in, sorted; those beyond the room are counted.
struct address_list {
    struct io_addr items[NAMES_ADDRESSES_MAX];
    uint32_t count;
    uint32_t left_out;
};
struct target_list {
    struct target items[NAMES_ADDRESSES_MAX];
    uint32_t count;
    uint32_t left_out;
};

struct host;

struct query {
    struct host *host;
    enum question question;
    enum reply reply;
    const char *why; // constant text: NONE, FAILED
};

// A name that is looked up: for addresses, or for SRV records.
struct host {
    struct host *next;
    struct follower *follower;
    char name[NAMES_NAME_BYTES];
    bool srv;
    bool wanted;
    enum names_state state;
    const char *problem;
    uint32_t asked; // questions under way
    uint32_t failures;
    uint32_t ttl_s; // the least of this round's answers
    uint64_t due_us;
    uint64_t good_us;
    struct query queries[QUESTIONS];
    struct address_list addresses[2]; // by IPV4, IPV6
    struct target_list *targets;      // srv
};

struct asker {
    ares_channel channel;
    bool open;
    bool ipv6; // this machine has an address of it
    char servers[NAMES_SERVERS_BYTES];
    const char *resolv_conf;
    struct stat stamp; // of resolv.conf, as it was read
    struct pollfd sockets[ASK_SOCKETS_MAX];
    uint32_t socket_count;
};

struct follower {
    struct asker asker;
    struct host *hosts;
    uint32_t host_count;
    uint32_t asked;
    struct names_text *wanted;
    char (*texts)[NAMES_TEXT_BYTES]; // of wanted, as they were given
    uint32_t wanted_count;
    bool changed; // something is to be told
    struct rng rng;
    _Atomic uint64_t lookups[NAMES_LOOKUPS];
};

// Follows these from now on; texts and wanted are taken.
void follow_want(struct follower *follower, char (*texts)[NAMES_TEXT_BYTES], struct names_text *wanted,
                 uint32_t count);
// Asks what is due; the moment of the next one, UINT64_MAX: none.
uint64_t follow_ask(struct follower *follower, uint64_t now_us);
// Every host had an answer or a failure.
bool follow_settled(const struct follower *follower);
// What is known, in one block; NULL without memory.
MUST_USE struct names_answers *follow_tell(const struct follower *follower);
void follow_deinit(struct follower *follower);
uint64_t names_now_us(void);

// ---- what ask.c tells; the lists are borrowed for the call ----
void follow_addresses(struct query *query, const struct address_list *found, uint32_t ttl_s);
void follow_targets(struct query *query, const struct target_list *found, uint32_t ttl_s);
void follow_none(struct query *query, const char *why);
void follow_failed(struct query *query, const char *why);
// The question was taken back by ourselves: it is asked again.
void follow_cancelled(struct query *query);
void address_insert(struct address_list *list, const struct io_addr *addr);
void target_insert(struct target_list *list, const struct target *target);

// ---- ask.c ----
// Ready to ask: opens what is not open, anew when resolv.conf has changed. False: not now.
bool ask_ready(struct asker *asker);
void ask_close(struct asker *asker);
void ask(struct asker *asker, struct query *query);
// Milliseconds until c-ares wants to be called, at most `most`.
int ask_wait_ms(struct asker *asker, int most);
void ask_process(struct asker *asker, const struct pollfd *seen, uint32_t count);
