// SPDX-License-Identifier: Apache-2.0
// The part of `sluice check` that asks where one request goes.
#pragma once

#include "daemon/cli/cli_private.h"
#include "daemon/config/config.h"

// Answers the options --route and --header. The code to exit with: OK when a route matches, NO when none
// does.
int cli_check_route(const struct cli_call *call, const struct config *config);
