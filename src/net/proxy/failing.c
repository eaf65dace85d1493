// SPDX-License-Identifier: Apache-2.0
// Which requests of a run failed: each worker notes its own, whoever asks sums them up. Only while weights
// are shared out, and only of requests that failed, were slow or were answered 3xx or 4xx.
#include <ctype.h>
#include <string.h>

#include "net/proxy/proxy_private.h"
#include "net/proxy/sheet.h"

enum {
    SEGMENTS_SHOWN = 5,
    SEGMENT_MAX = 24,   // a longer one is no words
    ANY_WORD_MAX = 4,   // so few letters hide no secret
    HEX_WORD_MAX = 7,   // "facade" is a word, "deadbeef" need not be one
    CONSONANTS_MAX = 4, // in a row, as in "construct"
    NUMBERED_MAX = 8,   // a name with a digit behind it, as "oauth2": longer ones may be tokens
    SLOW_EDGE = 2,      // of struct rollout_yardstick: p99
};

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

// The letters of one case, after one capital at most, with which the rest begins.
static size_t word_length(struct slice rest)
{
    size_t len = rest.len > 0 && is_upper(rest.data[0]) ? 1 : 0;
    while (len < rest.len && is_lower(rest.data[len]))
        len++;
    return len;
}

// Whether people may have made the word: lower case letters, of which a few in a row can be pronounced.
static bool is_word(struct slice word)
{
    size_t vowels = 0, row = 0, hex = 0;
    for (size_t i = 0; i < word.len; i++) {
        bool vowel = strchr("aeiouyAEIOUY", word.data[i]) != NULL;
        vowels += vowel;
        row = vowel ? 0 : row + 1;
        hex += isxdigit((unsigned char)word.data[i]) != 0;
        if (row > CONSONANTS_MAX)
            return false;
    }
    return word.len <= ANY_WORD_MAX || (vowels * 5 >= word.len && (hex < word.len || hex <= HEX_WORD_MAX));
}

// A name that one digit may follow: lower case letters with a vowel, and not all of hexadecimal.
static bool is_plain_name(struct slice name)
{
    bool vowel = false, beyond_hex = false;
    for (size_t i = 0; i < name.len; i++) {
        if (!is_lower(name.data[i]))
            return false;
        vowel |= strchr("aeiou", name.data[i]) != NULL;
        beyond_hex |= isxdigit((unsigned char)name.data[i]) == 0;
    }
    return vowel && beyond_hex;
}

// The segment without the number that people put behind a name: "v2", "orders-v12", "checkoutV2", "oauth2".
static struct slice without_number(struct slice segment)
{
    size_t len = segment.len;
    while (len > 0 && isdigit((unsigned char)segment.data[len - 1]))
        len--;
    size_t digits = segment.len - len;
    if (digits == 0 || digits > 2 || len == 0)
        return segment;
    char last = segment.data[len - 1], before = len > 1 ? segment.data[len - 2] : '-';
    if ((last == 'v' && strchr("-_.", before) != NULL) || (last == 'V' && is_lower(before)))
        return (struct slice){segment.data, len - 1};
    struct slice name = {segment.data, len};
    bool numbered = digits == 1 && len > 1 && segment.len <= NUMBERED_MAX;
    return numbered && is_plain_name(name) ? name : segment;
}

// Ids, dates, tokens: they would make each request a route of its own, and some of them are secrets. What is
// not made of words ("line-items", "GetItem", "index.html") is one.
static bool is_value(struct slice segment)
{
    if (segment.len > SEGMENT_MAX)
        return true;
    for (struct slice rest = without_number(segment); rest.len > 0;) {
        size_t len = word_length(rest);
        bool behind = rest.data > segment.data && isalpha((unsigned char)rest.data[-1]);
        if ((behind && len > 0 && len < 3) || !is_word((struct slice){rest.data, len}))
            return true;
        if (len == 0 && strchr("-_.", rest.data[0]) == NULL)
            return true;
        len += len == 0;
        rest = (struct slice){rest.data + len, rest.len - len};
    }
    return false;
}

