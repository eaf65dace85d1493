// SPDX-License-Identifier: Apache-2.0
// The set that the tests of a program share.
#include "flags_fixture.h"

struct flags_fixture fixture;
