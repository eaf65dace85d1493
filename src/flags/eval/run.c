// SPDX-License-Identifier: Apache-2.0
// The bounds of one evaluation: steps, scratch, and the fault that ends it.
#include "flags/eval/flags_private.h"

struct flags_value flags_run_fail(struct flags_run *run, const char *why)
{
    if (run->fault == NULL)
        run->fault = why;
    return flags_value_null();
}

bool flags_run_exhausted(struct flags_run *run)
{
    flags_run_fail(run, "the rule took too many steps");
    return false;
}

void *flags_run_alloc(struct flags_run *run, size_t size)
{
    char *base = run->scratch.data;
    size_t pad = (8 - (uintptr_t)(base + run->scratch_used) % 8) % 8;
    size_t left = run->scratch.cap - run->scratch_used;
    if (base == NULL || pad > left || size > left - pad) {
        flags_run_fail(run, "the evaluation needs more scratch than it was given");
        return NULL;
    }
    run->scratch_used += pad + size;
    return base + (run->scratch_used - size);
}

struct flags_value flags_run_targeting_key(const struct flags_run *run)
{
    if (run->context->has_targeting_key)
        return flags_value_string(run->context->targeting_key);
    const struct flags_json *member = flags_json_member(run->context->tree, SLICE("targetingKey"));
    if (member == NULL || member->kind != FLAGS_JSON_STRING)
        return flags_value_null();
    return flags_value_string(member->text);
}
