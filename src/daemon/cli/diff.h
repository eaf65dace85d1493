// SPDX-License-Identifier: Apache-2.0
// Between the commands that tell how the answers of two versions differ.
#pragma once

#include "daemon/cli/client.h"

// `sluice diff NAME`.
int diff_show(const struct cli_call *call);
// A report as shadow_report_write makes it, in words or as it is. Returns the exit code: CLI_EXIT_NO when a
// path differs, CLI_EXIT_UNREADABLE when nothing was compared.
int diff_tell_report(const struct cli_call *call, const json_t *report);
