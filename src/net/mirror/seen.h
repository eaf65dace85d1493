// SPDX-License-Identifier: Apache-2.0
// One request that was sent a second time, with all its answers, as the mirror hands it on for comparing.
// What it holds is one block of copies: nothing of it belongs to a connection or a table any more.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "net/http/field.h"

// How the asking of one answer ended.
enum mirror_end {
    MIRROR_ANSWERED, // a head came
    MIRROR_CONNECT,
    MIRROR_TLS,
    MIRROR_TIMEOUT,
    MIRROR_RESET,
    MIRROR_BROKEN,
    MIRROR_ENDS
};

// What is known of an answer's body. In the order of enum diff_cut.
enum mirror_cut { MIRROR_WHOLE, MIRROR_CUT_LIMIT, MIRROR_CUT_BROKEN, MIRROR_CUT_TIME };

struct mirror_answer {
    enum mirror_end end;
    enum mirror_cut cut;
    uint16_t status;
    uint32_t field_count;
    const struct http_field *fields; // hop-by-hop ones are marked
    struct slice body;               // what was kept of it, transfer coding removed, content coding still on
    uint64_t body_bytes;             // that came, kept or not
    uint64_t digest;                 // SipHash, keyed once per process, of all bytes that came
    uint64_t wait_us;                // from the request's last byte to the answer's first
};

struct mirror_seen { // one owner at a time
    uint64_t run;    // of the plan: who asked for the mirroring
    int64_t time_ms; // when the request came, since 1970
    struct slice method, target, authority;
    uint32_t field_count;
    const struct http_field *fields; // of the request, as the candidate got them
    struct slice body;
    bool client_gone; // before the primary's answer was whole, which then says nothing of any version
    bool has_secondary;
    struct mirror_answer primary, candidate, secondary;
};

void mirror_seen_free(struct mirror_seen *seen); // from any thread; NULL is allowed
