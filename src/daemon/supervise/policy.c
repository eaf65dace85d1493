// SPDX-License-Identifier: Apache-2.0
#include "daemon/supervise/policy.h"

void policy_started(struct policy *policy, uint64_t now_ms)
{
    policy->ready = false;
    policy->signs = false;
    policy->silent_ms = 0;
    policy->seen_ms = now_ms;
}

void policy_ready(struct policy *policy)
{
    policy->ready = true;
    policy->futile = 0;
    policy->silent_ms = 0;
}

void policy_beat(struct policy *policy)
{
    policy->signs = true;
    policy->silent_ms = 0;
}

bool policy_hangs(struct policy *policy, uint64_t now_ms, uint64_t limit_ms)
{
    uint64_t passed = now_ms - policy->seen_ms;
    policy->seen_ms = now_ms;
    policy->silent_ms += passed < POLICY_WATCHED_MS_MAX ? passed : POLICY_WATCHED_MS_MAX;
    bool loading = !policy->signs && limit_ms < POLICY_FIRST_SIGN_MS;
    return policy->silent_ms > (loading ? POLICY_FIRST_SIGN_MS : limit_ms);
}

uint64_t policy_died(struct policy *policy, uint64_t now_ms)
{
    uint64_t *slot = &policy->deaths_ms[policy->deaths % POLICY_DEATHS_MAX];
    bool many = policy->deaths >= POLICY_DEATHS_MAX && now_ms - *slot < POLICY_WITHIN_MS;
    *slot = now_ms;
    policy->deaths++;
    policy->careful |= many;
    if (policy->ready && !many)
        return 0;
    uint64_t pause = POLICY_PAUSE_FIRST_MS;
    for (uint32_t i = 0; i < policy->futile && pause < POLICY_PAUSE_MAX_MS; i++)
        pause *= 2;
    policy->futile += policy->ready ? 0 : 1;
    return pause < POLICY_PAUSE_MAX_MS ? pause : POLICY_PAUSE_MAX_MS;
}
