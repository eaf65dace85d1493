// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4 after the paper's section 2: initialise, compress words, finalise.
#include "base/siphash.h"

#include <string.h>

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}

static inline void sip_round(struct sip_state *s)
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

static inline void sip_word(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    sip_round(s);
    s->v0 ^= word;
}

uint64_t siphash(struct siphash_key key, const void *data, size_t len)
{
    struct sip_state s = {
        .v0 = key.k0 ^ 0x736f6d6570736575ULL,
        .v1 = key.k1 ^ 0x646f72616e646f6dULL,
        .v2 = key.k0 ^ 0x6c7967656e657261ULL,
        .v3 = key.k1 ^ 0x7465646279746573ULL,
    };
    const uint8_t *bytes = data;
    size_t whole = len / 8;
    for (size_t i = 0; i < whole; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, 8); // little-endian hosts only, asserted in base_test
        sip_word(&s, word);
    }
    uint64_t last = (uint64_t)len << 56;
    for (size_t i = 8 * whole; i < len; i++)
        last |= (uint64_t)bytes[i] << (8 * (i % 8));
    sip_word(&s, last);
    s.v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