// "/orders/17/items?x=1" is "/orders/{}/items".
static void add_route(struct text *text, struct slice target, bool untold)
{
    if (untold) {
        text_add(text, SLICE("/..."));
        return;
    }
    const char *query = memchr(target.data, '?', target.len);
    struct slice rest = {target.data, query != NULL ? (size_t)(query - target.data) : target.len};
    for (int shown = 0; rest.len > 0; shown++) {
        if (shown == SEGMENTS_SHOWN) {
            text_add(text, SLICE("/..."));
            return;
        }
        if (rest.data[0] == '/')
            rest = (struct slice){rest.data + 1, rest.len - 1};
        const char *end = memchr(rest.data, '/', rest.len);
        struct slice segment = {rest.data, end != NULL ? (size_t)(end - rest.data) : rest.len};
        text_add_char(text, '/');
        text_add(text, is_value(segment) ? SLICE("{}") : segment);
        rest = (struct slice){rest.data + segment.len, rest.len - segment.len};
    }
}

__attribute__((noinline)) static void note(const struct exchange *exchange, enum rollout_failing kind,
                                           const char *how)
{
    struct failing *failing = exchange->worker->failing[exchange->service];
    if (failing == NULL)
        return;
    if (pthread_mutex_trylock(&failing->lock) != 0)
        return; // somebody reads; one less is told, none is decided by
    struct asked asked = asked_of_exchange(exchange);
    char route[ROLLOUT_FAILURE_BYTES];
    struct text text = text_over(route, sizeof route);
    text_add(&text, asked.method);
    text_add_char(&text, ' ');
    add_route(&text, asked.target, exchange->worker->table->paths_untold);
    if (how != NULL)
        text_addf(&text, " %s", how);
    else if (kind != ROLLOUT_FAILING_SLOW)
        text_addf(&text, " %u", exchange->status);
    rollout_failures_note(&failing->seen, kind, exchange->place, text_slice(&text), exchange->client);
    pthread_mutex_unlock(&failing->lock);
}

static bool counts(const struct exchange *exchange)
{
    return exchange->weight + exchange->weight_control > 0 && exchange->span != SHEET_SPAN_NONE &&
           exchange->place < ROLLOUT_ARMS;
}

void failing_error(const struct exchange *exchange, enum attempt_error error)
{
    static const char *const how[] = {
        [ATTEMPT_HEADER - ATTEMPT_5XX] = "(by a header)",
        [ATTEMPT_GRPC - ATTEMPT_5XX] = "(gRPC status)",
        [ATTEMPT_BODY - ATTEMPT_5XX] = "(by its body)",
        [ATTEMPT_CONNECT - ATTEMPT_5XX] = "(no connection)",
        [ATTEMPT_TLS - ATTEMPT_5XX] = "(no TLS)",
        [ATTEMPT_TIMEOUT - ATTEMPT_5XX] = "(time-out)",
        [ATTEMPT_RESET - ATTEMPT_5XX] = "(reset)",
        [ATTEMPT_BROKEN - ATTEMPT_5XX] = "(no HTTP)",
        [ATTEMPT_UNAVAILABLE - ATTEMPT_5XX] = "(no endpoint)",
        [ATTEMPT_EJECTED - ATTEMPT_5XX] = "(endpoint out of use)",
        [ATTEMPT_OPEN - ATTEMPT_5XX] = "(breaker)",
    };
    if (counts(exchange))
        note(exchange, ROLLOUT_FAILING_ERRORS, how[error - ATTEMPT_5XX]);
}

void failing_answered(const struct exchange *exchange, const struct rollout_yardstick *by, uint64_t waited_us)
{
    if (!counts(exchange))
        return;
    if (by->edges.requests > 0 && waited_us > by->worse_us[SLOW_EDGE])
        note(exchange, ROLLOUT_FAILING_SLOW, NULL);
    if (exchange->status >= 300 && exchange->status < 500 && !exchange->faulty)
        note(exchange, ROLLOUT_FAILING_REFUSED, NULL);
}

void failing_forget(struct proxy *proxy, uint16_t service)
{
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct failing *failing = proxy->workers[i]->failing[service];
        if (failing == NULL)
            continue;
        pthread_mutex_lock(&failing->lock);
        memset(&failing->seen, 0, sizeof failing->seen);
        pthread_mutex_unlock(&failing->lock);
    }
}

void proxy_failures(struct proxy *proxy, uint16_t service, struct rollout_failures *out)
{
    CHECK(service < PROXY_SERVICES_MAX);
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct failing *failing = proxy->workers[i]->failing[service];
        if (failing == NULL)
            continue;
        pthread_mutex_lock(&failing->lock);
        rollout_failures_merge(out, &failing->seen);
        pthread_mutex_unlock(&failing->lock);
    }
}
