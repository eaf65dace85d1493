// SPDX-License-Identifier: Apache-2.0
// What the parts of the module share: character classes, the scan for line ends, name lookup, field cutting.
// Two variants exist of what uses SSE2; the tests hold them against each other.
#pragma once

#include "base/check.h"
#include "net/http/http1.h"

#if defined(__SSE2__) && defined(__x86_64__)
#define HTTP_HAVE_SSE2 1
#include <emmintrin.h>
#else
#define HTTP_HAVE_SSE2 0
#endif

// ---- character classes

#define HTTP_CLASS_TOKEN 0x01  // RFC 9110 5.6.2 tchar
#define HTTP_CLASS_TARGET 0x02 // what a path may hold here
#define HTTP_CLASS_QUERY 0x04  // what a query may hold here: browsers send more than RFC 3986 allows
#define HTTP_CLASS_VALUE 0x08  // visible, obs-text, SP, HTAB
#define HTTP_CLASS_HOST 0x10   // reg-name characters but '%'
#define HTTP_CLASS_HEX 0x20
extern const uint8_t http_class[256];

static inline bool http_is(char c, unsigned class_bits)
{
    return (http_class[(unsigned char)c] & class_bits) != 0;
}

// Of a hexadecimal digit.
static inline unsigned http_hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

bool http_all(struct slice text, unsigned class_bits);

static inline uint64_t http_load64(const char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

// ---- names. A name of at most 16 bytes is two little-endian words of its lower-case bytes, padded with
// zero.

#define HTTP_FIELD_SLOTS 128
#define HTTP_FIELD_WORDS_BYTES 16
extern const uint8_t http_field_slots[HTTP_FIELD_SLOTS];
extern const char http_field_padded[HTTP_FIELD_COUNT][HTTP_FIELD_WORDS_BYTES];

static inline unsigned http_field_slot(uint64_t low, uint64_t high)
{
    // The multiplier was searched so that no two known names share a slot; a unit test looks every name up.
    return (unsigned)(((low + (high << 1) + (high >> 5)) * 0xb578afa0673dd93bULL) >> 57);
}

static inline enum http_field_id http_field_id_of_words(uint64_t low, uint64_t high)
{
    unsigned id = http_field_slots[http_field_slot(low, high)];
    if (http_load64(http_field_padded[id]) == low && http_load64(http_field_padded[id] + 8) == high)
        return (enum http_field_id)id;
    if (low == 0x656369756c732d78ULL && (high & 0xff) == '-') // "x-sluice" "-"
        return HTTP_FIELD_X_SLUICE;
    return HTTP_FIELD_OTHER;
}

// What http_name_cut gives for a name that is a guarded one but for '_' in place of '-' ("Content_Length"):
// some origins read both alike, so such a field is never passed on.
#define HTTP_FIELD_ALIAS HTTP_FIELD_COUNT

// Cuts the name off a line that holds no control character but HTAB: *len bytes before the colon, all token
// characters. readable: bytes that may be read from line on, at least line_len. 0 with *why set when there is
// no name.
size_t http_name_cut_portable(const char *line, size_t line_len, enum http_field_id *id,
                              enum http1_reject *why);
#if HTTP_HAVE_SSE2
// Bytes of a name are letters, digits and '-' nearly always: those are judged sixteen at once. Control
// characters, which setting bit 5 would alias to such bytes, cannot be in a scanned line.
static inline __attribute__((always_inline)) size_t http_name_cut_sse2(const char *line, size_t line_len,
                                                                       size_t readable,
                                                                       enum http_field_id *id,
                                                                       enum http1_reject *why)
{
    if (readable < 16)
        return http_name_cut_portable(line, line_len, id, why);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)line);
    unsigned colons = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(':')));
    // A sixteen-byte name has its colon just behind the block.
    if (colons == 0 && line_len > 16 && line[16] == ':')
        colons = 1U << 16;
    if (colons == 0)
        return http_name_cut_portable(line, line_len, id, why);
    unsigned len = (unsigned)__builtin_ctz(colons);
    if (len == 0 || len >= line_len)
        return http_name_cut_portable(line, line_len, id, why);
    __m128i lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(lower);
    uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(lower, lower));
    // Whole words for names of 8 and 16 bytes; a shift by 64 is not defined, hence the two steps.
    if (len <= 8) {
        low &= ~0ULL >> (64 - 8 * len);
        high = 0;
    } else {
        high &= ~0ULL >> (128 - 8 * len);
    }
    *id = http_field_id_of_words(low, high);
    if (LIKELY(*id != HTTP_FIELD_OTHER && *id != HTTP_FIELD_X_SLUICE))
        return len; // a known name is a token
    __m128i letter = _mm_and_si128(_mm_cmpgt_epi8(lower, _mm_set1_epi8('a' - 1)),
                                   _mm_cmplt_epi8(lower, _mm_set1_epi8('z' + 1)));
    __m128i digit = _mm_and_si128(_mm_cmpgt_epi8(lower, _mm_set1_epi8('0' - 1)),
                                  _mm_cmplt_epi8(lower, _mm_set1_epi8('9' + 1)));
    __m128i hyphen = _mm_cmpeq_epi8(lower, _mm_set1_epi8('-'));
    unsigned good = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, digit), hyphen));
    unsigned wanted = (1U << len) - 1;
    if ((good & wanted) != wanted)
        return http_name_cut_portable(line, line_len, id, why);
    return len;
}
#endif

