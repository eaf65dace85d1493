// SPDX-License-Identifier: Apache-2.0
// The hash and the scalings behind the fractional operator.
#include "flags/eval/bucket.h"

#include "base/check.h"
#include "flags/eval/flags_private.h"

static uint32_t rotate(uint32_t x, int by)
{
    return (x << by) | (x >> (32 - by));
}

static uint32_t mix_block(uint32_t state, uint32_t block)
{
    state ^= rotate(block * 0xcc9e2d51U, 15) * 0x1b873593U;
    return rotate(state, 13) * 5 + 0xe6546b64U;
}

static uint32_t block_at(const unsigned char *b)
{
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

void flags_hash_init(struct flags_hash *hash, uint32_t seed)
{
    *hash = (struct flags_hash){.state = seed};
}

static void add_byte(struct flags_hash *hash, unsigned char byte)
{
    uint32_t have = hash->len++ & 3;
    hash->tail |= (uint32_t)byte << (8 * have);
    if (have == 3) {
        hash->state = mix_block(hash->state, hash->tail);
        hash->tail = 0;
    }
}

void flags_hash_add(struct flags_hash *hash, struct slice bytes)
{
    size_t i = 0;
    while (i < bytes.len && (hash->len & 3) != 0)
        add_byte(hash, (unsigned char)bytes.data[i++]);
    for (; bytes.len - i >= 4; i += 4) {
        hash->state = mix_block(hash->state, block_at((const unsigned char *)bytes.data + i));
        hash->len += 4;
    }
    while (i < bytes.len)
        add_byte(hash, (unsigned char)bytes.data[i++]);
}

uint32_t flags_hash_end(const struct flags_hash *hash)
{
    uint32_t h = hash->state;
    if ((hash->len & 3) != 0)
        h ^= rotate(hash->tail * 0xcc9e2d51U, 15) * 0x1b873593U;
    h ^= hash->len;
    h = (h ^ (h >> 16)) * 0x85ebca6bU;
    h = (h ^ (h >> 13)) * 0xc2b2ae35U;
    return h ^ (h >> 16);
}

uint32_t flags_hash_of(struct slice bytes, uint32_t seed)
{
    struct flags_hash hash = {.state = seed, .len = (uint32_t)bytes.len};
    const unsigned char *at = (const unsigned char *)bytes.data;
    size_t left = bytes.len;
    for (; left >= 4; left -= 4, at += 4)
        hash.state = mix_block(hash.state, block_at(at));
    for (size_t i = 0; i < left; i++)
        hash.tail |= (uint32_t)at[i] << (8 * i);
    return flags_hash_end(&hash);
}

uint32_t flags_bucket_scale(uint32_t hash, uint32_t total)
{
    return (uint32_t)(((uint64_t)hash * total) >> 32);
}

double flags_bucket_percent(uint32_t hash)
{
    double magnitude = hash <= INT32_MAX ? (double)hash : 4294967296.0 - (double)hash;
    return magnitude / (double)INT32_MAX * 100.0;
}

uint32_t flags_bucket_of_key(struct slice flag_key, struct slice targeting_key, uint32_t total)
{
    struct flags_hash hash;
    flags_hash_init(&hash, 0);
    flags_cbor_head(&hash, FLAGS_CBOR_ARRAY, 2);
    flags_cbor_string(&hash, flag_key);
    flags_cbor_string(&hash, targeting_key);
    return flags_bucket_scale(flags_hash_end(&hash), total);
}

uint32_t flags_bucket_of_split(struct siphash_key salt, struct slice flag_key, struct slice targeting_key,
                               uint32_t total)
{
    struct siphash_state hash;
    siphash_begin(&hash, salt);
    siphash_add(&hash, flag_key.data, flag_key.len);
    siphash_add(&hash, "", 1); // between the two
    siphash_add(&hash, targeting_key.data, targeting_key.len);
    return flags_bucket_scale((uint32_t)(siphash_end(&hash) >> 32), total);
}
