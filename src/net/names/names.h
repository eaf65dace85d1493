// SPDX-License-Identifier: Apache-2.0
// Names of endpoints, followed on a thread of their own (c-ares): A, AAAA and SRV records, asked for again
// when their time to live is over. What was known stays until there is something better: a name server that
// is silent, that fails, or that says that there is no such name takes no address away. Nobody waits for an
// answer, unless by names_await. All functions belong to one thread, the owner's.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "net/io/loop.h"

enum {
    NAMES_MAX = 1024,         // wanted at once
    NAMES_HOSTS_MAX = 4096,   // looked up for them, the targets of SRV records included
    NAMES_NAME_BYTES = 256,   // a name of 253 characters, its final dot and the NUL
    NAMES_TEXT_BYTES = 272,   // that, with "srv:" or ":65535"
    NAMES_ADDRESSES_MAX = 64, // of one name; the least are taken, so that they are the same in every answer
    NAMES_SERVERS_BYTES = 512,
    NAMES_TTL_MS_MIN = 1000, // a shorter time to live counts as this
    NAMES_TTL_MS_MAX =
        60000, // a longer one as this: an operator who moves an address must not wait for a day
    NAMES_RETRY_MS_MIN = 1000, // after a failure; doubles, up to
    NAMES_RETRY_MS_MAX = 10000,
    NAMES_ASKED_MAX = 64, // questions under way at once
};

struct names;

// ---- texts ----

// "shop.example:9001" or "srv:_http._tcp.shop.example", whose records have the ports.
struct names_text {
    char name[NAMES_NAME_BYTES];
    uint16_t port;
    bool srv;
};

// STATUS_INVALID when it is neither. *why: what is wrong with the name, as "a label ...", or NULL when the
// text has not the form of one. Source: RFC 1035 2.3.4, RFC 1123 2.1, RFC 2782; underscores within a label
// are allowed, as names of containers have them.
MUST_USE enum status names_parse(const char *text, struct names_text *parsed, const char **why);

// ---- following ----

struct names_config {
    const char *resolv_conf; // NULL: the system's
};

// Starts the thread. NO_MEMORY, NO_FD.
MUST_USE enum status names_create(const struct names_config *config, struct names **names);
void names_destroy(struct names *names); // NULL is allowed

// From now on these are followed, and no others; those that were wanted before keep what is known of them.
// servers: "10.0.0.2:53,[::1]:53", "" for those of resolv.conf; /etc/hosts counts in both cases. Texts that
// names_parse does not take are left out. FULL: more than NAMES_MAX; NO_MEMORY. On failure all stays as it
// was.
MUST_USE enum status names_want(struct names *names, const char *const *texts, uint32_t count,
                                const char *servers);
// Waits until every wanted name has had an answer or a failure, at most so long.
void names_await(struct names *names, uint32_t ms);

// ---- answers ----

enum names_state {
    NAMES_WAITING, // no answer yet, and no failure
    NAMES_KNOWN,
    NAMES_MISSING, // the name servers say that there is no such name, or that it has no address
    NAMES_FAILING, // they are silent, or fail
    NAMES_STATES
};
const char *names_state_name(enum names_state state); // "known", ...

struct names_answer {
    const char *text; // as wanted
    enum names_state state;
    enum names_state before; // by the answers taken before these
    bool moved;              // the addresses are not those of the answers taken before
    const char *problem;     // constant text; NULL while WAITING or KNOWN
    uint64_t good_us;        // MISSING, FAILING: when addresses were last confirmed, monotonic; 0: never
    uint32_t address_count;
    uint32_t left_out; // beyond NAMES_ADDRESSES_MAX, or of an SRV record whose target found no room
    const struct io_addr *addresses; // sorted, each once
};

struct names_answers {
    uint32_t count;
    struct names_answer *items; // sorted by text
};

// Takes what is new. True when there was something; then what names_answers told before is gone.
bool names_take(struct names *names);
const struct names_answers *names_answers(const struct names *names);
// NULL: nothing was told of it yet.
const struct names_answer *names_find(const struct names *names, const char *text);

enum names_lookup { NAMES_LOOKUP_KNOWN, NAMES_LOOKUP_MISSING, NAMES_LOOKUP_FAILED, NAMES_LOOKUPS };
// Lookups that are over, by result, since the thread began. Any thread.
uint64_t names_lookups(const struct names *names, enum names_lookup result);
