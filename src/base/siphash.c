// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4 after the paper's section 2: initialise, compress words, finalise.
#include "base/siphash.h"

#include <string.h>

static inline uint64_t rotl(uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}

static inline void sip_round(struct siphash_state *s)
{
    s->v0 += s->v1;
    s->v1 = rotl(s->v1, 13) ^ s->v0;
    s->v0 = rotl(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotl(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotl(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotl(s->v1, 17) ^ s->v2;
    s->v2 = rotl(s->v2, 32);
}

static inline void sip_word(struct siphash_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    sip_round(s);
    s->v0 ^= word;
}

void siphash_begin(struct siphash_state *s, struct siphash_key key)
{
    *s = (struct siphash_state){
        .v0 = key.k0 ^ 0x736f6d6570736575ULL,
        .v1 = key.k1 ^ 0x646f72616e646f6dULL,
        .v2 = key.k0 ^ 0x6c7967656e657261ULL,
        .v3 = key.k1 ^ 0x7465646279746573ULL,
    };
}

// A byte of a word that is not whole yet.
static void add_byte(struct siphash_state *s, uint8_t byte)
{
    s->rest |= (uint64_t)byte << (8 * (s->len++ % 8));
    if (s->len % 8 != 0)
        return;
    sip_word(s, s->rest);
    s->rest = 0;
}

void siphash_add(struct siphash_state *s, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    size_t i = 0;
    while (i < len && s->len % 8 != 0)
        add_byte(s, bytes[i++]);
    for (; len - i >= 8; i += 8, s->len += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8); // little-endian hosts only, asserted in base_test
        sip_word(s, word);
    }
    while (i < len)
        add_byte(s, bytes[i++]);
}

uint64_t siphash_end(struct siphash_state *s)
{
    sip_word(s, s->rest | (uint64_t)s->len << 56);
    s->v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t siphash(struct siphash_key key, const void *data, size_t len)
{
    struct siphash_state s;
    siphash_begin(&s, key);
    siphash_add(&s, data, len);
    return siphash_end(&s);
}
