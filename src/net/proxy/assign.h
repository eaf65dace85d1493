// SPDX-License-Identifier: Apache-2.0
// Who gets which version: a keyed bucket against weights laid out so that growth is monotone. Pure.
#pragma once

#include "base/rng.h"
#include "base/siphash.h"
#include "base/slice.h"
#include "base/status.h"
#include "ship/rollout/evidence.h"

// The bucket of a unit, uniform in 0..ROLLOUT_WEIGHT_FULL - 1.
uint32_t assign_bucket(struct siphash_key salt, struct slice unit);
uint32_t assign_bucket_of_hash(uint64_t hash);
// The bucket of a request that is its own unit.
uint32_t assign_bucket_random(struct rng *rng);

// The canary holds the buckets [0, weight), the control arm [FULL - weight_control, FULL), the stable version
// what lies between. Raising a weight moves buckets from stable to that arm only, lowering it exactly those
// back. weight + weight_control must not exceed ROLLOUT_WEIGHT_FULL.
enum rollout_arm assign_arm(uint32_t bucket, uint32_t weight, uint32_t weight_control);

// What of an address one client may hold: of IPv6 the first 64 bits (RFC 6177), in hexadecimal in out; of
// anything else all of it.
enum { ASSIGN_NETWORK_BYTES = 8 };
struct slice assign_network(struct slice address, char out[2 * ASSIGN_NETWORK_BYTES]);

// Our own sticky cookie: "<unit>.<epoch>.<mac>" in fixed-width hexadecimal.
enum { ASSIGN_COOKIE_BYTES = 16 + 1 + 16 + 1 + 16 };
void assign_cookie_write(struct siphash_key key, uint64_t unit, uint64_t epoch,
                         char out[ASSIGN_COOKIE_BYTES]);
// STATUS_INVALID when malformed or not signed by key, STATUS_MISMATCH when of another epoch.
MUST_USE enum status assign_cookie_read(struct siphash_key key, uint64_t epoch, struct slice text,
                                        uint64_t *unit);
