// SPDX-License-Identifier: Apache-2.0
// In the place of the daemon's binary: takes every file, is loaded, and ends when its turn comes.
#include <string.h>

#include "daemon/supervise/supervise.h"

enum { EXIT_SERVES_NOT = 7 };

int main(int argc, char **argv)
{
    static struct supervise_begin begin;
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return 0;
    return supervise_join(&begin) == STATUS_OK ? EXIT_SERVES_NOT : 1;
}
