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
