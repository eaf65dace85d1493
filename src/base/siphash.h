// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4 (Aumasson and Bernstein 2012, section 2): the keyed hash that assigns users to arms, also used
// for every hash table whose keys a peer could choose.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0;
    uint64_t k1;
};

// 64-bit tag of len bytes under key.
uint64_t siphash(struct siphash_key key, const void *data, size_t len);

// The same tag of bytes that come in pieces, however they are cut: begin, add any number, end.
struct siphash_state {
    uint64_t v0, v1, v2, v3;
    uint64_t rest; // the bytes after the last whole word, the first one lowest
    size_t len;
};

void siphash_begin(struct siphash_state *state, struct siphash_key key);
void siphash_add(struct siphash_state *state, const void *data, size_t len);
uint64_t siphash_end(struct siphash_state *state);