// ---- scan

// Line ends of a head: end[i] is the offset of line i's CR. The empty line that ends the head is not among
// them.
struct http_lines {
    uint32_t count;
    uint32_t start;    // of the first line: 2 after a skipped empty one
    uint32_t head_len; // after STATUS_OK
    uint32_t end[HTTP_FIELDS_MAX + 1];
};

// Looks for the end of a head in data[0..len). STATUS_OK, STATUS_AGAIN, or STATUS_INVALID / STATUS_FULL with
// *why: the first offending byte in order wins. After STATUS_AGAIN count says how many whole lines there are.
enum status http_scan_portable(const char *data, size_t len, bool skip_empty, struct http_lines *lines,
                               enum http1_reject *why);
#if HTTP_HAVE_SSE2
enum status http_scan_sse2(const char *data, size_t len, bool skip_empty, struct http_lines *lines,
                           enum http1_reject *why);
#endif

static inline enum status http_scan(const char *data, size_t len, bool skip_empty, struct http_lines *lines,
                                    enum http1_reject *why)
{
#if HTTP_HAVE_SSE2
    return http_scan_sse2(data, len, skip_empty, lines, why);
#else
    return http_scan_portable(data, len, skip_empty, lines, why);
#endif
}

// ---- heads

// The first pass with the limits on lengths applied.
enum status http_head_scan(const char *data, size_t len, bool skip_empty, const struct http1_limits *limits,
                           struct http_lines *lines, enum http1_reject *why);

// What both kinds of head say about their connection and body.
struct http_head_facts {
    uint64_t repeated; // bit id: more than one field of that id
    bool close;
    bool keep_alive;
    bool upgrade;
};

// The second pass: lines 1.. of a scanned head into fields, hop-by-hop ones marked. HTTP1_REJECT_NONE or why
// not.
enum http1_reject http_fields_cut(const char *data, size_t len, const struct http_lines *lines,
                                  const struct http1_limits *limits, struct http_fields *fields,
                                  struct http_head_facts *facts);

// One field line without its CRLF, free of control characters but HTAB, of at least one byte. readable: bytes
// that may be read from line on.
enum http1_reject http_field_cut(const char *line, size_t line_len, size_t readable,
                                 struct http_field *field);

// Content-Length and Transfer-Encoding into a framing, NONE when neither is there. repeated: bit id, fields
// that were there more than once.
enum http1_reject http_framing_decide(const struct http_fields *fields, uint64_t repeated,
                                      uint8_t version_minor, uint8_t *framing, uint64_t *content_length);

static inline uint64_t http_field_bit(enum http_field_id id)
{
    return 1ULL << id;
}

static inline bool http_fields_have(const struct http_fields *fields, enum http_field_id id)
{
    return (fields->present & http_field_bit(id)) != 0;
}

