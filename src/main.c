// SPDX-License-Identifier: Apache-2.0
// The program. Wiring only: everything is a command.
#include <stdio.h>

#include "daemon/cli/cli.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv, stdout, stderr);
}
