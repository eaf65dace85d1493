// SPDX-License-Identifier: Apache-2.0
// A full-screen view on a terminal that is always given back as it was: on return, Ctrl-C and SIGTERM alike.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/slice.h"

struct cli_screen;

// NULL when in or out is no terminal. One screen at a time.
struct cli_screen *cli_screen_open(FILE *out);
// Leaves the screen; what was drawn last is printed below, so that it stays readable.
void cli_screen_close(struct cli_screen *screen);
void cli_screen_show(struct cli_screen *screen, struct slice frame);
// Waits for a key or a change of size; 0: neither within the time. 'q' for Ctrl-C and SIGTERM too.
int cli_screen_wait(struct cli_screen *screen, uint64_t wait_ms);
