// SPDX-License-Identifier: Apache-2.0
#include "cli/cli_private.h"
int cli_run_demo(const struct cli_call *call)
{
    (void)call;
    return CLI_EXIT_NO;
}
