// SPDX-License-Identifier: Apache-2.0
// The first pass: line ends, the end of the head, and every control character, in blocks of 64 bytes as bit
// masks. Bit i of a mask is byte i of the block. Both variants differ only in how the masks are made.
#include "net/http/http_private.h"

#define BLOCK_BYTES 64

struct block_masks {
    uint64_t cr;
    uint64_t lf;
    uint64_t bad; // other control characters but HTAB
};

struct scan {
    const char *data;
    bool skip_empty;
    bool pending_cr; // the byte before this block is a CR
    uint32_t line_start;
};

static enum http1_reject reject_of_byte(char c)
{
    if (c == '\r')
        return HTTP1_REJECT_BARE_CR;
    return c == '\n' ? HTTP1_REJECT_BARE_LF : HTTP1_REJECT_CONTROL;
}

// One line ends with the LF at `at`. STATUS_OK: the head is complete; STATUS_AGAIN: go on.
static inline __attribute__((always_inline)) enum status
scan_line(struct scan *scan, uint32_t at, struct http_lines *lines, enum http1_reject *why)
{
    uint32_t end = at - 1;
    bool empty = end == scan->line_start;
    scan->line_start = at + 1;
    if (!empty) {
        if (lines->count > HTTP_FIELDS_MAX) {
            *why = HTTP1_REJECT_FIELDS_MANY;
            return STATUS_FULL;
        }
        lines->end[lines->count++] = end;
        return STATUS_AGAIN;
    }
    if (lines->count > 0) {
        lines->head_len = at + 1;
        return STATUS_OK;
    }
    if (!scan->skip_empty || lines->start > 0) {
        *why = HTTP1_REJECT_LEADING_LINES;
        return STATUS_INVALID;
    }
    lines->start = at + 1;
    return STATUS_AGAIN;
}

// Judges one block that begins at offset base and holds n bytes (n < 64 only for the last).
static inline __attribute__((always_inline)) enum status scan_block(struct scan *scan, uint32_t base,
                                                                    unsigned n, struct block_masks masks,
                                                                    struct http_lines *lines,
                                                                    enum http1_reject *why)
{
    uint64_t before = scan->pending_cr;
    if (before && (masks.lf & 1) == 0) {
        *why = HTTP1_REJECT_BARE_CR;
        return STATUS_INVALID;
    }
    uint64_t last = 1ULL << (n - 1);
    uint64_t wrong = masks.bad | (masks.cr & ~(masks.lf >> 1) & ~last);
    wrong |= masks.lf & ~(masks.cr << 1 | before);
    unsigned first_wrong = wrong != 0 ? (unsigned)__builtin_ctzll(wrong) : BLOCK_BYTES;
    for (uint64_t lf = masks.lf; lf != 0; lf &= lf - 1) {
        unsigned at = (unsigned)__builtin_ctzll(lf);
        if (at >= first_wrong)
            break;
        enum status status = scan_line(scan, base + at, lines, why);
        if (status != STATUS_AGAIN)
            return status;
    }
    if (wrong != 0) {
        *why = reject_of_byte(scan->data[base + first_wrong]);
        return STATUS_INVALID;
    }
    scan->pending_cr = (masks.cr & last) != 0;
    return STATUS_AGAIN;
}

// Each eighth bit set where the byte of word equals c; exact, no carry between bytes.
static inline uint64_t swar_equal(uint64_t word, uint8_t c)
{
    const uint64_t low7 = 0x7f7f7f7f7f7f7f7fULL;
    uint64_t differ = word ^ (0x0101010101010101ULL * c);
    return ~(((differ & low7) + low7) | differ | low7);
}

static inline uint64_t swar_mask(uint64_t eighths)
{
    return ((eighths >> 7) * 0x0102040810204080ULL) >> 56;
}

static inline struct block_masks masks_portable(const char *data)
{
    struct block_masks masks = {0};
    for (unsigned i = 0; i < BLOCK_BYTES; i += 8) {
        uint64_t word = http_load64(data + i);
        uint64_t cr = swar_equal(word, '\r');
        uint64_t lf = swar_equal(word, '\n');
        uint64_t control = swar_equal(word & 0xe0e0e0e0e0e0e0e0ULL, 0) | swar_equal(word, 0x7f);
        masks.cr |= swar_mask(cr) << i;
        masks.lf |= swar_mask(lf) << i;
        masks.bad |= swar_mask(control & ~cr & ~lf & ~swar_equal(word, '\t')) << i;
    }
    return masks;
}

#if HTTP_HAVE_SSE2
static inline struct block_masks masks_sse2(const char *data)
{
    struct block_masks masks = {0};
    for (unsigned i = 0; i < BLOCK_BYTES; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + i));
        __m128i cr = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r'));
        __m128i lf = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'));
        __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        __m128i control = _mm_or_si128(low, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)));
        __m128i bad = _mm_andnot_si128(_mm_or_si128(_mm_or_si128(cr, lf), tab), control);
        masks.cr |= (uint64_t)(unsigned)_mm_movemask_epi8(cr) << i;
        masks.lf |= (uint64_t)(unsigned)_mm_movemask_epi8(lf) << i;
        masks.bad |= (uint64_t)(unsigned)_mm_movemask_epi8(bad) << i;
    }
    return masks;
}
#endif

// The masks of the last n < 64 bytes before data + len. Where there are 64 bytes, the block that ends there
// is read and what was seen before is shifted out; copying is for short heads only.
static inline __attribute__((always_inline)) struct block_masks
masks_of_rest(struct block_masks (*make)(const char *), const char *data, size_t len, unsigned n)
{
    if (len >= BLOCK_BYTES) {
        struct block_masks masks = make(data + len - BLOCK_BYTES);
        unsigned seen = BLOCK_BYTES - n;
        return (struct block_masks){masks.cr >> seen, masks.lf >> seen, masks.bad >> seen};
    }
    char block[BLOCK_BYTES];
    memset(block, ' ', sizeof block);
    memcpy(block, data, n);
    return make(block);
}

// Compiled once for each way of making masks.
static inline __attribute__((always_inline)) enum status scan_with(struct block_masks (*make)(const char *),
                                                                   const char *data, size_t len,
                                                                   bool skip_empty, struct http_lines *lines,
                                                                   enum http1_reject *why)
{
    struct scan scan = {.data = data, .skip_empty = skip_empty};
    lines->count = 0;
    lines->start = 0;
    for (size_t base = 0; base < len; base += BLOCK_BYTES) {
        unsigned n = len - base < BLOCK_BYTES ? (unsigned)(len - base) : BLOCK_BYTES;
        struct block_masks masks = n == BLOCK_BYTES ? make(data + base) : masks_of_rest(make, data, len, n);
        enum status status = scan_block(&scan, (uint32_t)base, n, masks, lines, why);
        if (status != STATUS_AGAIN)
            return status;
    }
    return STATUS_AGAIN;
}

enum status http_scan_portable(const char *data, size_t len, bool skip_empty, struct http_lines *lines,
                               enum http1_reject *why)
{
    return scan_with(masks_portable, data, len, skip_empty, lines, why);
}

#if HTTP_HAVE_SSE2
enum status http_scan_sse2(const char *data, size_t len, bool skip_empty, struct http_lines *lines,
                           enum http1_reject *why)
{
    return scan_with(masks_sse2, data, len, skip_empty, lines, why);
}
#endif
