// SPDX-License-Identifier: Apache-2.0
// The fractional operator in its three generations: which variant a bucketing value falls to. Without a
// bucketing value, or when all weights are zero, the operator yields null and the note says so.
#include <math.h>

#include "flags/eval/flags_private.h"

static struct flags_value refuse(struct flags_run *run, const char *note)
{
    run->note = note;
    return flags_value_null();
}

// Generations 1 and 2 hash the flag key followed by the targeting key; generation 3 hashes the CBOR array of
// both, so that no two pairs give the same bytes.
static bool hash_key(struct flags_run *run, struct flags_hash *hash)
{
    struct flags_value key = flags_run_targeting_key(run);
    if (key.kind != FLAGS_VALUE_STRING) {
        (void)refuse(run, "no targeting key to bucket by");
        return false;
    }
    if (run->generation < FLAGS_GENERATION_3) {
        flags_hash_add(hash, run->flag_key);
        flags_hash_add(hash, flags_value_slice(&key));
        return true;
    }
    flags_cbor_head(hash, FLAGS_CBOR_ARRAY, 2);
    flags_cbor_string(hash, run->flag_key);
    flags_cbor_string(hash, flags_value_slice(&key));
    return true;
}

static bool hash_value(struct flags_run *run, const struct flags_value *value, struct flags_hash *hash)
{
    if (value->kind == FLAGS_VALUE_NULL) {
        (void)refuse(run, "the bucketing value is null");
        return false;
    }
    if (run->generation == FLAGS_GENERATION_3) {
        flags_cbor_value(run, hash, value);
        return run->fault == NULL;
    }
    if (value->kind != FLAGS_VALUE_STRING) {
        (void)refuse(run, "the bucketing value is no string");
        return false;
    }
    if (!flags_run_charge(run, value->count / 64))
        return false;
    flags_hash_add(hash, flags_value_slice(value));
    return true;
}

// A weight as a whole number; negative ones count as zero. False when it is not a number or too large.
static bool weight_of(struct flags_run *run, const struct flags_code *code, const struct flags_scope *scope,
                      uint32_t *weight)
{
    if (code->op == FLAGS_OP_INTEGER && code->at <= FLAGS_WEIGHT_TOTAL_MAX) {
        *weight = code->at;
        return true;
    }
    struct flags_value value = flags_eval(run, code, scope, false);
    if (value.kind != FLAGS_VALUE_NUMBER || !(value.number <= FLAGS_WEIGHT_TOTAL_MAX))
        return false;
    *weight = value.number > 0 ? (uint32_t)value.number : 0;
    return true;
}

static bool total_of(struct flags_run *run, const struct flags_code *buckets, uint32_t count,
                     const struct flags_scope *scope, uint32_t *total)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t weight;
        if (!weight_of(run, &buckets[2 * i + 1], scope, &weight))
            return false;
        sum += weight;
    }
    if (sum > FLAGS_WEIGHT_TOTAL_MAX)
        return false;
    *total = (uint32_t)sum;
    return true;
}

// The bucket whose range holds the hash. Generation 1 must go on adding up percentages in floating point, so
// that nobody moves.
static uint32_t choose(struct flags_run *run, const struct flags_code *buckets, uint32_t count,
                       const struct flags_scope *scope, uint32_t hash, uint32_t total)
{
    double percent = flags_bucket_percent(hash);
    uint32_t place = flags_bucket_scale(hash, total);
    double percent_end = 0;
    uint64_t end = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t weight = 0;
        if (!weight_of(run, &buckets[2 * i + 1], scope, &weight) || weight == 0)
            continue;
        last = i;
        end += weight;
        percent_end += 100.0 * (double)weight / (double)total;
        if (run->generation == FLAGS_GENERATION_1 ? percent < percent_end : place < end)
            break;
    }
    return last;
}

struct flags_value flags_eval_fractional(struct flags_run *run, const struct flags_node *node,
                                         const struct flags_scope *scope, bool decides)
{
    const struct flags_code *arguments = flags_arguments(run, node);
    const struct flags_code *buckets = arguments + 1;
    uint32_t count = (node->count - 1) / 2;
    uint32_t total = *((const uint32_t *)arguments - 1);
    struct flags_hash hash;
    flags_hash_init(&hash, 0);
    if (node->detail == 0) {
        if (!hash_key(run, &hash))
            return flags_value_null();
    } else {
        struct flags_value value = flags_eval(run, &arguments[0], scope, false);
        if (run->fault != NULL || !hash_value(run, &value, &hash))
            return flags_value_null();
    }
    if (total == 0 && !total_of(run, buckets, count, scope, &total))
        return refuse(run, "a weight is no number, or the weights are too large");
    if (total == 0)
        return refuse(run, "all weights are zero");
    uint32_t chosen = choose(run, buckets, count, scope, flags_hash_end(&hash), total);
    if (decides && run->path != NULL)
        text_addf(run->path, ".fractional[%u]", chosen);
    return flags_eval(run, &buckets[2 * chosen], scope, decides);
}