// Ids that tell of clients and earlier proxies.
#define HTTP_FIELDS_FORWARDING                                                                               \
    (1ULL << HTTP_FIELD_FORWARDED | 1ULL << HTTP_FIELD_X_FORWARDED_FOR |                                     \
     1ULL << HTTP_FIELD_X_FORWARDED_PROTO | 1ULL << HTTP_FIELD_X_FORWARDED_HOST |                            \
     1ULL << HTTP_FIELD_X_FORWARDED_PORT | 1ULL << HTTP_FIELD_X_REAL_IP)

// Ids that Connection may not nominate away, and ids that are hop-by-hop by nature.
#define HTTP_FIELDS_KEPT                                                                                     \
    (1ULL << HTTP_FIELD_HOST | 1ULL << HTTP_FIELD_CONTENT_LENGTH | 1ULL << HTTP_FIELD_EXPECT |               \
     1ULL << HTTP_FIELD_VIA | 1ULL << HTTP_FIELD_FORWARDED | 1ULL << HTTP_FIELD_X_FORWARDED_FOR |            \
     1ULL << HTTP_FIELD_X_FORWARDED_PROTO | 1ULL << HTTP_FIELD_X_FORWARDED_HOST |                            \
     1ULL << HTTP_FIELD_X_FORWARDED_PORT | 1ULL << HTTP_FIELD_X_REAL_IP | 1ULL << HTTP_FIELD_COOKIE |        \
     1ULL << HTTP_FIELD_SET_COOKIE | 1ULL << HTTP_FIELD_AUTHORIZATION | 1ULL << HTTP_FIELD_CONTENT_TYPE |    \
     1ULL << HTTP_FIELD_CONTENT_ENCODING | 1ULL << HTTP_FIELD_CONTENT_RANGE | 1ULL << HTTP_FIELD_RANGE |     \
     1ULL << HTTP_FIELD_CACHE_CONTROL | 1ULL << HTTP_FIELD_ORIGIN | 1ULL << HTTP_FIELD_LOCATION |            \
     1ULL << HTTP_FIELD_X_SLUICE)
#define HTTP_FIELDS_GUARDED                                                                                  \
    (1ULL << HTTP_FIELD_HOST | 1ULL << HTTP_FIELD_CONTENT_LENGTH | 1ULL << HTTP_FIELD_TRANSFER_ENCODING |    \
     1ULL << HTTP_FIELD_CONNECTION | 1ULL << HTTP_FIELD_X_FORWARDED_FOR | 1ULL << HTTP_FIELD_X_REAL_IP |     \
     1ULL << HTTP_FIELD_X_FORWARDED_PROTO | 1ULL << HTTP_FIELD_X_FORWARDED_HOST |                            \
     1ULL << HTTP_FIELD_X_FORWARDED_PORT | 1ULL << HTTP_FIELD_X_SLUICE)
#define HTTP_FIELDS_HOP                                                                                      \
    (1ULL << HTTP_FIELD_CONNECTION | 1ULL << HTTP_FIELD_TRANSFER_ENCODING | 1ULL << HTTP_FIELD_UPGRADE |     \
     1ULL << HTTP_FIELD_TE | 1ULL << HTTP_FIELD_KEEP_ALIVE | 1ULL << HTTP_FIELD_PROXY_CONNECTION |           \
     1ULL << HTTP_FIELD_PROXY_AUTHENTICATE | 1ULL << HTTP_FIELD_PROXY_AUTHORIZATION)
// Ids that have no place in a trailer (RFC 9110 6.5.1).
#define HTTP_FIELDS_NO_TRAILER                                                                               \
    (HTTP_FIELDS_HOP | HTTP_FIELDS_KEPT | 1ULL << HTTP_FIELD_TRAILER | 1ULL << HTTP_FIELD_MAX_FORWARDS |     \
     1ULL << HTTP_FIELD_DATE | 1ULL << HTTP_FIELD_RETRY_AFTER | 1ULL << HTTP_FIELD_IF_NONE_MATCH |           \
     1ULL << HTTP_FIELD_IF_MODIFIED_SINCE)
