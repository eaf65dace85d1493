// SPDX-License-Identifier: Apache-2.0
// Assignment, see assign.h. Invariant: the arm depends on nothing but salt, unit and the two weights.
#include "net/proxy/assign.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/check.h"

uint32_t assign_bucket_of_hash(uint64_t hash)
{
    return (uint32_t)(((unsigned __int128)hash * ROLLOUT_WEIGHT_FULL) >> 64);
}

uint32_t assign_bucket(struct siphash_key salt, struct slice unit)
{
    return assign_bucket_of_hash(siphash(salt, unit.data, unit.len));
}

uint32_t assign_bucket_random(struct rng *rng)
{
    return (uint32_t)rng_below(rng, ROLLOUT_WEIGHT_FULL);
}

enum rollout_arm assign_arm(uint32_t bucket, uint32_t weight, uint32_t weight_control)
{
    if (bucket < weight)
        return ROLLOUT_ARM_CANARY;
    if (bucket >= ROLLOUT_WEIGHT_FULL - weight_control)
        return ROLLOUT_ARM_CONTROL;
    return ROLLOUT_ARM_STABLE;
}

static void put_hex(char *at, uint64_t value)
{
    for (int i = 0; i < 16; i++)
        at[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
}

static bool get_hex(const char *at, uint64_t *value)
{
    uint64_t got = 0;
    for (int i = 0; i < 16; i++) {
        char c = at[i];
        if (c >= '0' && c <= '9')
            got = got << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            got = got << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *value = got;
    return true;
}

struct slice assign_network(struct slice address, char out[2 * ASSIGN_NETWORK_BYTES])
{
    char text[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    if (address.len >= sizeof text || memchr(address.data, ':', address.len) == NULL)
        return address;
    memcpy(text, address.data, address.len);
    text[address.len] = '\0';
    if (inet_pton(AF_INET6, text, bytes) != 1)
        return address;
    for (int i = 0; i < ASSIGN_NETWORK_BYTES; i++)
        for (int half = 0; half < 2; half++)
            out[2 * i + half] = "0123456789abcdef"[bytes[i] >> (4 - 4 * half) & 15];
    return (struct slice){out, 2 * ASSIGN_NETWORK_BYTES};
}

static uint64_t cookie_mac(struct siphash_key key, uint64_t unit, uint64_t epoch)
{
    uint64_t words[2] = {unit, epoch};
    return siphash(key, words, sizeof words);
}

void assign_cookie_write(struct siphash_key key, uint64_t unit, uint64_t epoch, char out[ASSIGN_COOKIE_BYTES])
{
    put_hex(out, unit);
    out[16] = '.';
    put_hex(out + 17, epoch);
    out[33] = '.';
    put_hex(out + 34, cookie_mac(key, unit, epoch));
}

enum status assign_cookie_read(struct siphash_key key, uint64_t epoch, struct slice text, uint64_t *unit)
{
    uint64_t got, its_epoch, mac;
    if (text.len != ASSIGN_COOKIE_BYTES || text.data[16] != '.' || text.data[33] != '.')
        return STATUS_INVALID;
    if (!get_hex(text.data, &got) || !get_hex(text.data + 17, &its_epoch) || !get_hex(text.data + 34, &mac))
        return STATUS_INVALID;
    if (mac != cookie_mac(key, got, its_epoch))
        return STATUS_INVALID;
    if (its_epoch != epoch)
        return STATUS_MISMATCH;
    *unit = got;
    return STATUS_OK;
}
