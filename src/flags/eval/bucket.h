// SPDX-License-Identifier: Apache-2.0
// Bucketing: from a key to its place in [0, total). Pure functions of their arguments with the same result on
// every machine, so no key moves while the shares stay the same.
//
// Shares grow without moving anybody back when a rule is laid out like this: a constant total, the growing
// variant first, and right behind it the variant that it takes from. Raising the first weight by d and
// lowering the second by d then moves one boundary: exactly the keys in d/total go from the second variant to
// the first.
#pragma once

#include <stdint.h>

#include "base/siphash.h"
#include "base/slice.h"

enum {
    FLAGS_SHARE_TOTAL = 100000,        // of rules that Sluice adds: shares resolve to 0.001 %
    FLAGS_WEIGHT_TOTAL_MAX = INT32_MAX // of any fractional rule, as flagd says
};

// MurmurHash3_x86_32 (A. Appleby, public domain), fed in pieces.
struct flags_hash {
    uint32_t state;
    uint32_t len;
    uint32_t tail; // up to three bytes not yet mixed, low byte first
};
void flags_hash_init(struct flags_hash *hash, uint32_t seed);
void flags_hash_add(struct flags_hash *hash, struct slice bytes);
uint32_t flags_hash_end(const struct flags_hash *hash);
uint32_t flags_hash_of(struct slice bytes, uint32_t seed);

// Generations 2 and 3: the hash scaled to [0, total); total is at most FLAGS_WEIGHT_TOTAL_MAX.
uint32_t flags_bucket_scale(uint32_t hash, uint32_t total);
// Generation 1: percent in [0, 100], |hash as signed| over INT32_MAX.
double flags_bucket_percent(uint32_t hash);
// The place of a targeting key in a flag's own shorthand rule under generation 3: the hash of the canonical
// CBOR array [flag key, targeting key], scaled.
uint32_t flags_bucket_of_key(struct slice flag_key, struct slice targeting_key, uint32_t total);
// The place of a targeting key in the split of a rollout over that flag. It depends neither on what a
// fractional rule of the flag gave nor on who was drawn in another run, and nobody without the salt can
// reckon it.
uint32_t flags_bucket_of_split(struct siphash_key salt, struct slice flag_key, struct slice targeting_key,
                               uint32_t total);
