// SPDX-License-Identifier: Apache-2.0
// The variants, one file each; targets.c lists them.
#pragma once

#include "daemon/config/config.h"
#include "flags/set/flagset.h"
#include "net/proxy/table.h"
#include "ship/targets/targets.h"

extern const struct engine_target targets_version;
extern const struct engine_target targets_flag;
extern const struct engine_source targets_requests;
extern const struct engine_source targets_events;

// ---- flag.c
// What the rollouts of flags lay over flags now, see runtime_parts.
bool targets_flag_split(void *world, uint32_t *at, struct runtime_split *split);
// Takes what the arms of the rollouts weigh under that set.
void targets_flag_follow(struct targets *targets, const struct flagset_snapshot *snapshot);
// Another set is in force.
void targets_flag_changed(void *world, const struct flagset_snapshot *snapshot);
// Puts the set in force into a table's plan when the file's services evaluate it.
void targets_flag_table(void *world, const struct config *config, struct proxy_table_plan *plan);
